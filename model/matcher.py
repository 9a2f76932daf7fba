"""Anchor matching: which anchor learns which ground-truth object."""
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from model.box_iou import box_area, box_iou, intersection

BACKGROUND, IGNORED = 0, -1


class Match(NamedTuple):
    """The targets of the a anchors of one image.

    Attributes:
        labels: int64 [a], class + 1 of a positive anchor, 0 for background, -1 for an ignored anchor.
        matched: int64 [a], index of the ground-truth object that overlaps the anchor best (0 where there is none).
    """
    labels: np.ndarray
    matched: np.ndarray


def corners(anchors: np.ndarray) -> np.ndarray:
    """Anchors, float32 [a, 4] of centre and size, as float32 [a, 4] x0 y0 x1 y1."""
    half = anchors[:, 2:] / 2
    return np.concatenate([anchors[:, :2] - half, anchors[:, :2] + half], 1)


def match(boxes: np.ndarray, labels: np.ndarray, crowds: np.ndarray, anchors: np.ndarray, pos_threshold: float = 0.5,
          neg_threshold: float = 0.4, crowd_threshold: float = 0.7) -> Match:
    """Match anchors with ground-truth objects as SSD does (https://arxiv.org/abs/1512.02325, section 2.2).

    An anchor is positive where its best IoU reaches pos_threshold, background below neg_threshold, ignored between.
    Each object also gets an anchor of its own, the best one that is left, the best pair first. An anchor that is
    not positive and lies in a crowd by more than crowd_threshold of its area is ignored.

    Args:
        boxes: float32 [n, 4], x0 y0 x1 y1 relative to the image, with positive sizes.
        labels: int64 [n], classes without background.
        crowds: float32 [c, 4], boxes of crowds.
        anchors: float32 [a, 4], x0 y0 x1 y1 (`corners`).
    Returns:
        `Match`.
    """
    if len(boxes):
        overlaps = box_iou(boxes, anchors)
        best, matched = _best_objects(overlaps)
        for index, anchor in _best_pairs(overlaps):
            best[anchor], matched[anchor] = 2, index
        found = np.where(best < neg_threshold, BACKGROUND, IGNORED)
        found = np.where(best < pos_threshold, found, labels[matched] + 1)
    else:
        matched = found = np.zeros(len(anchors), np.int64)
    if len(crowds):
        inside = (intersection(crowds, anchors) / box_area(anchors)).max(0)
        found = np.where((found <= 0) & (inside > crowd_threshold), IGNORED, found)
    return Match(found.astype(np.int64), matched.astype(np.int64))


class Assignment(NamedTuple):
    """The matches of a batch of n images, as the losses take them (`losses.Targets` says what each field is)."""
    labels: np.ndarray
    positives: np.ndarray
    matched: np.ndarray
    masked: list[np.ndarray]
    mask_weights: np.ndarray


def assign(matches: Sequence[Match], counts: Sequence[int], rng: np.random.Generator,
           max_masks: int = 100) -> Assignment:
    """Put the matches of a batch's images together, and draw the positives that learn masks.

    Args:
        matches: `Match` of each image.
        counts: number of ground-truth objects in each image, crowds apart.
        rng: used where an image has more than max_masks positives.
        max_masks: how many positives of an image learn masks, at most.
    Returns:
        `Assignment`.
    """
    labels = np.stack([match.labels for match in matches])
    first = np.cumsum([0, *counts])[:-1]
    matched = np.stack([match.matched + start for match, start in zip(matches, first)])
    positives = np.flatnonzero(labels > 0)
    number = (labels > 0).sum(1)
    start = np.cumsum(number) - number
    masked = [np.sort(rng.permutation(n)[:max_masks]) + begin for n, begin in zip(number, start)]
    weights = (np.maximum(number, 1) / np.clip(number, 1, max_masks)).astype(np.float32)
    return Assignment(labels, positives, matched.reshape(-1)[positives], masked, weights)


def _best_objects(overlaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best overlap of each anchor and the first object that has it, of [n, a]. NumPy's argmax takes far longer."""
    best, matched = overlaps[0].copy(), np.zeros(overlaps.shape[1], np.int64)
    for index, row in enumerate(overlaps[1:], 1):
        matched[row > best] = index
        np.maximum(best, row, out=best)
    return best, matched


def _best_pairs(overlaps: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of an object and an anchor, each of them once, the best overlap first. The overlaps are changed."""
    nearest, height = overlaps.argmax(1), overlaps.max(1)
    for _ in range(len(overlaps)):
        index = height.argmax()
        anchor = nearest[index]
        yield index, anchor
        height[index] = -np.inf
        overlaps[:, anchor] = -1
        for other in np.flatnonzero((nearest == anchor) & (height >= 0)):
            nearest[other] = overlaps[other].argmax()
            height[other] = overlaps[other, nearest[other]]
