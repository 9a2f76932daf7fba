"""A short form of `python -m benchmarks.memory`: neither open files nor processes are left behind."""
import itertools

import numpy as np
import psutil
import pytest

from benchmarks.memory import open_files, predictions, samples
from system.worker_pool import parallel_map


@pytest.mark.parametrize('work, number', [('samples', 400), ('onnx', 60), ('paddle', 12)])
def test_open_files_do_not_grow_with_samples_or_predictions(tmp_path, work, number):
    if work == 'onnx':
        pytest.importorskip('onnxruntime')
    working = samples(tmp_path) if work == 'samples' else predictions(work)
    seen = [open_files() for _ in itertools.islice(working, number)]
    working.close()
    assert min(seen[-number // 4:]) <= max(seen[:number // 4])  # a worker may just be reading an image
    assert not psutil.Process().children()


def inverse(item):
    return np.ones(10) * (1 // item)


@pytest.mark.parametrize('end', ['left early', 'failed', 'over'])
def test_neither_open_files_nor_processes_are_left_behind_however_an_iteration_ends(end):
    seen = []
    for _ in range(20):
        work = parallel_map(inverse, [1, 2, 3, 0 if end == 'failed' else 4, 5, 6], 2)
        next(work)
        if end == 'left early':
            work.close()
        elif end == 'failed':
            with pytest.raises(ZeroDivisionError):
                list(work)
        else:
            assert len(list(work)) == 5
        seen.append(open_files())
    assert set(seen) == {seen[0]}
    assert not psutil.Process().children()
