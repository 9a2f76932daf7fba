"""Closed and full streams, signals at any moment, and a system that has little to give."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.hostile.base import Base
from tests.hostile.case import Case


def _commands(base: Base) -> dict[str, list[str]]:
    return {
        'demo': base.demo(),
        'eval': base.eval(),
        'test_dev': base.test_dev(),
        'train': base.train(),
        'export': base.export(),
        'check': base.check(),
        'samples': base.samples(),
        'convert': ['tools.convert', str(base.labels), '--out', '{here}/all.json'],
        'shapes': ['tools.shapes', '{here}/d', '--train', '1', '--val', '0', '--test', '0'],
        'anchors': base.anchors(),
        '--help': ['demo.py', '--help'],
        'an error': base.demo(images='{here}/none.jpg'),
    }


OUTPUTS = ('out', 'out/*', 'r*', '.r*', 'w', 'w/*', 'e*.onnx', 's.*', 'a.png', 'all.json', 'd', 'd/*', 'x*')


def cases(base: Base) -> Iterator[Case]:
    normal = {'check': 1, 'an error': 2}
    streams = {
        'stdout closed': '$COMMAND >&-',
        'stderr closed': '$COMMAND 2>&-',
        'both closed': '$COMMAND >&- 2>&-',
        'all closed': '$COMMAND <&- >&- 2>&-',
        'stdin closed': '$COMMAND <&-',
        'stdout full': '$COMMAND > /dev/full',
        'stderr full': '$COMMAND 2> /dev/full',
        'both full': '$COMMAND > /dev/full 2>&1',
        'stdout to nobody': 'set -o pipefail; $COMMAND | true',
        'stdout to /dev/null': '$COMMAND > /dev/null',
    }
    for entry, line in _commands(base).items():
        good = normal.get(entry, 0)
        for what, shell in streams.items():
            says = entry not in ('train',)  # which has nothing to say on standard output
            if what in ('stdout closed', 'both closed', 'all closed', 'stdout full', 'both full'):
                status = (good, 1, 2, 74, 141) if says else (good,)  # what could not be printed may show
            elif what in ('stderr full', 'stderr closed'):
                status = (good, 1, 2)
            elif what == 'stdout to nobody':
                status = (good, 141)
            else:
                status = (good,)
            yield Case('streams', f'{what}, {entry}', line, status=status, shell=shell, outputs=OUTPUTS, max_lines=14)
    yield from _signals(base)
    yield from _environment(base)


def _signals(base: Base) -> Iterator[Case]:
    """One signal after a delay. Whatever it hits, imports included: a line or nothing, and its status."""
    entries = {
        name: line
        for name, line in _commands(base).items()
        if name in ('demo', 'eval', 'test_dev', 'train', 'check', 'shapes')
    }
    entries['train'] = base.train(steps=100, log_interval=100)
    entries['shapes'] = ['tools.shapes', '{here}/d', '--train', '300', '--val', '0', '--test', '0']
    for entry, line in entries.items():
        for number in (signal.SIGINT, signal.SIGTERM):
            for milliseconds in (20, 60, 120, 200, 300, 450, 700, 1000, 1500, 2200, 3000):

                def send(process: int, number: int = number, delay: float = milliseconds / 1000) -> None:
                    def later() -> None:
                        time.sleep(delay)
                        try:
                            os.kill(process, number)
                        except ProcessLookupError:
                            pass

                    threading.Thread(target=later, daemon=True).start()

                default = (-number,) if number == signal.SIGTERM else (-number,)  # before anything could be set up
                early = (
                    default
                    if milliseconds <= 60
                    else default
                    if number == signal.SIGTERM and entry in ('check', 'shapes')
                    else ()
                )
                yield Case(
                    'signals',
                    f'{number.name} after {milliseconds} ms, {entry}',
                    line,
                    status=(0, 1, 128 + number, *early, *default),
                    environment={},
                    during=send,
                    outputs=OUTPUTS,
                    max_lines=10,
                )


def _environment(base: Base) -> Iterator[Case]:
    entries = {
        'demo': base.demo(),
        'eval': base.eval(),
        'train': base.train(),
        'check': base.check(),
        'samples': base.samples(),
        'anchors': base.anchors(),
        'test_dev': base.test_dev(),
    }
    normal = {'check': 1}
    for entry, line in entries.items():
        good = normal.get(entry, 0)
        variables = {
            'HOME is gone': {'HOME': '/nowhere/at/all'},
            'HOME is a file': {'HOME': '/etc/passwd'},
            'HOME is empty': {'HOME': ''},
            'TMPDIR is gone': {'TMPDIR': '/nowhere/at/all'},
            'no PATH': {'PATH': ''},
            'LANG is C': {'LANG': 'C', 'LC_ALL': 'C'},
            'Python in ASCII': {'PYTHONUTF8': '0', 'LC_ALL': 'POSIX', 'PYTHONIOENCODING': 'ascii'},
            'COLUMNS of 1': {'COLUMNS': '1'},
            'OMP_NUM_THREADS is no number': {'OMP_NUM_THREADS': 'x'},
            'warnings are errors': {'PYTHONWARNINGS': 'error::ResourceWarning'},
        }
        for what, changed in variables.items():
            yield Case(
                'environment',
                f'{what}, {entry}',
                line,
                status=(good,),
                environment=changed,
                outputs=OUTPUTS,
                max_lines=14,
            )
        limits = {
            '40 open files': 'ulimit -n 40; $COMMAND',
            '10 open files': 'ulimit -n 10; $COMMAND',
            'files of 1 KB': 'ulimit -f 1; $COMMAND',
            '1 GB of memory': 'ulimit -v 1000000; $COMMAND',
            '300 MB of memory': 'ulimit -v 300000; $COMMAND',
            'a closed working folder': 'cd {here}; $COMMAND',
        }
        for what, shell in limits.items():
            yield Case(
                'limits',
                f'{what}, {entry}',
                line,
                status=(good, 0, 1, 2, -signal.SIGXFSZ, 128 + signal.SIGXFSZ),
                shell=shell,
                outputs=OUTPUTS,
                max_lines=14,
            )

    def gone(here: Path) -> None:
        (here / 'gone').mkdir()

    for entry, line in entries.items():
        yield Case(
            'environment',
            f'the working folder is gone, {entry}',
            line,
            gone,
            (normal.get(entry, 0), 2),
            shell='cd {here}/gone; rmdir {here}/gone; $COMMAND',
            outputs=(*OUTPUTS, 'gone'),
            max_lines=14,
        )
    yield from _telemetry(base)


def _telemetry(base: Base) -> Iterator[Case]:
    """No connection is opened, no name looked up, nothing written outside."""
    if subprocess.run(['which', 'strace'], capture_output=True).returncode:
        return
    entries = {
        'demo': base.demo(),
        'eval': base.eval(),
        'train': base.train(),
        'export': base.export(),
        'samples': base.samples(),
        'anchors': base.anchors(),
        'demo --precision bf16': base.demo(precision='bf16'),
    }
    for entry, line in entries.items():

        def quiet(here: Path) -> str:
            trace = here.with_name(here.name + '.trace')
            lines = trace.read_text(errors='replace').splitlines() if trace.exists() else ['no trace']
            trace.unlink(missing_ok=True)
            found = [one for one in lines if ('connect(' in one or 'sendto(' in one) and 'AF_INET' in one]
            made = [
                one
                for one in lines
                if 'openat(' in one
                and ('O_CREAT' in one)
                and ' = -1 ' not in one
                and not any(place in one for place in (str(here), '/dev/', '/proc/', '/tmp/'))
            ]
            documented = '.cache', '.config/matplotlib'  # in SECURITY.md
            home = [path for path in (here / 'home').rglob('*')
                    if not path.is_dir() and not str(path.relative_to(here / 'home')).startswith(documented)]
            return f'{[*found[:2], *made[:2], *home[:2]]}' if found or made or home else ''

        yield Case(
            'connections',
            entry,
            line,
            lambda here: (here / 'home').mkdir(),
            (0, 2),
            outputs=(*OUTPUTS, 'home/.cache*', 'home/.config*'),
            max_lines=14,
            check=quiet,
            shell='HOME={here}/home strace -f -qq -e trace=connect,sendto,openat -o {here}.trace $COMMAND',
            max_seconds=180,
        )
