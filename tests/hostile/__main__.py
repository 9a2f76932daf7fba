"""Runs the cases in two processes, and writes the table."""

import argparse
import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from tests.helpers import ROOT
from tests.hostile.base import Base, make_base
from tests.hostile.case import Case, run_case, snapshot

MODULES = ('annotations', 'images', 'weights', 'outputs', 'system', 'flags', 'names')
PROCESSES = 2


def all_cases(base: Base) -> list[Case]:
    """Every case, names unique within their kind."""
    cases = [case for module in MODULES for case in importlib.import_module(f'tests.hostile.{module}').cases(base)]
    twice = [name for name, number in Counter((case.kind, case.name) for case in cases).items() if number > 1]
    assert not twice, twice
    return cases


def preload() -> None:
    """What commands import, so that a fork has it already."""
    for name in (
        'cv2',
        'numpy',
        'PIL.Image',
        'onnxruntime',
        'pycocotools.cocoeval',
        'safetensors.numpy',
        'matplotlib.figure',
        'scipy.sparse',
    ):
        importlib.import_module(name)


def _work(cases: list[Case], folder: Path, queue: multiprocessing.Queue) -> None:
    import system  # noqa: F401  which sets up the CPU before Paddle is imported

    preload()
    for number, case in cases:
        try:
            wrong = run_case(case, folder)
        except Exception as error:
            wrong = [f'the case itself failed: {type(error).__name__}: {error}']
        queue.put((number, wrong))


def main() -> int:
    """Run the cases. Returns 0 if enough of them are right: 99% in all, and 95% of each kind."""
    parser = argparse.ArgumentParser(prog='python -m tests.hostile', description=__doc__)
    parser.add_argument('--kind', help='only the kinds that contain this (default: all)')
    parser.add_argument('--name', help='only the names that contain this (default: all)')
    parser.add_argument('--failures', action='store_true', help='tell what was wrong (default: off)')
    parser.add_argument('--table', type=Path, help='write the table here, such as docs/hostile.md (default: none)')
    args = parser.parse_args()
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    with tempfile.TemporaryDirectory() as place:
        base = make_base(Path(place) / 'base')
        before = snapshot(base.folder)
        cases = [
            case
            for case in all_cases(base)
            if (not args.kind or args.kind in case.kind) and (not args.name or args.name in case.name)
        ]
        queue: multiprocessing.Queue = multiprocessing.Queue()
        numbered = list(enumerate(cases))
        workers = [
            multiprocessing.Process(target=_work, args=(numbered[part::PROCESSES], Path(place) / f'cases{part}', queue))
            for part in range(PROCESSES)
        ]
        for worker in workers:
            worker.start()
        for _ in tqdm(cases, disable=None, unit=' cases'):
            number, cases_wrong = queue.get()
            cases[number].wrong = cases_wrong
        for worker in workers:
            worker.join()
        after = snapshot(base.folder)  # a cache of the good checkpoint may be new
        changed = [name for name, state in before.items() if after.get(name) != state]
    table = summarise(cases)
    print('\n'.join(table))
    if changed:
        print('Good inputs were changed:', *changed)
    for case in cases:
        if case.wrong and args.failures:
            print(f'\n{case.kind}: {case.name}\n   ' + '\n   '.join(case.wrong))
    if args.table:
        (ROOT / args.table).write_text('\n'.join(table) + '\n')
    right = Counter(case.kind for case in cases if not case.wrong)
    number = Counter(case.kind for case in cases)
    good = right.total() >= 0.99 * len(cases) and all(right[kind] >= 0.95 * number[kind] for kind in number)
    return 0 if good and not changed else 1


def summarise(cases: list[Case]) -> list[str]:
    """The table, and the names of the cases that are not right."""
    right = Counter(case.kind for case in cases if not case.wrong)
    number = Counter(case.kind for case in cases)
    lines = [
        '# Hostile input',
        '',
        'What every command does with hostile input, against what was fixed beforehand. A case is a distinct input at',
        'an entry point; it is right if the command ends in time, with the expected status and line, no traceback,',
        'and with no file changed but its outputs. `python -m tests.hostile --table docs/hostile.md` runs them.',
        '',
        '| kind | cases | right |',
        '| --- | --- | --- |',
    ]
    lines += [f'| {kind} | {number[kind]} | {right[kind]} |' for kind in sorted(number)]
    lines += [f'| all | {len(cases)} | {right.total()} ({right.total() / max(len(cases), 1):.1%}) |']
    failed = [f'- {case.kind}: {case.name}' for case in cases if case.wrong]
    return lines + (['', 'Not right:', '', *failed] if failed else [])


if __name__ == '__main__':
    sys.exit(main())
