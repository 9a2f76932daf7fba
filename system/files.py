"""Files that are either complete or untouched, whenever their writer dies."""
import contextlib
import errno
import os
import tempfile
from pathlib import Path


@contextlib.contextmanager
def replacing(path, mode='w'):
    """A file to write to that takes the place of another one at the end, if nothing went wrong until then.

    Args:
        path: str or Path; its folder is made where it is missing.
        mode: 'w' for ASCII text, 'wb' for bytes.
    Raises:
        OSError: it cannot be written, or something other than a file stands there.
    """
    path, part = Path(path), _prepare(path)
    try:
        with open(part, mode, encoding=None if 'b' in mode else 'ascii') as file:
            yield file
        part.replace(path)
    except OSError as error:
        if error.filename is None:  # as of a full disk
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def check_writable(path):
    """Makes sure that a file can be written later, after much work.

    Args:
        path: str or Path; its folder is made where it is missing.
    Raises:
        OSError: it cannot.
    """
    part = _prepare(path)
    try:
        tempfile.TemporaryFile(dir=part.parent).close()  # not the part itself, which another process may be writing
    except OSError as error:
        error.filename = str(path)
        raise


def _prepare(path):
    """Where to write the file until it is complete."""
    path = Path(path)
    if path.exists() and not path.is_file():
        code = errno.EISDIR if path.is_dir() else errno.EEXIST  # a device would be replaced
        raise OSError(code, os.strerror(code), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f'.{path.name}.part')  # the next try takes the place of one that was killed
