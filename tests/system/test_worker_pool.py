import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from system.errors import UserError
from system.worker_pool import MAX_RESTARTS, parallel_map
from tests.helpers import ROOT

SIZE = 1_000_000  # of an array that is larger than a pipe's buffer


def large_array(item: int) -> np.ndarray:
    time.sleep(0.01)
    return np.full(SIZE, item)


@pytest.mark.parametrize('workers', [0, 1, 3])
def test_results_come_in_order(workers):
    assert [result[0] for result in parallel_map(large_array, range(12), workers)] == list(range(12))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize('workers', [0, 2])
def test_an_error_reaches_the_caller(workers):
    results = parallel_map((3).__rfloordiv__, [6, 5], workers)
    assert list(results) == [2, 1]
    with pytest.raises(TypeError):
        list(parallel_map(len, [[1], 5], workers))


@pytest.mark.parametrize('workers, ahead', [(0, 0), (2, 4)])
def test_items_are_consumed_a_little_ahead_of_the_results(workers, ahead):
    consumed = []

    def items():
        for item in range(50):
            consumed.append(item)
            yield item
    results = parallel_map(abs, items(), workers)
    for number in range(1, 10):
        next(results)
        assert len(consumed) == number + ahead
    results.close()


def test_workers_that_are_killed_over_and_over_cost_nothing_but_time(capsys):
    rng, killed, found = np.random.default_rng(0), 0, []
    for result in parallel_map(large_array, range(60), 2):
        found.append(result[-1])
        if len(found) % 4 == 0:
            time.sleep(0.03 * rng.random())  # at any moment: while it waits, computes or sends
            os.kill(rng.choice(multiprocessing.active_children()).pid, signal.SIGKILL)
            killed += 1
    assert found == list(range(60))
    lines = capsys.readouterr().err.splitlines()
    assert 0 < len(lines) <= killed  # one may be killed twice, and the last ones may have had no more items
    assert set(lines) == {'a worker process was killed; work goes on with a new one'}


def test_workers_end_with_a_parent_that_is_killed():
    script = ('import time; from system.worker_pool import parallel_map; import multiprocessing\n'
              'next(parallel_map(abs, range(9), 3))\n'
              'results = parallel_map(abs, range(9), 3); next(results)\n'
              'print(*(child.pid for child in multiprocessing.active_children()), flush=True); time.sleep(60)')
    process = subprocess.Popen([sys.executable, '-c', script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 3
    process.kill()
    assert process.stdout.read() == ''  # it ends when the last of the workers does, which all hold it
    process.wait()


def kill_itself(item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_item_that_kills_every_worker_is_given_up(capsys):
    with pytest.raises(UserError, match='killed again and again'):
        list(parallel_map(kill_itself, [0], 2))
    assert not multiprocessing.active_children()
    assert capsys.readouterr().err.count('a worker process was killed') == MAX_RESTARTS
    with pytest.raises(UserError, match='killed again and again'):
        list(parallel_map(kill_itself, range(2), 2))
    assert not multiprocessing.active_children()


def test_leaving_early_ends_the_workers():
    results = parallel_map(large_array, range(1000), 2)
    next(results)
    results.close()
    assert not multiprocessing.active_children()
