"""How commands end, in processes of their own."""
import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from system.command import INTERRUPTED, exit_status, program_name
from system.errors import UserError
from tests.helpers import ROOT, run

ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(ROOT), 'PYTHONUNBUFFERED': ''}  # '' is as if it were not set
ADVICE = 'check the path, its permissions and the room on the disk'
IMPORTS = """
import os, signal, sys, time
from system.command import run
from system.errors import UserError
from system.interruption import Stopped
"""


@pytest.fixture
def script(tmp_path):
    """Write program.py with the lines of a `main`. Returns its path."""
    def write(body: str) -> Path:
        path = tmp_path / 'program.py'
        path.write_text(f'{IMPORTS}def main():\n{textwrap.indent(textwrap.dedent(body), "    ")}\nrun(main)\n')
        return path
    return write


def outcome(script: Path, shell: str = '{}') -> tuple[int, str, str]:
    """Exit status, output and errors of a script in a line of bash."""
    process = run('bash', '-c', shell.format(f'{sys.executable} {script}'), env=ENVIRONMENT)
    return process.returncode, process.stdout, process.stderr


@pytest.mark.parametrize('status', [0, 1, 3])
def test_the_status_is_what_main_returns(script, status):
    assert outcome(script(f'print("out"); return {status}')) == (status, 'out\n', '')


def test_an_error_of_the_user_is_one_line(script):
    assert outcome(script(r'print("out"); raise UserError("a\nb.json: is damaged; make it anew")')) == (
        2, 'out\n', 'program.py: error: a\\nb.json: is damaged; make it anew\n')


def test_a_subclass_of_the_error_is_handled_alike(script):
    assert outcome(script('class Some(UserError):\n    pass\nraise Some("wrong")')) == (
        2, '', 'program.py: error: wrong\n')


@pytest.mark.parametrize('code, reason', [
    ('open("/no/such\\nfile")', '/no/such\\nfile: No such file or directory'),
    ('open("/")', '/: Is a directory'),
    ('os.rename("/no/a", "/no/b")', '/no/a: No such file or directory'),
    ('raise OSError(28, "No space left on device")', 'No space left on device')])
def test_an_error_of_the_file_system_names_the_file_the_reason_and_what_to_check(script, code, reason):
    assert outcome(script(code)) == (2, '', f'program.py: error: {reason}; {ADVICE}\n')


@pytest.mark.parametrize('code', ['raise OSError("of no file")', 'raise RuntimeError("no GPU here")',
                                  'raise ValueError("of the program")'])
def test_an_error_of_the_program_has_its_traceback(script, code):
    status, out, err = outcome(script(code))
    assert (status, out) == (1, '') and err.startswith('Traceback') and 'program.py: error' not in err


def test_an_exit_of_argparse_passes(script):
    status, out, err = outcome(script('import argparse; argparse.ArgumentParser().parse_args(["--none"])'))
    assert (status, out) == (2, '') and 'unrecognized arguments: --none' in err


@pytest.mark.parametrize('with_workers', [False, True])
def test_ctrl_c_ends_it_with_one_line(script, with_workers):
    work = ('from system.worker_pool import parallel_map\nlist(parallel_map(time.sleep, [60] * 3, 2))' if with_workers
            else 'time.sleep(60)')
    process = subprocess.Popen([sys.executable, script(f'print("ready", flush=True)\n{work}')], env=ENVIRONMENT,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == ('', f'program.py: {INTERRUPTED}\n')
    assert process.returncode == 130


@pytest.mark.parametrize('code, status, message', [
    ('raise Stopped(15)', 143, INTERRUPTED), ('raise Stopped(1, "stopped; go on later")', 129, 'stopped; go on later'),
    ('raise KeyboardInterrupt("enough")', 130, 'enough')])
def test_another_signal_has_its_own_status_and_a_message_takes_the_place_of_the_usual_one(script, code, status,
                                                                                           message):
    assert outcome(script(code)) == (status, '', f'program.py: {message}\n')


@pytest.mark.parametrize('code', ['for _ in range(100_000): print("a line")', 'time.sleep(1); print("one line")'])
def test_a_reader_that_has_seen_enough_is_no_error(script, code):
    """A large output breaks while it is printed, a small one when it is flushed."""
    assert outcome(script(f'{code}\nreturn 0'), '{} | true; echo ${{PIPESTATUS[0]}}') == (0, '141\n', '')


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='only Linux has /dev/full')
@pytest.mark.parametrize('code', ['for _ in range(100_000): print("a line")', 'print("one line")'])
def test_a_full_disk_under_the_output_is_an_error_of_one_line(script, code):
    assert outcome(script(f'{code}\nreturn 0'), '{} > /dev/full') == (
        2, '', f'program.py: error: No space left on device; {ADVICE}\n')


@pytest.mark.parametrize('code, status', [('print("out"); return 0', 0), ('raise UserError("wrong")', 2),
                                          ('open("/no/file")', 2), ('raise KeyboardInterrupt', 130)])
@pytest.mark.parametrize('streams', ['>&-', '2>&-', '>&- 2>&-', '2> >(true)', '2> /dev/full'])
def test_the_status_is_the_same_where_an_output_is_closed(script, code, status, streams):
    assert outcome(script(f'time.sleep(0.3)\n{code}'), f'{{}} {streams}')[0] == status


def test_names_that_the_terminal_cannot_show_are_escaped(script):
    path = script(r'print("ü \udcff"); raise UserError("ü \udcff")')
    assert outcome(path, 'PYTHONIOENCODING=ascii {}') == (2, '\\xfc \\udcff\n', 'program.py: error: \\xfc \\udcff\n')
    assert outcome(path, 'PYTHONIOENCODING=utf-8 {}') == (2, 'ü \\udcff\n', 'program.py: error: ü \\udcff\n')


@pytest.mark.parametrize('path, name', [
    (ROOT / 'train.py', 'train.py'), (ROOT / 'tools/check.py', 'tools.check'),
    (ROOT / 'tools/deep/check.py', 'tools.deep.check'), (ROOT / 'tools/../train.py', 'train.py'),
    (Path('/elsewhere/a/script.py'), 'script.py')])
def test_a_command_has_the_name_that_the_user_called(path, name):
    def main() -> int:
        return 0
    main.__code__ = main.__code__.replace(co_filename=str(path))
    assert program_name(main) == name


def test_main_gets_its_arguments_within_a_process(capsys):
    def main(flags: list[str], number: int) -> int:
        if flags == ['--bad']:
            raise UserError(f'bad {number}')
        raise PermissionError(errno.EACCES, 'Permission denied', b'a')
    assert exit_status(main, ['--bad'], 7) == 2
    assert exit_status(main, [], 7) == 2
    assert exit_status(lambda: 5) == 5
    assert capsys.readouterr() == ('', 'tests.system.test_command: error: bad 7\n'
                                       f"tests.system.test_command: error: b'a': Permission denied; {ADVICE}\n")
