"""Samples → batches, prefetched by worker processes. Batches depend only on seed and step."""
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data.annotation_file import ImageRecord
from data.augmentation import Sample, make_sample
from data.coco import CocoDataset, Objects
from data.images import ImageError
from model.anchors import anchors
from model.config import Config
from model.matcher import Assignment, assign, corners, match
from system.worker_pool import parallel_map

MAX_OBJECTS = 5000  # in an image; the IoU matrix of 100,000 with all anchors takes all memory
MAX_UNREADABLE = 20  # images in a row before a dataset is given up as unreadable


class Batch(NamedTuple):
    """What one training step takes. n images, m objects.

    Attributes:
        image_ids: of the n images.
        images: uint8 [n, size, size, 3], BGR.
        boxes: float32 [m, 4], x0 y0 x1 y1 relative to their image.
        classes: int64 [m], without background.
        masks: uint8 [m, p, p], 0 and 1, at the size of the prototypes.
        semantic: uint8 [n, classes, p / 2, p / 2], 0 and 1.
        assignment: `Assignment` of anchors to objects.
        problems: list of str, a line for each image that could not be read; another one took its place.
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
    """The batches of a training run, one for each step, a function of the seed and of the step alone.

    Images come in a new random order each epoch. A run that is resumed at a step sees what it would have seen.

    Args:
        dataset: `CocoDataset`.
        config: the network's `Config`.
        batch_size: images in a batch.
        seed: of order and augmentation.
        pos_threshold, neg_threshold: IoU from which an anchor is positive, and under which it is background.
        augmentation: as `augment.make_sample` takes it.
        part, parts: which part of a step's images, and of how many, each batch is: one process's share.
    """
    dataset: CocoDataset
    config: Config
    batch_size: int
    seed: int = 0
    pos_threshold: float = 0.5
    neg_threshold: float = 0.4
    augmentation: str = 'full'
    part: int = 0
    parts: int = 1

    def __post_init__(self) -> None:
        self.anchors = corners(anchors(self.config))
        self._shuffled_epoch, self._order = -1, np.zeros(0, np.int64)  # of the epoch at hand

    def epoch(self, step: int) -> int:
        """Which epoch a step belongs to, from 0."""
        return step * self.batch_size * self.parts // len(self.dataset)

    def __getitem__(self, step: int) -> Batch:
        """The `Batch` of a step, from 0."""
        samples: list[Sample] = []
        ids: list[int | str] = []
        problems: list[str] = []
        first = (step * self.parts + self.part) * self.batch_size
        for position in range(first, first + self.batch_size):
            rng = np.random.default_rng((self.seed, 1, position))
            image, sample = self._sample(self._index(position), rng, problems)
            ids.append(image.id)
            samples.append(sample)
        return self.collate(ids, samples, problems, np.random.default_rng((self.seed, 2, step, self.part)))

    def prefetch(self, first: int, last: int, workers: int = 0) -> Iterator[Batch]:
        """The batches of steps first to last - 1, made by worker processes while the caller trains.

        Args:
            first, last: steps.
            workers: number of processes; 0 makes each batch when it is asked for.
        Returns:
            iterator of `Batch`, which raises as `workers.parallel_map` does.
        """
        return parallel_map(self.__getitem__, range(first, last), workers)

    def _index(self, position: int) -> int:
        """Which image stands at a position of the endless stream of epochs."""
        epoch, place = divmod(position, len(self.dataset))
        if epoch != self._shuffled_epoch:
            self._order = np.random.default_rng((self.seed, 0, epoch)).permutation(len(self.dataset))
            self._shuffled_epoch = epoch
        return int(self._order[place])

    def _sample(self, index: int, rng: np.random.Generator, problems: list[str]) -> tuple[ImageRecord, Sample]:
        for _ in range(MAX_UNREADABLE):
            image = self.dataset.images[index]
            try:
                return image, make_sample(image.read(), self._objects(index), self.config, rng, self.augmentation)
            except ImageError as problem:
                problems.append(str(problem))
                index = int(rng.integers(len(self.dataset)))
        raise ImageError(f'{MAX_UNREADABLE} images in a row could not be read, the last one: {problems[-1]}')

    def _objects(self, index: int) -> Objects:
        objects = self.dataset.objects(index)
        if len(objects) > MAX_OBJECTS:
            raise ImageError(f'{self.dataset.images[index].path}: has {len(objects)} objects in the annotations, and '
                             f'{MAX_OBJECTS} can be learnt; cut it into tiles, or correct them')
        return objects

    def collate(self, ids: list[int | str], samples: list[Sample], problems: list[str],
                rng: np.random.Generator) -> Batch:
        """The `Batch` of samples, as `augment.make_sample` makes them; `rng` draws the positives that learn masks."""
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
