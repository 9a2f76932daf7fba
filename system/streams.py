"""Standard streams that are closed, as a daemon's may be."""
import os
import sys


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
