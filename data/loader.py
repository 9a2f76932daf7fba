"""Samples → batches, prefetched by worker processes. Batches depend only on seed and step."""
import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from data.annotation_file import ImageRecord
from data.augmentation import AUGMENTATIONS, Augmentation, Sample
from data.coco import CocoDataset, Objects
from data.composition import MAX_OBJECTS, Source, compose_sample
from data.images import ImageError
from model.anchors import anchors
from model.config import Config
from model.matcher import Assignment, assign, corners, match
from system.worker_pool import parallel_map

MAX_UNREADABLE = 20  # images in a row after which loading fails
NEIGHBOURS = 8  # images in a row of an epoch's order, which mosaics and pasting combine; so each is decoded about once
MAX_RECENT_BYTES = 2 ** 26  # of decoded images that are kept for that


class Batch(NamedTuple):
    """The input of one training step: n images with m ground-truth objects.

    Attributes:
        image_ids: ids of the n images.
        images: uint8 [n, size, size, 3], BGR.
        boxes: float32 [m, 4], x0 y0 x1 y1 relative to their image.
        classes: int64 [m], from 0, without background.
        masks: uint8 [m, p, p], 0 and 1, at the size of the prototypes.
        semantic: uint8 [n, classes, p / 2, p / 2], 0 and 1: targets of the semantic segmentation loss.
        assignment: `Assignment` of anchors to objects.
        problems: a line for each image that could not be used and was replaced by another one.
    """
    image_ids: list[int | str]
    images: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    masks: np.ndarray
    semantic: np.ndarray
    assignment: Assignment
    problems: list[str]


