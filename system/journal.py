"""Work in many pieces that goes on where it stopped, however it was stopped."""
import errno
import json
import os
import shutil
from pathlib import Path


class Journal:
    """What came of each piece of work, in a folder, until all of it is there.

    Every process writes to a file of its own, one line a piece. A line that was cut off by a kill counts for nothing.
    What came of a piece may be provisional: it stands in for what comes of it when the work goes on another time.
    """

    def __init__(self, folder):
        """
        Args:
            folder: str or Path; it is made where it is missing.
        Raises:
            OSError: it cannot be made.
        """
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def pieces(self):
        """The numbers of the pieces that are done for good: set of int."""
        return {piece for piece, (_, _, final) in self._places().items() if final}

    def writer(self, process):
        """A function that keeps what came of a piece.

        It takes the number of the piece, what came of it, as JSON can hold it, and whether that is final.

        Args:
            process: int, which of the processes that work at the same time.
        Raises, when it is called:
            OSError: it cannot be written, or has been removed.
        """
        file = open(self.folder / f'{process}.jsonl', 'ab')
        if file.tell():
            file.write(b'\n')  # ends a line that was cut off

        def write(piece, content, final=True):
            file.write(json.dumps([piece, final, content], separators=(',', ':')).encode('ascii') + b'\n')
            file.flush()
            if not os.fstat(file.fileno()).st_nlink:
                raise self._removed()
        file.flush()
        return write

    def read(self, pieces):
        """What came of pieces, in their order, one at a time.

        Raises:
            OSError: one is not there.
        """
        places = self._places()
        if not places.keys() >= set(pieces):
            raise self._removed()
        files = {path: open(path, 'rb') for path, *_ in places.values()}
        try:
            for piece in pieces:
                path, start, _ = places[piece]
                files[path].seek(start)
                yield json.loads(files[path].readline())[2]
        finally:
            for file in files.values():
                file.close()

    def remove(self):
        """Forget everything."""
        shutil.rmtree(self.folder, ignore_errors=True)  # somebody else may have

    def _removed(self):
        return FileNotFoundError(errno.ENOENT, f'{self.folder.name} was removed', str(self.folder))

    def _places(self):
        """The file and the byte of each piece's line, and whether it is final. Those go before, then the newest."""
        places = {}
        for path in sorted(self.folder.glob('*.jsonl'), key=lambda path: path.stat().st_mtime):
            with open(path, 'rb') as file:
                while line := file.readline():
                    piece, final = _heading(line)
                    if piece is not None and (final or not places.get(piece, (None, 0, False))[2]):
                        places[piece] = path, file.tell() - len(line), final
        return places


def _heading(line):
    """The number of the piece in a line and whether it is final; None if the line is not whole."""
    try:
        piece, final, _ = json.loads(line)
    except (ValueError, TypeError, RecursionError):
        return None, False
    return piece if line.endswith(b'\n') else None, final
