"""Fits the sizes and aspect ratios of a network's anchors to the objects of a dataset."""
import dataclasses

import numpy as np

from model.anchors import anchor_shapes
from model.config import Config

ITERATIONS = 1000
STEP = 0.1  # standard deviation of a change, of the logarithm of a size or of an aspect ratio
MAX_OBJECTS = 2000  # to fit to
CHANGE_COST = 0.002  # IoU, of a change by a factor of e; sizes that no object needs stay
MAX_SIZE_CHANGE = 2.0  # of a pyramid level's anchors, since its receptive field stays what it is
MAX_ASPECT_RATIO = 8.0


def fit_anchors(sizes: np.ndarray, config: Config) -> Config:
    """Fit the anchors of a network to objects: maximise the mean IoU of objects with their best anchors.

    K-means (YOLO9000, https://arxiv.org/abs/1612.08242, section 2) does not know that anchors have the size of their
    pyramid level and share aspect ratios, nor how far apart they are. So the sizes of the levels and the aspect ratios
    are changed at random, and a change is kept where it is for the better.

    Args:
        sizes: float [n, 2], width and height of objects in pixels at the network's input size.
        config: of the network, with the anchors to start from.
    Returns:
        The config with other anchors; the same where none are better.
    """
    rng = np.random.default_rng(0)
    sizes = rng.permutation(sizes[(sizes > 0).all(1)])[:MAX_OBJECTS]
    if not len(sizes):
        return config
    start = np.log([*config.anchor_sizes, *config.aspect_ratios])
    low = np.concatenate([start[:5] - np.log(MAX_SIZE_CHANGE), np.full(len(start) - 5, -np.log(MAX_ASPECT_RATIO))])
    high = np.concatenate([start[:5] + np.log(MAX_SIZE_CHANGE), np.full(len(start) - 5, np.log(MAX_ASPECT_RATIO))])
    best, best_score, fitted = start, expected_ious(sizes, config).mean(), config
    for _ in range(ITERATIONS):
        changed = np.clip(best + rng.normal(0, STEP, len(best)) * (rng.random(len(best)) < 0.5), low, high)
        candidate = dataclasses.replace(config, square_anchors=False,
                                        anchor_sizes=tuple(np.exp(changed[:5]).round(2).tolist()),
                                        aspect_ratios=tuple(np.exp(changed[5:]).round(3).tolist()))
        score = expected_ious(sizes, candidate).mean() - CHANGE_COST * ((changed - start) ** 2).sum()
        if score > best_score:
            best, best_score, fitted = changed, score, candidate
    return fitted


def expected_ious(sizes: np.ndarray, config: Config) -> np.ndarray:
    """IoU of objects with their best anchors, whose centres are a quarter of a cell away in x and in y, as on average.

    Args:
        sizes: as of `fit_anchors`.
    Returns:
        float [n].
    """
    shapes = anchor_shapes(config) * config.input_size
    offsets = np.repeat(config.input_size / np.array(config.level_sizes) / 4, shapes[0].size // 2)
    widths, heights = shapes.reshape(-1, 2).T
    width, height = sizes[:, :1], sizes[:, 1:]
    shared_width = np.minimum(np.minimum(width, widths), (width + widths) / 2 - offsets)
    shared_height = np.minimum(np.minimum(height, heights), (height + heights) / 2 - offsets)
    shared = np.maximum(shared_width, 0) * np.maximum(shared_height, 0)
    return (shared / (width * height + widths * heights - shared)).max(1)
