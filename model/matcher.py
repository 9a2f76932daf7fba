"""Which anchor is to find which object."""
from typing import NamedTuple

import numpy as np

BACKGROUND, IGNORED = 0, -1


class Match(NamedTuple):
    """What each of the a anchors of one image is to learn.

    Attributes:
        labels: int64 [a], class + 1 of a positive anchor, 0 for background, -1 for neither.
        objects: int64 [a], index of the object that overlaps the anchor best (0 where there are no objects).
    """
    labels: np.ndarray
    objects: np.ndarray


def corners(anchors):
    """Anchors, float32 [a, 4] of centre and size, as float32 [a, 4] x0 y0 x1 y1."""
    half = anchors[:, 2:] / 2
    return np.concatenate([anchors[:, :2] - half, anchors[:, :2] + half], 1)


def match(boxes, labels, crowds, anchors, pos_threshold=0.5, neg_threshold=0.4, crowd_threshold=0.7):
    """Match anchors with objects as SSD does (https://arxiv.org/abs/1512.02325, section 2.2).

    An anchor is positive where its best IoU reaches pos_threshold, background below neg_threshold, neutral between.
    Each object also gets an anchor of its own, the best one that is left, the best pair first. An anchor that is
    not positive and lies in a crowd by more than crowd_threshold of its area is neutral.

    Args:
        boxes: float32 [n, 4], x0 y0 x1 y1 relative to the image, with positive sizes.
        labels: int64 [n], classes without background.
        crowds: float32 [c, 4], boxes of crowds.
        anchors: float32 [a, 4], x0 y0 x1 y1 (`corners`).
    Returns:
        `Match`.
    """
    if len(boxes):
        overlaps = iou(boxes, anchors)
        best, objects = overlaps.max(0), overlaps.argmax(0)
        for thing, anchor in _own_anchors(overlaps):
            best[anchor], objects[anchor] = 2, thing
        found = np.where(best < neg_threshold, BACKGROUND, IGNORED)
        found = np.where(best < pos_threshold, found, labels[objects] + 1)
    else:
        objects = found = np.zeros(len(anchors), np.int64)
    if len(crowds):
        inside = (_intersection(crowds, anchors) / _area(anchors)).max(0)
        found = np.where((found <= 0) & (inside > crowd_threshold), IGNORED, found)
    return Match(found.astype(np.int64), objects.astype(np.int64))


class Assignment(NamedTuple):
    """The matches of a batch of n images, as the losses take them (`losses.Targets` says what each field is)."""
    labels: np.ndarray
    positives: np.ndarray
    objects: np.ndarray
    masked: list
    mask_weights: np.ndarray


def assign(matches, counts, rng, max_masks=100):
    """Put the matches of a batch's images together, and draw the positives that learn masks.

    Args:
        matches: `Match` of each image.
        counts: number of objects in each image, crowds apart.
        rng: numpy Generator, used where an image has more than max_masks positives.
        max_masks: how many positives of an image learn masks, at most.
    Returns:
        `Assignment`.
    """
    labels = np.stack([match.labels for match in matches])
    first = np.cumsum([0, *counts])[:-1]
    objects = np.stack([match.objects + start for match, start in zip(matches, first)])
    positives = np.flatnonzero(labels > 0)
    number = (labels > 0).sum(1)
    start = np.cumsum(number) - number
    masked = [np.sort(rng.permutation(n)[:max_masks]) + begin for n, begin in zip(number, start)]
    weights = (np.maximum(number, 1) / np.clip(number, 1, max_masks)).astype(np.float32)
    return Assignment(labels, positives, objects.reshape(-1)[positives], masked, weights)


def iou(boxes, others):
    """Intersection over union of every pair: float32 [n, 4] and [m, 4] to [n, m]."""
    shared = _intersection(boxes, others)
    return shared / (_area(boxes)[:, None] + _area(others) - shared)


def _own_anchors(overlaps):
    """Pairs of an object and an anchor, each of them once, the best overlap first."""
    overlaps = overlaps.copy()
    nearest, height = overlaps.argmax(1), overlaps.max(1)
    for _ in range(len(overlaps)):
        thing = height.argmax()
        anchor = nearest[thing]
        yield thing, anchor
        height[thing] = -np.inf
        overlaps[:, anchor] = -1
        for other in np.flatnonzero((nearest == anchor) & (height >= 0)):
            nearest[other] = overlaps[other].argmax()
            height[other] = overlaps[other, nearest[other]]


def _intersection(boxes, others):
    x0, y0, x1, y1 = np.ascontiguousarray(others.T)  # whole columns, for speed
    width = np.minimum(boxes[:, 2:3], x1) - np.maximum(boxes[:, 0:1], x0)
    height = np.minimum(boxes[:, 3:4], y1) - np.maximum(boxes[:, 1:2], y0)
    return np.maximum(width, 0) * np.maximum(height, 0)


def _area(boxes):
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
