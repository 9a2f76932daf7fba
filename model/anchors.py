"""Anchors: the boxes that predictions are offsets from."""
import numpy as np

from model.config import PUBLISHED_SIZE, Config


def anchors(config: Config) -> np.ndarray:
    """All anchors of a network, in the order of its outputs: by level, row, column, size, aspect ratio.

    Their pixel sizes scale with the input and are cut to whole pixels before the octave's scales, as the
    published 400 and 700 pixel networks have it.

    Args:
        config: `Config`.
    Returns:
        float32 [a, 4], centre x, centre y, width, height, relative to the image.
    """
    levels = [_level(config, base, cells) for base, cells in zip(config.anchor_sizes, config.level_sizes)]
    return np.concatenate(levels).astype(np.float32)


def _level(config: Config, base: float, cells: int) -> np.ndarray:
    shapes = np.array(_shapes(config, base))
    centres = (np.arange(cells) + 0.5) / cells
    y, x, index = np.meshgrid(centres, centres, np.arange(len(shapes)), indexing='ij')
    return np.stack([x.ravel(), y.ravel(), *shapes[index.ravel()].T], 1)


def _shapes(config: Config, base: float) -> list[tuple[float, float]]:
    """Width and height of the anchors of one cell, relative to the image."""
    pixels = int(base * config.input_size / PUBLISHED_SIZE)
    shapes = []
    for scale in range(config.anchor_scales):
        side = pixels * 2 ** (scale / config.anchor_scales) / config.input_size
        for ratio in config.aspect_ratios:
            width = side * ratio ** 0.5
            shapes.append((width, width if config.square_anchors else side / ratio ** 0.5))
    return shapes
