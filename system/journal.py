"""A journal of results on disk, from which work in many pieces resumes, however it was stopped."""
import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Generic, NamedTuple, TypeVar

Result = TypeVar('Result')  # what JSON can hold


class Journal(Generic[Result]):
    """The results of the pieces of some work, in a folder.

    Each process appends to a file of its own, one line of JSON per piece. A line that was cut off by a kill is
    ignored. A result may be provisional: it is used until a later run replaces it.
    """

    def __init__(self, folder: str | Path) -> None:
        """
        Args:
            folder: it is created if it is missing.
        Raises:
            OSError: it cannot be created.
        """
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def finished(self) -> set[int]:
        """The numbers of the pieces that have a final result."""
        return {piece for piece, line in self._lines().items() if line.final}

    def open(self, rank: int) -> 'JournalWriter[Result]':
        """A writer for the process of a rank. No two processes may write with the same rank at a time.

        Raises:
            OSError: its file cannot be written.
        """
        return JournalWriter(self.folder / f'{rank}.jsonl')

    def read(self, pieces: Sequence[int]) -> Iterator[Result]:
        """The results of pieces, in the order given, one at a time.

        Raises:
            OSError: one is missing.
        """
        lines = self._lines()
        if not lines.keys() >= set(pieces):
            raise _removed(self.folder)
        with contextlib.ExitStack() as stack:
            files = {path: stack.enter_context(open(path, 'rb')) for path in {line.path for line in lines.values()}}
            for piece in pieces:
                file = files[lines[piece].path]
                file.seek(lines[piece].start)
                yield json.loads(file.readline())[2]

    def remove(self) -> None:
        """Remove the folder, unless somebody else has."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _lines(self) -> dict[int, '_Line']:
        """The line of each piece: the newest one, but final ones before provisional ones."""
        lines: dict[int, _Line] = {}
        for path in sorted(self.folder.glob('*.jsonl'), key=lambda path: path.stat().st_mtime):
            with open(path, 'rb') as file:
                while text := file.readline():
                    piece, final = _parse(text)
                    if piece is not None and (final or piece not in lines or not lines[piece].final):
                        lines[piece] = _Line(path, file.tell() - len(text), final)
        return lines


class JournalWriter(Generic[Result]):
    """Appends results to one file of a journal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = open(path, 'ab')
        if self._file.tell():
            self._file.write(b'\n')  # ends a line that was cut off
        self._file.flush()

    def write(self, piece: int, result: Result, final: bool = True) -> None:
        """Append the result of a piece.

        Args:
            piece: its number.
            result: what `read` returns.
            final: whether the piece is finished. A later run does it again otherwise.
        Raises:
            OSError: it cannot be written, or the journal has been removed.
        """
        try:
            self._file.write(json.dumps([piece, final, result], separators=(',', ':')).encode('ascii') + b'\n')
            self._file.flush()
        except OSError as error:  # such as a full disk, which names no file
            error.filename = str(self._path)
            raise
        if not os.fstat(self._file.fileno()).st_nlink:
            raise _removed(self._path.parent)

    def close(self) -> None:
        self._file.close()


class _Line(NamedTuple):
    """Where a result is: the line that starts at a byte of a file; and whether it is final."""
    path: Path
    start: int
    final: bool


def _removed(folder: Path) -> OSError:
    return FileNotFoundError(errno.ENOENT, f'{folder.name} was removed', str(folder))


def _parse(text: bytes) -> tuple[int | None, bool]:
    """The number of a line's piece, and whether its result is final; None if the line is not complete."""
    try:
        piece, final, _ = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None, False
    return piece if isinstance(piece, int) and text.endswith(b'\n') else None, bool(final)
