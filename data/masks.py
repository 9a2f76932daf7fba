"""Segmentations in COCO's two notations, polygons and run lengths (RLE), and their pixels."""
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_api


def rasterise(segmentation: Any, size: tuple[int, int], transform: np.ndarray | None = None) -> np.ndarray:
    """The mask of one segmentation on a grid of pixels.

    Coordinates are continuous: pixel corners are integers, and a grid spans [0, width] x [0, height].

    Args:
        segmentation: a list of polygons, each float [m, 2] or [2m], x y in pixels; or a compressed RLE,
            {'size': [h, w], 'counts': bytes}.
        size: (height, width) of the grid.
        transform: float [2, 3], takes coordinates of the image to coordinates of the grid. None leaves
            them, and polygons then give exactly the mask that pycocotools evaluates with.
    Returns:
        bool [height, width].
    """
    if isinstance(segmentation, dict):
        return _warp(_decode(segmentation), size, transform)
    return _decode(encode(segmentation, size, transform)).astype(bool, order='C')


def encode(polygons: list[Any], size: tuple[int, int], transform: np.ndarray | None = None) -> Any:
    """The mask of polygons as a compressed RLE, {'size': [h, w], 'counts': bytes}. Arguments as in `rasterise`."""
    height, width = size
    polygons = [_place(np.asarray(polygon, np.float64).reshape(-1, 2), size, transform) for polygon in polygons]
    polygons = [polygon.ravel() for polygon in polygons if len(polygon) >= 3]
    if not polygons:
        return compress([height * width], size)
    return mask_api.merge(mask_api.frPyObjects(polygons, height, width))


def compress(counts: object, size: Sequence[int]) -> Any:
    """A checked, compressed RLE. pycocotools itself reads past the end of one that is too short.

    Args:
        counts: list of int, the lengths of the runs, column by column, the first one outside the object;
            or str, the same compressed.
        size: (height, width) of the image.
    Returns:
        {'size': [h, w], 'counts': bytes}.
    Raises:
        ValueError: the runs are malformed, or are not as many pixels as the image has.
    """
    height, width = size
    if isinstance(counts, list):
        if not all(type(run) is int for run in counts):
            raise ValueError('an RLE whose counts are not whole numbers')
        runs = counts
    elif isinstance(counts, str):
        runs = _run_lengths(counts)
    else:
        raise ValueError('an RLE without counts')
    if min(runs, default=0) < 0:
        raise ValueError('an RLE with a negative count')
    if sum(runs) != height * width:
        raise ValueError(f'an RLE of {sum(runs)} pixels for an image of {height * width}')
    if isinstance(counts, list):
        uncompressed: Any = {'size': [height, width], 'counts': counts}
        return mask_api.frPyObjects(uncompressed, height, width)
    return {'size': [height, width], 'counts': counts.encode('ascii')}


def _run_lengths(text: str) -> list[int]:
    """The runs of a compressed RLE, a list of int.

    A character holds five bits of a number, lowest first, and a sixth that says whether more follow. From
    the fourth run on, a number is the difference from the run two before.

    Images take six characters a number at most (`coco` sees to that). More of them, which add nothing but zeros, are
    other numbers for pycocotools, whose shifts overflow, and it would write past the end of the mask.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift >= 30:
            raise ValueError('an RLE whose counts are not in the compressed notation')
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError('an RLE whose counts break off')
    return runs


def _place(points: np.ndarray, size: tuple[int, int], transform: np.ndarray | None) -> np.ndarray:
    """A polygon [m, 2] where the grid has it, cut to a surrounding three times the grid's size."""
    if transform is not None:
        transform = np.asarray(transform, np.float64)
        points = points @ transform[:, :2].T + transform[:, 2]
    reach = np.array([size[1], size[0]], np.float64)
    points = _clip(points, -reach, 2 * reach)
    return points if transform is None else _snap(points)


def _clip(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The part of a polygon within a rectangle, float [m', 2] (Sutherland and Hodgman, 1974).

    The work and memory of pycocotools grow with a polygon's circumference, and its integers overflow.
    """
    for axis in (0, 1):
        for sign, limit in ((1, high[axis]), (-1, -low[axis])):
            excess = sign * points[:, axis] - limit
            if (excess > 0).any():
                points = _cut(points, excess)
    return points


def _cut(points: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """The part of a polygon where excess, float [m], is at most 0. It is linear along the edges."""
    inside = excess <= 0
    crosses = inside != np.roll(inside, -1)
    share = np.divide(excess, excess - np.roll(excess, -1), out=np.zeros_like(excess), where=crosses)
    crossings = points + share[:, None] * (np.roll(points, -1, axis=0) - points)
    candidates = np.stack([points, crossings], axis=1)
    return candidates[np.stack([inside, crosses], axis=1)]


def _snap(points: np.ndarray) -> np.ndarray:
    """Points on the lattice of fifths of a pixel that pycocotools works on.

    It rounds by cutting the fraction off, which left of and above the grid goes the wrong way. Three
    quarters of a step make up for that, so the mask of a crop is the cropped mask.
    """
    fifths = np.floor(points * 5 + 0.5)
    return np.where(fifths < 0, fifths - 0.75, fifths) / 5


def _warp(mask: np.ndarray, size: tuple[int, int], transform: np.ndarray | None) -> np.ndarray:
    """A uint8 mask of zeros and ones on another grid, bool [height, width]."""
    height, width = size
    matrix = np.eye(2, 3) if transform is None else np.array(transform, np.float64)
    # OpenCV's integers are the centres of pixels, ours are corners.
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return cv2.warpAffine(mask * np.uint8(255), matrix, (width, height), flags=cv2.INTER_LINEAR) >= 128


def _decode(rle: Any) -> np.ndarray:
    """A compressed RLE as uint8 [h, w] of 0 and 1."""
    return mask_api.decode(rle)
