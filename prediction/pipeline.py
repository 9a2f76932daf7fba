"""Pictures → what is found in them, with everything else done while the network is busy."""
import functools
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from data.images import PictureError
from system.cpu import cores
from system.worker_pool import work_ahead

READERS, BATCHES_READ_AHEAD = 4, 4


def predict(predictor, batches, describe, workers=0):
    """What is found in the pictures of a dataset, batch by batch.

    Threads read pictures and bring them to the network's size, this one has the network, a thread sorts out what it
    said, and processes describe that. A few batches more than the processes take are under way at any time, no more.

    Args:
        predictor: `Predictor`.
        batches: iterable of lists of `Picture`, that go through the network together.
        describe: what to make of a `Picture` and its `Detections`; picklable where processes cannot be forked.
        workers: number of processes; 0 describes in this one, in between.
    Yields:
        For each batch what `describe` made, a list, and a list of str, a line for each picture that is left out
        because it cannot be read or is not of the size that the annotation file says.
    Raises:
        WorkerError: as in `workers.work_ahead`.
    """
    return work_ahead(functools.partial(_describe, describe), _find(predictor, batches), workers)


def in_batches(pictures, size):
    """Lists of so many pictures, the last of which may have fewer."""
    return [pictures[first:first + size] for first in range(0, len(pictures), size)]


def default_workers():
    """How many processes `predict` may well have here."""
    return min(cores(), 6)


def _find(predictor, batches):
    """For each batch its pictures that can be read, their `SmallDetections`, and a line for each of the others."""
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(1) as sorter:
        def read(batch):
            return readers.map(functools.partial(_read, predictor), batch)

        def forward(reading):
            parts = list(reading)
            good = [(picture, prepared) for picture, prepared, problem in parts if problem is None]
            outputs = predictor.forward([prepared for _, prepared in good]) if good else []
            pictures = [picture for picture, _ in good]
            return (pictures, sorter.map(functools.partial(_sort_out, predictor), pictures, outputs),
                    [problem for *_, problem in parts if problem is not None])
        for pictures, sorting, problems in _ahead(forward, _ahead(read, batches, BATCHES_READ_AHEAD), 1):
            yield pictures, [predictor.rescore(small, masks) for small, masks in sorting], problems


def _ahead(begin, items, number):
    """What is begun with each item, handed on when as many more have been begun."""
    begun = deque()
    for item in items:
        begun.append(begin(item))
        if len(begun) > number:
            yield begun.popleft()
    yield from begun


def _read(predictor, picture):
    try:
        return picture, predictor.prepare(picture.read()), None
    except PictureError as problem:
        return picture, None, str(problem)


def _sort_out(predictor, picture, outputs):
    small = predictor.detect(outputs, (picture.height, picture.width))
    return small, predictor.to_rescore(small)


def _describe(describe, found):
    pictures, detections, problems = found
    return [describe(picture, small.full()) for picture, small in zip(pictures, detections, strict=True)], problems
