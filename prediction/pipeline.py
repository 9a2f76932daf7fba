"""Prediction on a dataset, with everything else done while the network is busy."""
import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from data.annotation_file import ImageRecord
from data.images import ImageError
from model.postprocess import Detections, LowResolutionDetections
from prediction.predictor import Predictor
from system.worker_pool import parallel_map

READERS, PREFETCHED_BATCHES = 4, 4


class Prepared(NamedTuple):
    """A batch whose images are read and preprocessed.

    Attributes:
        images: those that can be read.
        inputs: float32 [size, size, 3] of each.
        problems: a line for each image that cannot.
    """
    images: list[ImageRecord]
    inputs: list[np.ndarray]
    problems: list[str]


class Predicted(NamedTuple):
    """A batch after the network.

    Attributes:
        images, problems: as of `Prepared`.
        detections: with low-resolution masks, of each image.
    """
    images: list[ImageRecord]
    detections: list[LowResolutionDetections]
    problems: list[str]


def predict_dataset(predictor: Predictor, batches: Iterable[list[ImageRecord]],
                    describe: Callable[[ImageRecord, Detections], Any],
                    workers: int = 0) -> Iterator[tuple[list[Any], list[str]]]:
    """Predictions on the images of a dataset, batch by batch, unfiltered as evaluation takes them.

    Threads read and preprocess images, this thread runs the network, a thread postprocesses, and worker processes
    upsample the masks and describe the detections.

    Args:
        predictor: `Predictor`.
        batches: images that go through the network together.
        describe: what to make of an image and its `Detections`; picklable where processes cannot be forked.
        workers: number of processes; 0 describes in this one.
    Yields:
        For each batch what `describe` made of its images, and a line for each image that cannot be read or is not of
        the size that the annotation file says.
    Raises:
        UserError: as in `parallel_map`.
    """
    return parallel_map(functools.partial(_describe, describe), _predict(predictor, batches), workers)


def split_into_batches(images: list[ImageRecord], size: int) -> list[list[ImageRecord]]:
    """Batches of a size, the last of which may have fewer images."""
    return [images[first:first + size] for first in range(0, len(images), size)]


def _predict(predictor: Predictor, batches: Iterable[list[ImageRecord]]) -> Iterator[Predicted]:
    """The network's stages: reading is ahead by some batches, postprocessing is behind by one."""
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(1) as postprocessor:
        behind: deque[tuple[Prepared, list[Future]]] = deque()
        for prepared in _prefetch(predictor, batches, readers):
            outputs = predictor.forward(prepared.inputs) if prepared.inputs else []
            postprocessing = [postprocessor.submit(_postprocess, predictor, image, one)
                              for image, one in zip(prepared.images, outputs, strict=True)]
            behind.append((prepared, postprocessing))
            if len(behind) > 1:
                yield _rescore(predictor, *behind.popleft())
        while behind:
            yield _rescore(predictor, *behind.popleft())


def _prefetch(predictor: Predictor, batches: Iterable[list[ImageRecord]],
              readers: ThreadPoolExecutor) -> Iterator[Prepared]:
    waiting: deque[tuple[list[ImageRecord], list[Future]]] = deque()
    for batch in batches:
        waiting.append((batch, [readers.submit(_read, predictor, image) for image in batch]))
        if len(waiting) > PREFETCHED_BATCHES:
            yield _gather(*waiting.popleft())
    while waiting:
        yield _gather(*waiting.popleft())


def _gather(batch: list[ImageRecord], reading: list[Future]) -> Prepared:
    prepared = Prepared([], [], [])
    for image, future in zip(batch, reading):
        result = future.result()
        if isinstance(result, ImageError):
            prepared.problems.append(str(result))
        else:
            prepared.images.append(image)
            prepared.inputs.append(result)
    return prepared


def _read(predictor: Predictor, image: ImageRecord) -> np.ndarray | ImageError:
    try:
        return predictor.preprocess(image.read())
    except ImageError as error:
        return error


def _postprocess(predictor: Predictor, image: ImageRecord,
                 outputs: tuple[np.ndarray, ...]) -> tuple[LowResolutionDetections, np.ndarray | None]:
    found = predictor.postprocess(outputs, (image.height, image.width))
    return found, found.pasted_masks() if predictor.config.rescore_masks else None


def _rescore(predictor: Predictor, prepared: Prepared, postprocessing: list[Future]) -> Predicted:
    found = [predictor.rescore(*future.result()) for future in postprocessing]
    return Predicted(prepared.images, found, prepared.problems)


def _describe(describe: Callable[[ImageRecord, Detections], Any], batch: Predicted) -> tuple[list[Any], list[str]]:
    described = [describe(image, found.upsample()) for image, found in zip(batch.images, batch.detections, strict=True)]
    return described, batch.problems
