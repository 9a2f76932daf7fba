"""Work in many pieces that goes on where it stopped, however it was stopped."""
import errno
import json
import os
import shutil
from pathlib import Path


class Journal:
    """What came of each piece of work, in a folder, until all of it is there.

    Every process writes to a file of its own, one line a piece. A line that was cut off by a kill counts for nothing.
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
        """The numbers of the pieces that are done: set of int."""
        return set(self._places())

    def writer(self, process):
        """A function that takes the number of a piece and what came of it, as JSON can hold it, and keeps that.

        Args:
            process: int, which of the processes that work at the same time.
        Raises, when it is called:
            OSError: it cannot be written, or has been removed.
        """
        file = open(self.folder / f'{process}.jsonl', 'ab')
        if file.tell():
            file.write(b'\n')  # ends a line that was cut off

        def write(piece, content):
            file.write(json.dumps([piece, content], separators=(',', ':')).encode('ascii') + b'\n')
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
        files = {path: open(path, 'rb') for path, _ in places.values()}
        try:
            for piece in pieces:
                path, start = places[piece]
                files[path].seek(start)
                yield json.loads(files[path].readline())[1]
        finally:
            for file in files.values():
                file.close()

    def remove(self):
        """Forget everything."""
        shutil.rmtree(self.folder, ignore_errors=True)  # somebody else may have

    def _removed(self):
        return FileNotFoundError(errno.ENOENT, f'{self.folder.name} was removed', str(self.folder))

    def _places(self):
        """The file and the byte of each piece's line."""
        places = {}
        for path in sorted(self.folder.glob('*.jsonl')):
            with open(path, 'rb') as file:
                while line := file.readline():
                    piece = _number(line)
                    if piece is not None:
                        places[piece] = path, file.tell() - len(line)
        return places


def _number(line):
    """The number of the piece in a line, None if the line is not whole."""
    try:
        piece, _ = json.loads(line)
    except (ValueError, TypeError):
        return None
    return piece if line.endswith(b'\n') else None
