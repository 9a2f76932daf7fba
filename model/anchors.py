"""Anchors: the boxes that predictions are offsets from."""
import math

import numpy as np

from model.config import PUBLISHED_SIZE, Config

VARIANCES = (0.1, 0.2)  # SSD, https://arxiv.org/abs/1512.02325: of the centre and of the logarithm of the size
MAX_LOG_SCALE = math.log(1000 / 16)  # of a box to its anchor; the exponential of a wild prediction is infinite


def anchors(config: Config) -> np.ndarray:
    """All anchors of a network, in the order of its outputs: by level, row, column, size, aspect ratio.

    Their pixel sizes scale with the input and are cut to whole pixels before the octave's scales, as the
    published 400 and 700 pixel networks have it.

    Args:
        config: `Config`.
    Returns:
        float32 [a, 4], centre x, centre y, width, height, relative to the image.
    """
    levels = [_level(shapes.reshape(-1, 2), cells) for shapes, cells in zip(anchor_shapes(config), config.level_sizes)]
    return np.concatenate(levels).astype(np.float32)


def anchor_shapes(config: Config) -> np.ndarray:
    """Width and height of anchors relative to the image, float64 [levels, sizes, aspect ratios, 2]."""
    return np.array([_shapes(config, base) for base in config.anchor_sizes])


def _level(shapes: np.ndarray, cells: int) -> np.ndarray:
    """Anchors with shapes, [k, 2], at the centre of each of cells × cells, float64 [cells² × k, 4]."""
    centres = (np.arange(cells) + 0.5) / cells
    y, x, index = np.meshgrid(centres, centres, np.arange(len(shapes)), indexing='ij')
    return np.stack([x.ravel(), y.ravel(), *shapes[index.ravel()].T], 1)


def _shapes(config: Config, base: float) -> list[list[tuple[float, float]]]:
    pixels = int(base * config.input_size / PUBLISHED_SIZE)
    shapes = []
    for scale in range(config.anchor_scales):
        side = pixels * 2 ** (scale / config.anchor_scales) / config.input_size
        widths = [side * ratio ** 0.5 for ratio in config.aspect_ratios]
        shapes.append([(width, width if config.square_anchors else side / ratio ** 0.5)
                       for width, ratio in zip(widths, config.aspect_ratios)])
    return shapes
