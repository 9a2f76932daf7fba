"""Files and folders that are either complete or untouched, whenever their writer dies.

Each is written under a name of its own, created exclusively beside its place, and renamed into it. So nothing that
lies there is followed or written over, and of two writers the last one wins whole.
"""
import contextlib
import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_PART = re.compile(r'\.yolact-[0-9a-f]{32}\.part(\.\w+)?')
_STALE = 3600  # seconds after which nobody is still writing a part
_cleaned: set[Path] = set()  # folders that this process has looked through


@contextlib.contextmanager
def replacing(path: str | Path, mode: str = 'w') -> Iterator[IO[Any]]:
    """A file to write to that takes the place of another one at the end, if nothing went wrong until then.

    Args:
        path: its folder is made where it is missing. A link there is replaced, not followed.
        mode: 'w' for ASCII text, 'wb' for bytes.
    Raises:
        OSError: it cannot be written, or something other than a file stands there.
    """
    with replacing_path(path) as part:
        with _blaming(path, part), open(part, mode, encoding=None if 'b' in mode else 'ascii') as file:
            yield file


@contextlib.contextmanager
def replacing_path(path: str | Path, suffix: str = '') -> Iterator[Path]:
    """The same for whoever opens files by their names: an empty file that takes the place of another one.

    Args:
        path: as of `replacing`.
        suffix: what the part's name ends in, such as '.mp4'.
    """
    path = _check_file(path)
    part = _new_part(path.parent, suffix)
    try:
        with _blaming(path, part):
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield part
        with _blaming(path, part):
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(folder: str | Path) -> Iterator[Path]:
    """An empty folder to fill that takes the place of another one at the end, if nothing went wrong until then.

    Raises:
        OSError: it cannot be written.
    """
    folder = Path(os.path.abspath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    part, earlier = (_new_part(folder.parent) for _ in range(2))
    try:
        with _blaming(folder, part):
            part.mkdir()
        yield part
        for path in (*part.rglob('*'), part):
            _flush(path)
        if folder.exists():
            folder.rename(earlier)
        part.rename(folder)
    finally:
        if earlier.exists() and not folder.exists():
            earlier.rename(folder)
        for path in (part, earlier):
            shutil.rmtree(path, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder so that a kill leaves no half of it. One that cannot be removed is left."""
    part = _new_part(folder.parent)
    with contextlib.suppress(OSError):
        folder.rename(part)
        shutil.rmtree(part, ignore_errors=True)


def check_writable(path: str | Path) -> None:
    """Make sure that a file can be written later, after much work.

    Args:
        path: its folder is made where it is missing.
    Raises:
        OSError: it cannot.
    """
    path = _check_file(path)
    part = _new_part(path.parent)
    with _blaming(path, part):
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    part.unlink()


def _check_file(path: str | Path) -> Path:
    """A path that a file can take, in a folder that is there."""
    path = Path(path)
    if path.exists() and not path.is_file():
        code = errno.EISDIR if path.is_dir() else errno.EEXIST  # a device would be replaced
        raise OSError(code, os.strerror(code), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _new_part(folder: Path, suffix: str = '') -> Path:
    """A name that nobody else has, and that says whose it is."""
    if folder not in _cleaned:
        _cleaned.add(folder)
        _remove_stale(folder)
    return folder / f'.yolact-{uuid.uuid4().hex}.part{suffix}'


def _remove_stale(folder: Path) -> None:
    """Parts that killed processes left behind. No other program gives such names."""
    with contextlib.suppress(OSError):
        for path in folder.glob('.yolact-*.part*'):
            if _PART.fullmatch(path.name) and time.time() - path.lstat().st_mtime > _STALE:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@contextlib.contextmanager
def _blaming(path: str | Path, part: Path) -> Iterator[None]:
    """Errors of a part name the file that the user knows, and so do those without a name, as of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename in (None, str(part)):
            error.filename = str(path)
        raise


def _flush(path: Path) -> None:
    """Have the disk itself hold a file or folder before the next step relies on it."""
    if path.is_dir() and os.name == 'nt':
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
