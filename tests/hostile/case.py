"""A case, and how it is run and judged."""

import os
import re
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers import ROOT

MAX_SECONDS, MAX_MEMORY = 60, 4e9  # of a case, where it does not say otherwise
MAX_LINE = 2000  # characters of a line on standard error


@dataclass
class Case:
    """A command with a hostile input.

    Attributes:
        kind: what kind of hostility.
        name: of the input and the entry point; unique.
        command: script or 'tools.x', and flags. {here} stands for the case's own folder.
        prepare: makes the input in that folder.
        status: exit statuses that are right.
        line: pattern that some line on standard error must match; '' for none. {here} stands for the folder.
        quiet: pattern that no line of standard error or output may match.
        outputs: patterns of names below the folder that the command may make or change.
        must_exist: files that there must be afterwards.
        max_lines: of standard error.
        max_seconds: of wall time.
        environment: variables for a process of its own, which starts its interpreter anew.
        shell: a shell command around the process instead, in which $COMMAND is the command line.
        during: called with the process's id while it runs.
        check: a check of its own on the folder, returns what is wrong or ''.
    """

    kind: str
    name: str
    command: list[str]
    prepare: Callable[[Path], object] = lambda here: None
    status: tuple[int, ...] = (2,)
    line: str = ''
    quiet: str = ''
    outputs: tuple[str, ...] = ()
    must_exist: tuple[str, ...] = ()
    max_lines: int = 3
    max_seconds: float = MAX_SECONDS
    environment: dict[str, str] | None = None
    shell: str = ''
    during: Callable[[int], object] | None = None
    check: Callable[[Path], str] | None = None
    wrong: list[str] = field(default_factory=list)


def run_case(case: Case, folder: Path) -> list[str]:
    """Run a case in a folder of its own. Returns what is wrong, a line each."""
    here = folder / re.sub(r'\W+', '_', f'{case.kind} {case.name}')[:100]
    here.mkdir(parents=True)
    try:
        case.prepare(here)
        before = snapshot(here)
        began = time.monotonic()
        status, memory = _execute(case, here)
        seconds = time.monotonic() - began
        wrong = _judge(case, here, status, memory, seconds, before)
        if case.check and not wrong:
            problem = case.check(here)
            wrong += [problem] if problem else []
        return wrong
    finally:
        subprocess.run(['chmod', '-R', 'u+rwX', str(here)], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(here, ignore_errors=True)


def snapshot(here: Path) -> dict[str, tuple]:
    """What lies in a folder: for each path its kind, size, content's start and place."""
    found = {}
    for parent, folders, files in os.walk(here):
        for name in [*folders, *files]:
            path = os.path.join(parent, name)
            state = os.lstat(path)
            content = b''
            if os.path.isfile(path) and not os.path.islink(path) and state.st_size < 1e6 and os.access(path, os.R_OK):
                with open(path, 'rb') as file:
                    content = file.read()
            found[os.path.relpath(path, here)] = (
                state.st_mode,
                state.st_size if os.path.isfile(path) else 0,
                content,
                os.readlink(path) if os.path.islink(path) else '',
            )
    return found


def _execute(case: Case, here: Path) -> tuple[int, int]:
    """Exit status, negative for a signal, and the peak of memory in bytes. Output goes to .out and .err beside."""
    command = [part.replace('{here}', str(here)) for part in case.command]
    fresh = case.environment is not None or case.shell
    process = _start_fresh(case, command, here) if fresh else _fork(command, here)
    if case.during:
        case.during(process)
    until = time.monotonic() + case.max_seconds
    while time.monotonic() < until:
        done, status, usage = os.wait4(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024
        time.sleep(0.005)
    os.killpg(process, signal.SIGKILL)
    os.wait4(process, 0)
    return -1000, 0


def command_line(command: list[str]) -> list[str]:
    """A command as a process of its own runs it."""
    if command[0].endswith('.py'):
        return [sys.executable, str(ROOT / command[0]), *command[1:]]
    return [sys.executable, '-m', *command]


def _start_fresh(case: Case, command: list[str], here: Path) -> int:
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), **(case.environment or {})}
    line: list[str] = command_line(command)
    if case.shell:
        import shlex

        environment['COMMAND'] = shlex.join(line)
        line = ['bash', '-c', case.shell.replace('{here}', str(here))]
    with open(f'{here}.out', 'wb') as out, open(f'{here}.err', 'wb') as err:
        return subprocess.Popen(
            line, cwd=here, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        ).pid


def _fork(command: list[str], here: Path) -> int:
    """A process that has most modules imported already, which saves most of the time."""
    process = os.fork()
    if process:
        return process
    try:
        os.setsid()
        for stream, name in ((0, '/dev/null'), (1, f'{here}.out'), (2, f'{here}.err')):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT, 0o600), stream)
        os.chdir(here)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = [str(ROOT / command[0]) if command[0].endswith('.py') else command[0], *command[1:]]
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            if command[0].endswith('.py'):
                runpy.run_path(sys.argv[0], run_name='__main__')
            else:
                runpy.run_module(command[0], run_name='__main__', alter_sys=True)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except BaseException:
            import traceback

            traceback.print_exc()
            status = 1
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass
        os._exit(status)
    finally:
        os._exit(99)


def _judge(case: Case, here: Path, status: int, memory: int, seconds: float, before: dict) -> list[str]:
    out, err = (_text(f'{here}.{end}') for end in ('out', 'err'))
    lines = [line.split('\r')[-1] for line in err.splitlines() if line.strip()]
    wrong = []
    if status == -1000:
        return [f'took more than {case.max_seconds:.0f} s; {err[-200:]!r}']
    if status not in case.status:
        wrong.append(f'status {status}, not {case.status}; {err[-300:]!r}')
    for text in (out, err):
        if 'Traceback (most recent' in text:
            wrong.append(f'a traceback: {text[-300:]!r}')
    if case.line and not any(re.search(case.line.replace('{here}', re.escape(str(here))), line) for line in lines):
        wrong.append(f'no line matches {case.line!r}: {err[-300:]!r}')
    if case.quiet and any(re.search(case.quiet, line) for line in [*lines, *out.splitlines()]):
        wrong.append(f'a line matches {case.quiet!r}: {err[-300:]!r}')
    if len(lines) > case.max_lines:
        wrong.append(f'{len(lines)} lines on standard error: {err[:300]!r}')
    if max(map(len, [*lines, *out.splitlines()]), default=0) > MAX_LINE:
        wrong.append('a line of more than 2,000 characters')
    if re.search('[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f]', re.sub('\x1b\\[A', '', out + err)):
        wrong.append(f'control characters reach the terminal: {(out + err)[:200]!r}')
    if memory > MAX_MEMORY:
        wrong.append(f'took {memory / 1e9:.1f} GB')
    wrong += _changes(case, here, before)
    for name in case.must_exist:
        if not list(here.glob(name)):
            wrong.append(f'{name} is not there')
    for end in ('out', 'err'):
        Path(f'{here}.{end}').unlink(missing_ok=True)
    return wrong


def _changes(case: Case, here: Path, before: dict) -> Iterable[str]:
    """Files that the command had no business with."""
    after = snapshot(here)
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name) and not any(
            Path(name).match(pattern) or name.startswith(pattern.rstrip('*')) for pattern in case.outputs
        ):
            what = 'was made' if name not in before else 'is gone' if name not in after else 'has changed'
            yield f'{name} {what}'


def _text(path: str) -> str:
    try:
        return Path(path).read_bytes().decode('utf-8', 'backslashreplace')
    except OSError:
        return ''
