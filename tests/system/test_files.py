"""Files and folders are complete or untouched, whatever happens to the process that writes them."""
import errno
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from system import files
from system.errors import UserError
from system.files import (
    check_output,
    check_writable,
    remove_folder,
    replacing,
    replacing_folder,
    replacing_path,
)
from tests.helpers import ROOT, wait_until

NOBODY = 65534  # a user without rights


@pytest.fixture(autouse=True)
def first_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is as the first write of a process."""
    monkeypatch.setattr(files, '_cleaned_folders', set())


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def start(script: str, *arguments: object) -> 'subprocess.Popen[str]':
    """A process that runs a script."""
    return subprocess.Popen([sys.executable, '-c', textwrap.dedent(script), *map(str, arguments)], cwd=ROOT,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write_all_kinds(path: Path) -> Iterator[str]:
    """Write a file in each of the ways that there are. Yields its content each time."""
    with replacing(path) as text:
        text.write('text')
    yield 'text'
    with replacing(str(path), 'wb') as binary:
        binary.write(b'bytes')
    yield 'bytes'
    with replacing_path(path, '.mp4') as part:
        assert part.suffix == '.mp4' and part.parent == path.parent and part.read_bytes() == b''
        part.write_text('path')
    yield 'path'


def test_a_file_takes_its_place_at_the_end_and_nothing_else_is_left(tmp_path):
    path = tmp_path / 'new/folder/a.txt'
    for content in write_all_kinds(path):
        assert path.read_text() == content
        assert names(path.parent) == ['a.txt']


def test_text_is_ascii(tmp_path):
    with pytest.raises(UnicodeEncodeError), replacing(tmp_path / 'a') as file:
        file.write('ü')
    assert names(tmp_path) == []


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_failure_leaves_the_old_file_untouched(tmp_path, error):
    path = tmp_path / 'a.txt'
    path.write_text('old')
    for mode in ('w', 'wb'):
        with pytest.raises(error), replacing(path, mode) as file:
            file.write('half of it' if mode == 'w' else b'half of it')
            file.flush()
            raise error
    with pytest.raises(error), replacing_path(path) as part:
        part.write_text('half of it')
        raise error
    assert path.read_text() == 'old'
    assert names(tmp_path) == ['a.txt']


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with replacing(path) as file:
        file.write('new')
        file.flush()
        assert path.read_text() == 'old'
    assert path.read_text() == 'new'


def test_parts_have_unique_names_and_are_created_exclusively(tmp_path, monkeypatch):
    opened = []
    real_open = os.open

    def spy(path, flags, *arguments, **keys):
        opened.append((Path(path).name, flags))
        return real_open(path, flags, *arguments, **keys)
    monkeypatch.setattr(os, 'open', spy)
    for _ in range(3):
        with replacing(tmp_path / 'a.txt'):
            pass
        check_writable(tmp_path / 'a.txt')
    assert len({name for name, _ in opened}) == 6
    assert all(files.PART_NAME.fullmatch(name) and flags & os.O_EXCL and flags & os.O_CREAT for name, flags in opened)


@pytest.mark.parametrize('link', [False, True])
def test_what_already_has_the_name_of_a_part_is_neither_followed_nor_written(tmp_path, monkeypatch, link):
    class FixedUUID:
        hex = '0' * 32
    victim, part = tmp_path / 'victim', tmp_path / f'.yolact-{FixedUUID.hex}.part'
    victim.write_text('precious')
    if link:
        part.symlink_to(victim)
    else:
        part.write_text('precious')
    monkeypatch.setattr(files.uuid, 'uuid4', FixedUUID)
    with pytest.raises(FileExistsError) as error, replacing(tmp_path / 'a.txt') as file:
        file.write('text')
    assert error.value.filename == str(tmp_path / 'a.txt')
    assert victim.read_text() == 'precious'


@pytest.mark.parametrize('mask', [0o022, 0o002, 0o077])
def test_permissions_are_those_of_the_umask(tmp_path, umask, mask):
    os.umask(mask)
    path = tmp_path / 'a.txt'
    for _ in write_all_kinds(path):
        assert permissions(path) == 0o666 & ~mask
    with replacing_folder(tmp_path / 'folder') as part:
        (part / 'a').touch()
    assert permissions(tmp_path / 'folder') == 0o777 & ~mask
    assert permissions(tmp_path / 'folder/a') == 0o666 & ~mask


def test_a_link_is_replaced_and_what_it_points_to_is_not_touched(tmp_path):
    target, link, dangling = tmp_path / 'target', tmp_path / 'link', tmp_path / 'dangling'
    target.write_text('precious')
    for place, pointed in ((link, target), (dangling, tmp_path / 'gone')):
        for content in write_all_kinds(place):
            assert place.read_text() == content and not place.is_symlink()
            place.unlink()
            place.symlink_to(pointed)
        place.unlink()
    assert names(tmp_path) == ['target'] and target.read_text() == 'precious'


def test_neither_a_folder_nor_a_pipe_nor_a_socket_is_replaced(tmp_path):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'folder')
    os.mkfifo(tmp_path / 'pipe')
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / 'socket'))
    before = names(tmp_path)
    for name, code in (('folder', errno.EISDIR), ('link', errno.EISDIR), ('pipe', errno.EEXIST),
                       ('socket', errno.EEXIST), ('/dev/null', errno.EEXIST)):
        path = tmp_path / name
        for write in (check_writable, lambda path: next(write_all_kinds(path))):
            with pytest.raises(OSError) as error:
                write(path)
            assert (error.value.errno, error.value.filename) == (code, str(path))
    assert names(tmp_path) == before


def test_a_file_in_the_place_of_a_folder_is_told_by_its_name(tmp_path):
    (tmp_path / 'a').write_text('precious')
    for path in (tmp_path / 'a/b', tmp_path / 'a/b/c'):
        for write in (check_writable, lambda path: next(write_all_kinds(path))):
            with pytest.raises(OSError) as error:
                write(path)
            assert error.value.filename.startswith(str(tmp_path / 'a')) and 'part' not in error.value.filename
    assert (tmp_path / 'a').read_text() == 'precious'


WRITERS = """
    import sys
    from system.files import replacing
    path, letter = sys.argv[1:]
    print('ready', flush=True)
    sys.stdin.readline()
    for _ in range(100):
        with replacing(path) as file:
            for _ in range(50):
                file.write(letter * 1000)
                file.flush()
