"""Images → what is found in them, with everything else done while the network is busy."""
import functools
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from data.images import ImageError
from system.worker_pool import parallel_map

READERS, PREFETCHED_BATCHES = 4, 4


def predict(predictor, batches, describe, workers=0):
    """What is found in the images of a dataset, batch by batch.

    Threads read images and bring them to the network's size, this one has the network, a thread sorts out what it
    said, and processes describe that. A few batches more than the processes take are under way at any time, no more.

    Args:
        predictor: `Predictor`.
        batches: iterable of lists of `ImageRecord`, that go through the network together.
        describe: what to make of an `ImageRecord` and its `Detections`; picklable where processes cannot be forked.
        workers: number of processes; 0 describes in this one, in between.
    Yields:
        For each batch what `describe` made, a list, and a list of str, a line for each image that is left out
        because it cannot be read or is not of the size that the annotation file says.
    Raises:
        UserError: as in `workers.parallel_map`.
    """
    return parallel_map(functools.partial(_describe, describe), _find(predictor, batches), workers)


def in_batches(images, size):
    """Lists of so many images, the last of which may have fewer."""
    return [images[first:first + size] for first in range(0, len(images), size)]


def _find(predictor, batches):
    """For each batch its images that can be read, their `LowResolutionDetections`, and a line for each of the others."""
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(1) as sorter:
        def read(batch):
            return readers.map(functools.partial(_read, predictor), batch)

        def forward(reading):
            parts = list(reading)
            good = [(image, prepared) for image, prepared, problem in parts if problem is None]
            outputs = predictor.forward([prepared for _, prepared in good]) if good else []
            images = [image for image, _ in good]
            return (images, sorter.map(functools.partial(_sort_out, predictor), images, outputs),
                    [problem for *_, problem in parts if problem is not None])
        for images, sorting, problems in _ahead(forward, _ahead(read, batches, PREFETCHED_BATCHES), 1):
            yield images, [predictor.rescore(small, masks) for small, masks in sorting], problems


def _ahead(begin, items, number):
    """What is begun with each item, handed on when as many more have been begun."""
    begun = deque()
    for item in items:
        begun.append(begin(item))
        if len(begun) > number:
            yield begun.popleft()
    yield from begun


def _read(predictor, image):
    try:
        return image, predictor.prepare(image.read()), None
    except ImageError as problem:
        return image, None, str(problem)


def _sort_out(predictor, image, outputs):
    small = predictor.detect(outputs, (image.height, image.width))
    return small, predictor.to_rescore(small)


def _describe(describe, found):
    images, detections, problems = found
    return [describe(image, small.full()) for image, small in zip(images, detections, strict=True)], problems
