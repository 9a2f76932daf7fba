"""Standard streams: those that are closed, as a daemon's may be, and libraries that print too much."""
import contextlib
import os
import sys
from collections.abc import Iterator


def open_missing() -> None:
    """Open the standard streams that are closed, to nowhere.

    Otherwise the next file that is opened takes the place of one, and what a library prints is written into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or open(os.devnull, 'w')
    sys.stderr = sys.stderr or open(os.devnull, 'w')


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Discard what libraries print in the block, from Python and from C++."""
    sys.stdout.flush()
    saved = [(stream, os.dup(stream)) for stream in (1, 2)]
    with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            for stream, _ in saved:
                os.dup2(nowhere.fileno(), stream)
            yield
        finally:
            for stream, copy in saved:
                os.dup2(copy, stream)
                os.close(copy)