@dataclass
class Batches:
    """The batches of a training run by step. Batches depend only on seed and step.

    So a resumed run continues with the batches that an uninterrupted run has. Images are shuffled anew each epoch.

    Args:
        dataset: the images and their ground truth.
        config: the network's.
        batch_size: images in a batch, per process.
        seed: of shuffling and augmentation.
        pos_threshold, neg_threshold: IoU from which an anchor is positive, and under which it is background.
        augmentation: an `Augmentation`.
        rank: number of this process, from 0.
        world_size: number of processes, each of which gets other images of a step.
    Attributes:
        anchors: float32 [a, 4], x0 y0 x1 y1 relative to the image.
    """
    dataset: CocoDataset
    config: Config
    batch_size: int
    seed: int = 0
    pos_threshold: float = 0.5
    neg_threshold: float = 0.4
    augmentation: Augmentation = AUGMENTATIONS['full']
    rank: int = 0
    world_size: int = 1
    anchors: np.ndarray = field(init=False, repr=False)
    _recent: dict[int, Source] = field(init=False, repr=False, default_factory=dict)  # by index, oldest first

    def __post_init__(self) -> None:
        self.anchors = corners(anchors(self.config))

    def epoch(self, step: int) -> int:
        """The epoch that a step belongs to, from 0."""
        return step * self.batch_size * self.world_size // len(self.dataset)

    def __getitem__(self, step: int) -> Batch:
        """`batch` with mosaics, if the augmentation has any."""
        return self.batch(step)

    def batch(self, step: int, mosaic: bool = True) -> Batch:
        """The batch of a step, from 0, with or without mosaics.

        Raises:
            ImageError: `MAX_UNREADABLE` images in a row cannot be used.
        """
        samples: list[Sample] = []
        ids: list[int | str] = []
        problems: list[str] = []
        augmentation = self.augmentation if mosaic else dataclasses.replace(self.augmentation, mosaic=0.0)
        first = (step * self.world_size + self.rank) * self.batch_size
        for position in range(first, first + self.batch_size):
            rng = np.random.default_rng((self.seed, 1, position))
            image, sample = self._sample(position, rng, augmentation, problems)
            ids.append(image.id)
            samples.append(sample)
        return self.collate(ids, samples, problems, np.random.default_rng((self.seed, 2, step, self.rank)))

    def prefetch(self, first: int, last: int, workers: int = 0,
                 mosaic: Callable[[int], bool] = lambda step: True) -> Iterator[Batch]:
        """The batches of steps first to last - 1, prefetched by worker processes.

        Args:
            first, last: steps.
            workers: number of processes; 0 makes each batch when it is taken, without prefetching.
            mosaic: whether a step's batch may have mosaics. It is called in this process, a few steps ahead.
        Raises:
            as `parallel_map` does.
        """
        return parallel_map(self._batch_of, ((step, mosaic(step)) for step in range(first, last)), workers)

    def _batch_of(self, step_and_mosaic: tuple[int, bool]) -> Batch:
        return self.batch(*step_and_mosaic)

    def _index(self, position: int) -> int:
        """The index of the image at a position in the sequence of all epochs' images."""
        epoch, place = divmod(position, len(self.dataset))
        return int(_shuffled(len(self.dataset), self.seed, epoch)[place])

    def _sample(self, position: int, rng: np.random.Generator, augmentation: Augmentation,
                problems: list[str]) -> tuple[ImageRecord, Sample]:
        """An image and its `Sample`; where it cannot be used, those of a random other one, and a line in `problems`."""
        index, source = self._read(self._index(position), rng, problems)

        def draw_source() -> Source:
            block, place = divmod(position, NEIGHBOURS)
            neighbour = block * NEIGHBOURS + (place + int(rng.integers(1, NEIGHBOURS))) % NEIGHBOURS
            return self._read(self._index(neighbour), rng, problems)[1]
        return self.dataset.images[index], compose_sample(source, self.config, rng, augmentation, draw_source)

    def _read(self, index: int, rng: np.random.Generator, problems: list[str]) -> tuple[int, Source]:
        """An image and its objects; where they cannot be used, those of a random other one. Returns its index, too."""
        for _ in range(MAX_UNREADABLE):
            try:
                return index, self._load(index)
            except ImageError as error:
                problems.append(str(error))
                index = int(rng.integers(len(self.dataset)))
        raise ImageError(f'{MAX_UNREADABLE} images in a row could not be read, the last one: {problems[-1]}')

    def _load(self, index: int) -> Source:
        """An image and its objects, from memory where they were loaded lately and are combined with others.

        Raises:
            ImageError: they cannot be used.
        """
        if self.augmentation.published:
            return self.dataset.images[index].read(), self._objects(index)
        if index not in self._recent:
            self._recent[index] = self.dataset.images[index].read(), self._objects(index)
        source = self._recent[index]
        while (len(self._recent) > NEIGHBOURS
               or sum(image.nbytes for image, _ in self._recent.values()) > MAX_RECENT_BYTES):
            del self._recent[next(iter(self._recent))]
        return source

    def _objects(self, index: int) -> Objects:
        objects = self.dataset.objects(index)
        if len(objects) > MAX_OBJECTS:
            raise ImageError(f'{self.dataset.images[index].path}: has {len(objects)} annotated objects, more than the '
                             f'{MAX_OBJECTS} that can be trained on; cut it into tiles or correct the annotations')
        return objects

    def collate(self, ids: list[int | str], samples: list[Sample], problems: list[str],
                rng: np.random.Generator) -> Batch:
        """Samples → batch, with their anchors matched. `rng` draws the positives that learn masks."""
        matches = [match(sample.boxes, sample.labels, sample.crowds, self.anchors,
                         self.pos_threshold, self.neg_threshold) for sample in samples]
        assignment = assign(matches, [len(sample.boxes) for sample in samples], rng)
        return Batch(ids,
                     np.stack([sample.image for sample in samples]),
                     np.concatenate([sample.boxes for sample in samples]),
                     np.concatenate([sample.labels for sample in samples]),
                     np.concatenate([sample.masks for sample in samples]).astype(np.uint8),
                     np.stack([sample.semantic for sample in samples]).astype(np.uint8),
                     assignment, problems)


@functools.lru_cache(maxsize=2)  # a batch may straddle two epochs
def _shuffled(length: int, seed: int, epoch: int) -> np.ndarray:
    """The indices of a dataset's images in the order of an epoch, int64 [length]."""
    return np.random.default_rng((seed, 0, epoch)).permutation(length)
