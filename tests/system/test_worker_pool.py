import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from system.errors import UserError
from system.worker_pool import parallel_map

LARGE = 1_000_000  # more than a pipe holds


def large(item):
    time.sleep(0.01)
    return np.full(LARGE, item)


@pytest.mark.parametrize('workers', [0, 1, 3])
def test_results_come_in_order(workers):
    assert [result[0] for result in parallel_map(large, range(12), workers)] == list(range(12))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize('workers', [0, 2])
def test_an_error_reaches_the_caller(workers):
    results = parallel_map((3).__rfloordiv__, [6, 5], workers)
    assert list(results) == [2, 1]
    with pytest.raises(TypeError):
        list(parallel_map(len, [[1], 5], workers))


def test_processes_that_are_killed_over_and_over_cost_nothing_but_time(capsys):
    rng, killed, found = np.random.default_rng(0), 0, []
    for result in parallel_map(large, range(60), 2):
        found.append(result[-1])
        if len(found) % 4 == 0:
            time.sleep(0.03 * rng.random())  # at any moment: at rest, at work or handing over
            os.kill(rng.choice(multiprocessing.active_children()).pid, signal.SIGKILL)
            killed += 1
    assert found == list(range(60))
    told = capsys.readouterr().err.splitlines()
    assert 0 < len(told) <= killed  # one may be hit twice, and the last ones may have had no more work
    assert set(told) == {'a worker process was killed; work goes on with a new one'}


def test_workers_end_with_a_process_that_is_killed():
    script = ('import time; from system.worker_pool import parallel_map; import multiprocessing\n'
              'next(parallel_map(abs, range(9), 3))\n'
              'results = parallel_map(abs, range(9), 3); next(results)\n'
              'print(*(child.pid for child in multiprocessing.active_children()), flush=True); time.sleep(60)')
    process = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 3
    process.kill()
    assert process.stdout.read() == ''  # it ends when the last of them ends, who all hold it
    process.wait()


def deadly(item):
    os.kill(os.getpid(), signal.SIGKILL)


def test_work_that_kills_everyone_is_given_up():
    with pytest.raises(UserError, match='killed again and again'):
        list(parallel_map(deadly, range(2), 2))
    assert not multiprocessing.active_children()


def test_leaving_early_ends_the_processes():
    results = parallel_map(large, range(1000), 2)
    next(results)
    results.close()
    assert not multiprocessing.active_children()
