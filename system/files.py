"""Writing files and folders that are either complete or untouched, whenever the process that writes them is killed.

Each is written under a unique name beside its final place, and renamed when it is complete. A link at the final place
is replaced, not followed. Of two processes that write the same file, the last one wins.
"""
import contextlib
import errno
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Literal, overload

from system.errors import UserError

PART_NAME = re.compile(r'\.yolact-[0-9a-f]{32}\.part(\.\w+)?')  # of a file or folder that is not complete
STALE_SECONDS = 3600  # a part that has not changed for so long was left behind by a process that was killed
_cleaned_folders: set[Path] = set()  # those that this process has searched for stale parts


@overload
def replacing(path: str | Path, mode: Literal['w'] = 'w') -> AbstractContextManager[IO[str]]:
    ...


@overload
def replacing(path: str | Path, mode: Literal['wb']) -> AbstractContextManager[IO[bytes]]:
    ...


@contextlib.contextmanager
def replacing(path: str | Path, mode: str = 'w') -> Iterator[IO[Any]]:
    """A file to write, which replaces the one at a path at the end of the block, unless that raises.

    Args:
        path: its folder is created if it is missing.
        mode: 'w' for ASCII text, 'wb' for bytes.
    Raises:
        OSError: it cannot be written, or what is there is not a file.
    """
    with replacing_path(path) as part, open(part, mode, encoding=None if 'b' in mode else 'ascii') as file:
        yield file


@contextlib.contextmanager
def replacing_path(path: str | Path, suffix: str = '') -> Iterator[Path]:
    """As `replacing`, for code that opens files by name: the path of an empty file to overwrite.

    Args:
        path: as of `replacing`.
        suffix: extension of the file to overwrite, such as '.mp4'.
    """
    path = _check_replaceable(path)
    part = _new_part(path.parent, suffix)
    try:
        with _naming(path, part):
            _create(part)
            yield part
            part.replace(path)
    finally:
        _remove(part)


@contextlib.contextmanager
def replacing_folder(folder: str | Path) -> Iterator[Path]:
    """An empty folder to fill, which replaces the one at a path at the end of the block, unless that raises.

    The files are on the disk by then, even if the machine loses power. If another folder was there, the path is
    missing for an instant between two renames. On failure the earlier folder is put back.

    Raises:
        OSError: it cannot be written, or what is there is not a folder.
    """
    folder = Path(os.path.abspath(folder))
    mode = _mode(folder)
    if mode is not None and not stat.S_ISDIR(mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = _new_part(folder.parent)
    try:
        with _naming(folder, part):
            part.mkdir()
            yield part
            for path in (*part.rglob('*'), part):
                _flush_to_disk(path)
            _move_folder(part, folder)
    finally:
        _remove(part)


def remove_folder(folder: Path) -> None:
    """Remove a folder so that a kill leaves no part of it under its name. If it cannot be removed, it stays."""
    part = _new_part(folder.parent)
    with contextlib.suppress(OSError):
        folder.rename(part)
        _remove(part)


def check_output(path: str | Path, inputs: Iterable[str | Path]) -> None:
    """Check that a file can be written and is not an input, before the work whose results it will hold.

    Args:
        path: as of `check_writable`.
        inputs: files that the work reads. Links and other names of them are recognised.
    Raises:
        UserError: it is an input.
        OSError: as of `check_writable`.
    """
    check_writable(path)
    identity = _identity(path)
    for source in inputs if identity else ():
        if _identity(source) == identity:
            raise UserError(f'{path}: is an input, {source}, and would be overwritten; name another output')


def is_inside(path: str | Path, folder: str | Path) -> bool:
    """Whether a path leads into a folder by its name. Links in the folder are its owner's."""
    return os.path.join(os.path.abspath(path), '').startswith(os.path.join(os.path.abspath(folder), ''))


def check_writable(path: str | Path) -> None:
    """Check that a file can be written, before the work whose results it will hold.

    Args:
        path: its folder is created if it is missing.
    Raises:
        OSError: it cannot be written, or what is there is not a file.
    """
    path = _check_replaceable(path)
    part = _new_part(path.parent)
    with _naming(path, part):
        _create(part)
    _remove(part)


def _check_replaceable(path: str | Path) -> Path:
    """The path of a file, after checking that no folder or device would be replaced, and creating its folder."""
    path = Path(path)
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EEXIST
        raise OSError(code, os.strerror(code), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _mode(path: Path) -> int | None:
    """Type and permissions of what a path leads to, links followed; None if that is nothing."""
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Device and number of the file that a path leads to, links followed; None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _new_part(folder: Path, suffix: str = '') -> Path:
    """A path in a folder that no other process uses. The first time, stale parts in the folder are removed."""
    if folder not in _cleaned_folders:
        _cleaned_folders.add(folder)
        _remove_stale_parts(folder)
    return folder / f'.yolact-{uuid.uuid4().hex}.part{suffix}'


def _remove_stale_parts(folder: Path) -> None:
    for path in folder.glob('.yolact-*.part*'):
        with contextlib.suppress(OSError):
            if PART_NAME.fullmatch(path.name) and time.time() - path.lstat().st_mtime > STALE_SECONDS:
                _remove(path)


def _create(part: Path) -> None:
    """Create an empty file, with the permissions of the umask. What is there already is neither opened nor followed."""
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def _move_folder(part: Path, folder: Path) -> None:
    """Rename a folder to a path, in place of the folder or link there."""
    while True:
        earlier = _new_part(folder.parent)
        try:
            with contextlib.suppress(FileNotFoundError):
                folder.rename(earlier)
            part.rename(folder)
            return
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST) and part.exists():
                continue  # another process has just put its own there, to be replaced in turn
            with contextlib.suppress(OSError):  # there may have been none
                earlier.rename(folder)
            raise
        finally:
            _remove(earlier)


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder, as far as that is possible."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _naming(path: Path, part: Path) -> Iterator[None]:
    """Let an error name the path that the user knows: not the part, nor no file at all, as when the disk is full."""
    try:
        yield
    except OSError as error:
        name = error.filename
        of_part = isinstance(name, (str, Path)) and part in (Path(name), *Path(name).parents)
        if of_part or name is None and error.errno is not None:  # Paddle's CUDA errors are OSErrors without an errno
            error.filename = str(path)
        raise


def _flush_to_disk(path: Path) -> None:
    """Wait until the disk holds a file or a folder's list of files."""
    if path.is_dir() and os.name == 'nt':
        return  # Windows cannot open folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