"""


def test_of_two_processes_that_write_at_once_one_leaves_its_complete_file(tmp_path):
    path = tmp_path / 'a.txt'
    processes = [subprocess.Popen([sys.executable, '-c', textwrap.dedent(WRITERS), path, letter], cwd=ROOT, text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE) for letter in 'ab']
    for process in processes:
        assert process.stdout.readline() == 'ready\n'
    for process in processes:
        process.stdin.write('\n')
        process.stdin.close()
    seen = set()
    while any(process.poll() is None for process in processes):
        if path.exists():
            seen.add(path.read_text())
    assert [process.wait() for process in processes] == [0, 0]
    seen.add(path.read_text())
    assert seen <= {'a' * 50_000, 'b' * 50_000}
    assert names(tmp_path) == ['a.txt']


def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')
    process = start("""
        import sys, time
        from system.files import replacing
        with replacing(sys.argv[1]) as file:
            file.write('half')
            file.flush()
            time.sleep(60)
        """, path)
    wait_until(lambda: any(part.stat().st_size for part in tmp_path.glob('.yolact-*.part')))
    process.kill()
    process.communicate()
    assert path.read_text() == 'old'
    left, = (name for name in names(tmp_path) if name != 'a.txt')
    assert files.PART_NAME.fullmatch(left)


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2, follow_symlinks=False)


def test_parts_older_than_an_hour_are_removed_and_nothing_else(tmp_path):
    unique = '0123456789abcdef' * 2
    precious = tmp_path / 'precious'
    precious.mkdir()
    (precious / 'file').touch()
    stale = [tmp_path / f'.yolact-{unique}.part', tmp_path / f'.yolact-{unique}.part.mp4',
             tmp_path / f'.yolact-{unique[::-1]}.part', tmp_path / f'.yolact-{"a" * 32}.part']
    stale[0].touch()
    stale[1].touch()
    stale[2].mkdir()
    (stale[2] / 'file').touch()
    stale[3].symlink_to(precious)
    others = [tmp_path / name for name in (
        f'.yolact-{unique}.part.mp4.bak', f'.yolact-{unique[1:]}.part', f'.yolact-{unique}.parts', f'{unique}.part',
        f'.yolact-{unique.upper()}.part', f'.other-{unique}.part', '.yolact-notes.part', 'a.part', '.a.txt.part')]
    fresh = tmp_path / f'.yolact-{"f" * 32}.part'
    for path in (*others, fresh):
        path.touch()
    for path in (*stale, *others):
        age(path, files.STALE_SECONDS + 60)
    age(fresh, files.STALE_SECONDS - 60)
    with replacing(tmp_path / 'a.txt'):
        assert not any(os.path.lexists(path) for path in stale)
    assert names(tmp_path) == sorted(['a.txt', 'precious', fresh.name, *(path.name for path in others)])
    assert names(precious) == ['file']


def test_stale_parts_are_looked_for_once_per_folder_and_process(tmp_path):
    stale = tmp_path / f'.yolact-{"0" * 32}.part'
    check_writable(tmp_path / 'a.txt')
    stale.touch()
    age(stale, files.STALE_SECONDS + 60)
    check_writable(tmp_path / 'a.txt')
    assert stale.exists()


def test_a_stale_part_that_cannot_be_removed_does_not_keep_others(tmp_path, monkeypatch):
    stale = [tmp_path / f'.yolact-{letter * 32}.part' for letter in 'abc']
    for path in stale:
        path.touch()
        age(path, files.STALE_SECONDS + 60)
    real_lstat = Path.lstat

    def lstat(path):
        if path == stale[0]:
            raise PermissionError(errno.EACCES, 'Permission denied', str(path))
        return real_lstat(path)
    monkeypatch.setattr(Path, 'lstat', lstat)
    with replacing(tmp_path / 'a.txt'):
        pass
    assert names(tmp_path) == [stale[0].name, 'a.txt']


@pytest.mark.parametrize('kind', ['replacing', 'replacing_path', 'replacing_folder'])
def test_on_a_full_disk_the_error_names_the_users_file_and_the_old_one_stays(tmp_path, kind):
    """A limit of the size of files stands for the disk."""
    path = tmp_path / 'result'
    if kind == 'replacing_folder':
        path.mkdir()
        (path / 'old').touch()
    else:
        path.write_text('old')
    process = start("""
        import resource, signal, sys
        import system.files
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            with getattr(system.files, sys.argv[2])(sys.argv[1]) as target:
                if sys.argv[2] == 'replacing_folder':
                    target = target / 'new'
                file = target if hasattr(target, 'write') else open(target, 'w')
                for _ in range(100):
                    file.write('some text' * 10)
                file.close()
        except OSError as error:
            print(error.errno, error.filename)
        """, path, kind)
    out, err = process.communicate()
    assert (out, err, process.returncode) == (f'{errno.EFBIG} {path}\n', '', 0)
    assert names(tmp_path) == ['result']
    assert names(path) == ['old'] if path.is_dir() else path.read_text() == 'old'


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='only Linux has /dev/full')
def test_an_error_without_a_file_names_the_users_file(tmp_path):
    with pytest.raises(OSError) as error, replacing(tmp_path / 'a') as file, open('/dev/full', 'w') as full:
        file.write('text')
        full.write('text')
        full.flush()
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / 'a'))


def test_errors_of_other_files_and_those_without_an_errno_stay_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError) as error, replacing(tmp_path / 'a'):
        open(tmp_path / 'other')
    assert error.value.filename == str(tmp_path / 'other')
    with pytest.raises(OSError) as error, replacing_folder(tmp_path / 'a'):
        raise OSError('CUDA error(700)')
    assert str(error.value) == 'CUDA error(700)'


def check_read_only(folder: Path) -> None:
    (folder / 'a.txt').write_text('old')
    folder.chmod(0o555)
    for write in (check_writable, lambda path: next(write_all_kinds(path)),
                  lambda path: replacing_folder(path.with_suffix('')).__enter__()):
        with pytest.raises(PermissionError) as error:
            write(folder / 'a.txt')
        assert error.value.filename in (str(folder / 'a.txt'), str(folder / 'a'))
    remove_folder(folder / 'a.txt')
    assert names(folder) == ['a.txt'] and (folder / 'a.txt').read_text() == 'old'


def test_a_read_only_folder_is_told_by_the_users_file(tmp_path):
    folder = tmp_path / 'folder'
    folder.mkdir()
    if os.geteuid():
        check_read_only(folder)
        return
    os.chown(folder, NOBODY, NOBODY)  # root may write everywhere
    for parent in (tmp_path, *tmp_path.parents[:-2]):
        parent.chmod(parent.stat().st_mode | 0o011)
    child = os.fork()
    if not child:
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            check_read_only(folder)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_check_writable_leaves_what_is_there(tmp_path):
    path = tmp_path / 'new/a.txt'
    check_writable(path)
    assert names(path.parent) == []
    path.write_text('old')
    check_writable(str(path))
    assert names(path.parent) == ['a.txt'] and path.read_text() == 'old'


def fill(folder: Path, content: str) -> None:
    """A folder of two files, one in a folder below it."""
    (folder / 'below').mkdir(parents=True)
    (folder / 'a').write_text(content)
    (folder / 'below/b').write_text(content)


def content_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob('*') if path.is_file()}


FILLED = {'a': 'new', 'below/b': 'new'}


def test_a_folder_takes_its_place_at_the_end_and_nothing_of_the_earlier_one_is_left(tmp_path):
    folder = tmp_path / 'new/folder'
    for _ in range(2):
        with replacing_folder(str(folder)) as part:
            assert names(part) == []
            fill(part, 'new')
        assert content_of(folder) == FILLED
        assert names(folder.parent) == ['folder']
        (folder / 'old').touch()


def test_a_folder_is_found_under_a_name_that_ends_in_a_slash_or_goes_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('a/', 'b/../a', './a', 'a/b/..'):
        with replacing_folder(name) as part:
            fill(part, 'new')
        assert content_of(tmp_path / 'a') == FILLED
        assert 'a' in names(tmp_path) and not list(tmp_path.glob('.yolact*'))


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_earlier_folder_untouched(tmp_path, error):
    fill(tmp_path / 'folder', 'old')
    with pytest.raises(error), replacing_folder(tmp_path / 'folder') as part:
        (part / 'a').write_text('half')
        raise error
    assert content_of(tmp_path / 'folder') == {'a': 'old', 'below/b': 'old'}
    assert names(tmp_path) == ['folder']


@pytest.mark.parametrize('error', [OSError(errno.EIO, 'Input/output error'), KeyboardInterrupt()])
def test_a_failure_between_the_two_renames_puts_the_earlier_folder_back(tmp_path, monkeypatch, error):
    fill(tmp_path / 'folder', 'old')
    real_rename, calls = Path.rename, []

    def rename(path, target):
        calls.append(target)
        if len(calls) == 2:
            raise error
        return real_rename(path, target)
    monkeypatch.setattr(Path, 'rename', rename)
    with pytest.raises(type(error)) as raised, replacing_folder(tmp_path / 'folder') as part:
        fill(part, 'new')
    assert isinstance(error, KeyboardInterrupt) or raised.value.filename == str(tmp_path / 'folder')
    assert content_of(tmp_path / 'folder') == {'a': 'old', 'below/b': 'old'}
    assert names(tmp_path) == ['folder'] and len(calls) == 3


def test_a_folder_that_another_process_puts_there_meanwhile_is_replaced_in_turn(tmp_path, monkeypatch):
    fill(tmp_path / 'folder', 'old')
    real_rename, calls = Path.rename, []

    def rename(path, target):
        calls.append(target)
        if len(calls) == 2:
            fill(tmp_path / 'folder', 'of another process')
        return real_rename(path, target)
    monkeypatch.setattr(Path, 'rename', rename)
    with replacing_folder(tmp_path / 'folder') as part:
        fill(part, 'new')
    assert content_of(tmp_path / 'folder') == FILLED
    assert names(tmp_path) == ['folder'] and len(calls) == 4


def test_of_two_processes_that_write_a_folder_at_once_one_leaves_its_complete_folder(tmp_path):
    script = """
        import sys
        from system.files import replacing_folder
        for _ in range(100):
            with replacing_folder(sys.argv[1]) as part:
                for name in 'xyz':
                    (part / name).write_text(sys.argv[2])
        """
    processes = [start(script, tmp_path / 'folder', letter) for letter in 'ab']
    errors = [process.communicate()[1] for process in processes]
    assert errors == ['', ''] and [process.returncode for process in processes] == [0, 0]
    contents = content_of(tmp_path / 'folder')
    assert sorted(contents) == ['x', 'y', 'z'] and len(set(contents.values())) == 1
    assert names(tmp_path) == ['folder']


def test_a_link_to_a_folder_is_replaced_and_what_it_points_to_is_not_touched(tmp_path):
    fill(tmp_path / 'precious', 'precious')
    for target in ('precious', 'gone'):
        (tmp_path / 'link').symlink_to(tmp_path / target)
        with replacing_folder(tmp_path / 'link') as part:
            fill(part, 'new')
        assert not (tmp_path / 'link').is_symlink() and content_of(tmp_path / 'link') == FILLED
        assert names(tmp_path) == ['link', 'precious']
        (tmp_path / 'link').rename(tmp_path / f'was {target}')
        (tmp_path / f'was {target}').rename(tmp_path.parent / f'{tmp_path.name} was {target}')
    assert content_of(tmp_path / 'precious') == {'a': 'precious', 'below/b': 'precious'}


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / 'a').write_text('precious')
    with pytest.raises(NotADirectoryError) as error, replacing_folder(tmp_path / 'a'):
        pass
    assert error.value.filename == str(tmp_path / 'a')
    assert names(tmp_path) == ['a'] and (tmp_path / 'a').read_text() == 'precious'


def test_a_folder_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    flushed = []
    real_fsync = os.fsync

    def fsync(descriptor):
        flushed.append(re.sub(r'\.yolact-\w+\.part', 'part', os.readlink(f'/proc/self/fd/{descriptor}')))
        assert not (tmp_path / 'folder').exists()
        return real_fsync(descriptor)
    monkeypatch.setattr(os, 'fsync', fsync)
    with replacing_folder(tmp_path / 'folder') as part:
        fill(part, 'new')
    assert sorted(flushed) == [str(tmp_path / name) for name in ('part', 'part/a', 'part/below', 'part/below/b')]


def test_a_folder_is_removed_and_a_link_to_one_is_not_followed(tmp_path):
    fill(tmp_path / 'folder', 'old')
    (tmp_path / 'link').symlink_to(tmp_path / 'folder')
    remove_folder(tmp_path / 'link')
    assert names(tmp_path) == ['folder'] and len(content_of(tmp_path / 'folder')) == 2
    remove_folder(tmp_path / 'folder')
    remove_folder(tmp_path / 'folder')  # is gone already
    assert names(tmp_path) == []


def test_a_kill_at_any_moment_leaves_a_complete_folder_or_none(tmp_path):
    """The process replaces and removes a folder in turn. It is killed after a random time, again and again."""
    script = """
        import sys
        from pathlib import Path
        from system.files import remove_folder, replacing_folder
        folder = Path(sys.argv[1])
        print('ready', flush=True)
        while True:
            for content in 'ab':
                with replacing_folder(folder) as part:
                    for name in 'xyz':
                        (part / name).write_text(content * 1000)
            remove_folder(folder)
        """
    seen = 0
    for trial in range(12):
        process = start(script, tmp_path / 'folder')
        assert process.stdout is not None and process.stdout.readline() == 'ready\n'
        time.sleep(0.01 + 0.007 * trial)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (tmp_path / 'folder').exists():
            seen += 1
            contents = content_of(tmp_path / 'folder')
            assert sorted(contents) == ['x', 'y', 'z'] and set(contents.values()) <= {'a' * 1000, 'b' * 1000}
            assert len(set(contents.values())) == 1
    assert seen


@pytest.mark.parametrize('name', ['a.txt', 'sub/../a.txt', 'link.txt', 'hard.txt', 'linked/a.txt'])
def test_no_output_takes_the_place_of_an_input(tmp_path: Path, name: str) -> None:
    (tmp_path / 'sub').mkdir()
    (tmp_path / 'a.txt').write_text('input')
    (tmp_path / 'link.txt').symlink_to('a.txt')
    (tmp_path / 'linked').symlink_to('.')
    os.link(tmp_path / 'a.txt', tmp_path / 'hard.txt')
    with pytest.raises(UserError, match=f"{name}: is an input, .*/a.txt, and would be overwritten; name another"):
        check_output(tmp_path / name, [tmp_path / 'gone', tmp_path / 'a.txt'])


def test_an_earlier_output_may_be_replaced(tmp_path: Path) -> None:
    for name in ('a.txt', 'b.txt'):
        (tmp_path / name).write_text('')
    check_output(tmp_path / 'b.txt', [tmp_path / 'a.txt', Path('a\0b')])
    check_output(tmp_path / 'new/c.txt', [tmp_path / 'a.txt'])
