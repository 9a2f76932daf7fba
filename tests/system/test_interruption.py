"""Stop requests by real signals in real processes."""
import os
import pty
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest

from system.interruption import Stopped, StopRequest
from tests.helpers import ROOT, wait_until

ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(ROOT)}
ENVIRONMENT.pop('PADDLE_TRAINER_ID', None)
TIMEOUT = 40  # seconds that a program may take
WAIT = """
import os, signal, sys, time
from system.command import run
from system.interruption import Stopped, StopRequest

def steps(request, until):
    '''Prints a line at the start, and when the signal changes, until a condition holds.'''
    print('ready', flush=True)
    seen = 0
    while not until(request):
        time.sleep(0.01)
        if request.signal != seen:
            seen = request.signal
            print('signal', seen, flush=True)

"""
UNTIL_REQUESTED = WAIT + """
def main():
    with StopRequest('stopping after this step') as request:
        steps(request, lambda request: request.requested)
        print('saved', request.signal, flush=True)
    return 128 + request.signal
run(main)
"""
ENDLESS = WAIT + """
def main():
    with StopRequest('stopping after this step') as request:
        steps(request, lambda request: False)
run(main)
"""


class Program:
    """A process that runs a script, whose lines can be waited for."""

    def __init__(self, script: str, *arguments: object, before: Callable[[], object] | None = None,
                 command: tuple[str, ...] = (), **environment: str) -> None:
        self.process = subprocess.Popen(
            [*command, sys.executable, '-c', textwrap.dedent(script), *map(str, arguments)], preexec_fn=before,
            env={**ENVIRONMENT, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.lines = self.process.stdout
        self.watchdog = threading.Timer(TIMEOUT, self.process.kill)  # fails a test that would wait for ever
        self.watchdog.start()

    def send(self, number: signal.Signals, after: str = 'ready') -> None:
        """Send a signal after the program has printed a line."""
        assert self.lines.readline() == f'{after}\n'
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Exit status, further output, errors."""
        out, err = self.process.communicate()
        self.watchdog.cancel()
        return self.process.returncode, out, err


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_sets_requested_and_the_step_is_finished(number):
    program = Program(UNTIL_REQUESTED)
    program.send(number)
    status, out, err = program.end()
    assert status == 128 + number
    assert out.splitlines()[-1] == f'saved {number}' and err == 'stopping after this step\n'


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_same_signal_again_stops_at_once(number):
    program = Program(ENDLESS)
    program.send(number)
    program.send(number, after=f'signal {number}')
    status, out, err = program.end()
    assert (status, out) == (128 + number, '')
    assert err == 'stopping after this step\n<string>: interrupted; files that were written are complete\n'


def test_another_signal_is_no_second_request():
    """As a session that ends sends SIGTERM and SIGHUP, or a launcher passes Ctrl-C on as SIGTERM."""
    program = Program(ENDLESS)
    program.send(signal.SIGINT)
    program.send(signal.SIGTERM, after='signal 2')
    program.send(signal.SIGTERM, after='signal 15')
    status, _, err = program.end()
    assert status == 143 and err.count('stopping after this step') == 1


IMMEDIATELY = WAIT + """
def main():
    with StopRequest() as request:
        if sys.argv[1] == 'before':
            steps(request, lambda request: request.requested)
        try:
            with request.immediately():
                print('ready' if sys.argv[1] == 'within' else 'entered', flush=True)
                time.sleep(60)
        except Stopped as stop:
            print('stopped', stop.signal)
        if sys.argv[1] == 'after':
            steps(request, lambda request: request.requested)
        print('requested', request.requested)
    return 0
run(main)
"""


@pytest.mark.parametrize('when', ['before', 'within'])
def test_a_block_that_may_be_left_ends_at_once(when):
    program = Program(IMMEDIATELY, when)
    began = time.monotonic()
    program.send(signal.SIGTERM)
    status, out, err = program.end()
    assert time.monotonic() - began < 30
    assert (status, err) == (0, '')
    assert out.splitlines()[-2:] == ['stopped 15', 'requested True'] and 'entered' not in out


def test_after_such_a_block_a_signal_is_a_request_again():
    with StopRequest() as request:
        with request.immediately():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.requested and request.signal == signal.SIGTERM
        with pytest.raises(Stopped) as stop, request.immediately():
            raise AssertionError
        assert stop.value.signal == signal.SIGTERM


class Racing(StopRequest):
    """One that a signal reaches right after it has looked whether there was one."""
    number = 0
    races = False

    @property
    def signal(self) -> int:
        number = self.number
        if self.races:
            self.races = False
            os.kill(os.getpid(), signal.SIGINT)
        return number

    @signal.setter
    def signal(self, number: int) -> None:
        self.number = number


def test_a_signal_that_comes_while_such_a_block_is_entered_is_not_missed():
    with Racing() as request:
        request.races = True
        with pytest.raises(Stopped), request.immediately():
            raise AssertionError


def test_the_earlier_handlers_are_back_afterwards():
    def handler(*_: object) -> None:
        pass
    before = [signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    try:
        with StopRequest() as request:
            assert signal.getsignal(signal.SIGTERM) != handler
            os.kill(os.getpid(), signal.SIGTERM)
        assert request.requested
        assert all(signal.getsignal(number) == handler for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    finally:
        for number, earlier in zip((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), before):
            signal.signal(number, earlier)


def test_under_nohup_a_closed_terminal_is_ignored():
    program = Program(UNTIL_REQUESTED, command=('nohup',))
    program.send(signal.SIGHUP)
    time.sleep(0.3)
    assert program.process.poll() is None
    program.process.send_signal(signal.SIGTERM)
    status, out, _ = program.end()
    assert status == 143 and out.splitlines()[-1] == 'saved 15'


def test_ctrl_c_is_heard_where_a_shell_had_it_ignored():
    """As in a process that a shell script starts in the background."""
    program = Program(UNTIL_REQUESTED, before=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    program.send(signal.SIGINT)
    assert program.end()[0] == 130


def test_a_terminal_that_is_closed_does_not_end_the_step(tmp_path):
    """Nothing can be printed then, not even that it stops."""
    script = WAIT + """
def main():
    with StopRequest('stopping after this step') as request:
        print('ready', flush=True)
        while not request.requested:
            time.sleep(0.01)
        open(sys.argv[1], 'w').write(f'saved {request.signal}')
    return 0
run(main)
"""
    child, terminal = pty.fork()
    if not child:
        os.execve(sys.executable, [sys.executable, '-c', script, str(tmp_path / 'out')], ENVIRONMENT)
    with open(terminal, 'rb', buffering=0, closefd=False) as lines:
        assert lines.readline() == b'ready\r\n'
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (tmp_path / 'out').read_text() == 'saved 1'


@pytest.mark.parametrize('launched', [False, True])
def test_paddles_own_handler_does_not_take_its_place(launched):
    """Paddle's handler prints pages and ends the process. Under the launcher the request imports Paddle itself."""
    if launched:
        program = Program(UNTIL_REQUESTED, PADDLE_TRAINER_ID='0')
    else:
        program = Program('import paddle\n' + UNTIL_REQUESTED)
    program.send(signal.SIGTERM)
    status, out, err = program.end()
    assert status == 143 and out.splitlines()[-1] == 'saved 15'
    assert 'stopping after this step' in err and 'SIGTERM' not in err


def test_the_launcher_may_send_sigterm_twice_and_once_more_at_the_end():
    program = Program(WAIT + """
def main():
    with StopRequest() as request:
        steps(request, lambda request: request.requested)
        print('first', flush=True)
        time.sleep(0.5)
    print('left', flush=True)
    time.sleep(0.5)
    return 7
run(main)
""", PADDLE_TRAINER_ID='0')
    program.send(signal.SIGTERM)
    for line in ('first', 'left'):
        assert f'{line}\n' in program.lines
        program.process.send_signal(signal.SIGTERM)
    assert program.end()[0] == 7


def test_a_launcher_that_is_killed_is_a_request(tmp_path):
    log = tmp_path / 'log'
    parent = Program("""
import subprocess, sys, time
subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=open(sys.argv[2], 'w'), stderr=subprocess.STDOUT)
time.sleep(60)
""", UNTIL_REQUESTED, log, PADDLE_TRAINER_ID='0')
    wait_until(lambda: log.exists() and 'ready' in log.read_text())
    parent.process.kill()
    parent.end()
    wait_until(lambda: 'saved 15' in log.read_text())


def test_stopped_is_a_keyboard_interrupt_that_holds_its_signal():
    stop = Stopped(15, 'stopped')
    assert isinstance(stop, KeyboardInterrupt) and (stop.signal, str(stop)) == (15, 'stopped')
    assert str(Stopped(2)) == ''


def test_a_program_that_never_asks_imports_no_paddle():
    program = Program("import sys\nfrom system.interruption import StopRequest\nwith StopRequest(): pass\n"
                      "print('paddle' in sys.modules)")
    assert program.end() == (0, 'False\n', '')
