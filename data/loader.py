"""Samples → batches, read ahead by worker processes, the same ones whenever training gets there."""
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from data.augment import make_sample
from data.coco import CocoDataset
from data.pictures import PictureError
from model.anchors import anchors
from model.config import Config
from model.matcher import Assignment, assign, corners, match

TRIES = 20  # other pictures to draw in a row before a dataset is given up as unreadable
DEATHS = 3  # of worker processes, one after another over the same step, before the run is given up


class LoaderError(RuntimeError):
    """Batches cannot be made any more. The message is one line for the user."""


class Batch(NamedTuple):
    """What one training step takes. n pictures, m objects.

    Attributes:
        image_ids: of the n pictures.
        pictures: uint8 [n, size, size, 3], BGR.
        boxes: float32 [m, 4], x0 y0 x1 y1 relative to their picture.
        classes: int64 [m], without background.
        masks: uint8 [m, p, p], 0 and 1, at the size of the prototypes.
        semantic: uint8 [n, classes, p / 2, p / 2], 0 and 1.
        assignment: `Assignment` of anchors to objects.
        problems: list of str, a line for each picture that could not be read; another one took its place.
    """
    image_ids: list
    pictures: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    masks: np.ndarray
    semantic: np.ndarray
    assignment: Assignment
    problems: list


@dataclass
class Batches:
    """The batches of a training run, one for each step, a function of the seed and of the step alone.

    Pictures come in a new random order each epoch. A run that is resumed at a step sees what it would have seen.

    Args:
        dataset: `CocoDataset`.
        config: the network's `Config`.
        batch_size: pictures in a batch.
        seed: of order and augmentation.
        pos_threshold, neg_threshold: IoU from which an anchor is positive, and under which it is background.
        part, parts: which part of a step's pictures, and of how many, each batch is: one process's share.
    """
    dataset: CocoDataset
    config: Config
    batch_size: int
    seed: int = 0
    pos_threshold: float = 0.5
    neg_threshold: float = 0.4
    part: int = 0
    parts: int = 1

    def __post_init__(self):
        self.anchors = corners(anchors(self.config))

    def epoch(self, step):
        """Which epoch a step belongs to, from 0."""
        return step * self.batch_size * self.parts // len(self.dataset)

    def __getitem__(self, step):
        """The `Batch` of a step, from 0."""
        samples, ids, problems = [], [], []
        first = (step * self.parts + self.part) * self.batch_size
        for position in range(first, first + self.batch_size):
            rng = np.random.default_rng((self.seed, 1, position))
            picture, sample = self._sample(self._index(position), rng, problems)
            ids.append(picture.id)
            samples.append(sample)
        return self._collate(ids, samples, problems, np.random.default_rng((self.seed, 2, step, self.part)))

    def read_ahead(self, first, last, workers=0):
        """The batches of steps first to last - 1, made by worker processes while the caller trains.

        Args:
            first, last: steps.
            workers: number of processes; 0 makes each batch when it is asked for.
        Yields:
            `Batch`.
        Raises:
            LoaderError: worker processes die again and again, as when memory runs out.
        """
        if not workers:
            yield from map(self.__getitem__, range(first, last))
            return
        deaths = 0
        while first < last:
            try:
                for batch in self._made_by_workers(first, last, workers):
                    yield batch
                    first, deaths = first + 1, 0
            except BrokenProcessPool:
                deaths += 1
                if deaths == DEATHS:
                    raise LoaderError('processes that load pictures were killed again and again; is there enough '
                                      'memory? Fewer --num_workers need less') from None
                tqdm.write('a process that loads pictures was killed; loading goes on with new ones', file=sys.stderr)

    def _made_by_workers(self, first, last, workers):
        # Forked workers share the annotations' memory with this process.
        method = 'fork' if 'fork' in multiprocessing.get_all_start_methods() else 'spawn'
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context(method), _start_worker, (self,))
        try:
            waiting = deque()
            for step in range(first, last):
                waiting.append(pool.submit(_work, step))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _index(self, position):
        """Which picture stands at a position of the endless stream of epochs."""
        epoch, place = divmod(position, len(self.dataset))
        if epoch != getattr(self, '_shuffled', (None,))[0]:
            order = np.random.default_rng((self.seed, 0, epoch)).permutation(len(self.dataset))
            self._shuffled = epoch, order
        return self._shuffled[1][place]

    def _sample(self, index, rng, problems):
        for _ in range(TRIES):
            picture = self.dataset.images[index]
            try:
                return picture, make_sample(picture.read(), self.dataset.objects(index), self.config, rng)
            except PictureError as problem:
                problems.append(str(problem))
                index = rng.integers(len(self.dataset))
        raise PictureError(f'{TRIES} pictures in a row could not be read, the last one: {problems[-1]}')

    def _collate(self, ids, samples, problems, rng):
        matches = [match(sample.boxes, sample.labels, sample.crowds, self.anchors,
                         self.pos_threshold, self.neg_threshold) for sample in samples]
        assignment = assign(matches, [len(sample.boxes) for sample in samples], rng)
        return Batch(ids,
                     np.stack([sample.picture for sample in samples]),
                     np.concatenate([sample.boxes for sample in samples]),
                     np.concatenate([sample.labels for sample in samples]),
                     np.concatenate([sample.masks for sample in samples]).astype(np.uint8),
                     np.stack([sample.semantic for sample in samples]).astype(np.uint8),
                     assignment, problems)


def _start_worker(batches):
    global _batches
    _batches = batches
    cv2.setNumThreads(0)
    # Ctrl-C and a kill of the process group are for the training process, which needs its workers to stop well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(os, 'setpgrp'):
        os.setpgrp()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    """Without this, workers would outlive a training process that is killed."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(step):
    return _batches[step]
