"""Segmentations in COCO's two notations, polygons and run-length encoding (RLE), and their masks."""
from collections.abc import Sequence
from typing import Any, TypedDict, cast

import cv2
import numpy as np
from pycocotools import mask as mask_api


class RLE(TypedDict):
    """A compressed RLE, as pycocotools has it.

    Attributes:
        size: height and width of the image.
        counts: the compressed run lengths.
    """
    size: list[int]
    counts: bytes


Segmentation = list[np.ndarray] | RLE  # polygons, each float64 [m, 2], x y in pixels; or a compressed RLE


def rasterise(segmentation: Segmentation, size: tuple[int, int], transform: np.ndarray | None = None) -> np.ndarray:
    """The mask of one segmentation on a grid of pixels.

    Coordinates are continuous: pixel corners are integers, and a grid spans [0, width] x [0, height].

    Args:
        segmentation: polygons, each float [m, 2] or [2m], x y in pixels; or a compressed RLE.
        size: (height, width) of the grid.
        transform: float [2, 3], the affine from the image's coordinates to the grid's. None is the identity, and
            polygons then give exactly the mask that pycocotools evaluates with.
    Returns:
        bool [height, width].
    """
    if isinstance(segmentation, dict):
        return _warp(decode(segmentation), size, transform)
    return decode(encode_polygons(segmentation, size, transform)).astype(bool, order='C')


def encode(segmentation: Segmentation, size: tuple[int, int], transform: np.ndarray | None = None) -> RLE:
    """The mask of `rasterise` as a compressed RLE, which takes less time for polygons."""
    if isinstance(segmentation, dict):
        return encode_mask(_warp(decode(segmentation), size, transform))
    return encode_polygons(segmentation, size, transform)


def encode_polygons(polygons: list[np.ndarray], size: tuple[int, int], transform: np.ndarray | None = None) -> RLE:
    """The mask of polygons as a compressed RLE. Arguments as in `rasterise`."""
    height, width = size
    on_grid = [_to_grid(np.asarray(polygon, np.float64).reshape(-1, 2), size, transform) for polygon in polygons]
    flat: Any = [polygon.ravel() for polygon in on_grid if len(polygon) >= 3]
    if not flat:
        return compress([height * width], size)
    return cast(RLE, mask_api.merge(mask_api.frPyObjects(flat, height, width)))


def encode_mask(mask: np.ndarray) -> RLE:
    """A mask, bool [h, w], as a compressed RLE."""
    return cast(RLE, mask_api.encode(np.asfortranarray(mask, np.uint8)))


def join_parts(parts: Sequence[Segmentation], size: tuple[int, int]) -> Segmentation:
    """The segmentation of an object that has several: polygons if all are, otherwise a compressed RLE.

    Args:
        parts: its segmentations, at least one.
        size: (height, width) of the image.
    """
    if len(parts) == 1:
        return parts[0]
    polygons = [polygon for part in parts if isinstance(part, list) for polygon in part]
    if not any(isinstance(part, dict) for part in parts):
        return polygons
    return union([part if isinstance(part, dict) else encode_polygons(part, size) for part in parts])


def regions(values: np.ndarray) -> dict[int, np.ndarray]:
    """The pixels of each value in an image, int [h, w]: their positions, int [n], ascending, column by column."""
    column_by_column = values.ravel('F')
    order = np.argsort(column_by_column, kind='stable')
    found, starts = np.unique(column_by_column[order], return_index=True)
    return dict(zip(found.tolist(), np.split(order, starts[1:])))


def encode_pixels(pixels: np.ndarray, size: tuple[int, int]) -> RLE:
    """A mask as a compressed RLE, from its pixels, one or more, as of `regions`, and its (height, width)."""
    breaks = np.flatnonzero(np.diff(pixels) != 1) + 1
    first = pixels[np.concatenate([[0], breaks])]
    end = pixels[np.concatenate([breaks, [len(pixels)]]) - 1] + 1
    edges = np.stack([first, end], 1).ravel()
    return compress(np.diff(edges, prepend=0, append=size[0] * size[1]).tolist(), size)


def decode(rle: RLE) -> np.ndarray:
    """A compressed RLE as uint8 [h, w] of 0 and 1."""
    return mask_api.decode(cast(Any, rle))


def decode_all(rles: Sequence[RLE], size: int) -> np.ndarray:
    """Compressed RLEs of size × size pixels as bool [n, size, size]."""
    masks = np.empty((len(rles), size, size), bool)
    for mask, rle in zip(masks, rles):
        mask[:] = decode(rle)
    return masks


def area(rle: RLE) -> float:
    """The number of pixels in a compressed RLE."""
    return float(mask_api.area(cast(Any, rle)))


def intersection(one: RLE, other: RLE) -> RLE:
    """The pixels that are in both of two compressed RLEs of one size."""
    return cast(RLE, mask_api.merge(cast(Any, [one, other]), intersect=True))


def union(rles: Sequence[RLE]) -> RLE:
    """The pixels that are in any of some compressed RLEs of one size, at least one."""
    return cast(RLE, mask_api.merge(cast(Any, rles)))


def bounding_box(rle: RLE) -> list[float]:
    """The tight box around a compressed RLE: x y width height in pixels."""
    return mask_api.toBbox(cast(Any, rle)).tolist()


def compress(counts: object, size: Sequence[int]) -> RLE:
    """A checked, compressed RLE. pycocotools itself reads past the end of one that is too short.

    Args:
        counts: list of int, the run lengths, column by column, the first one outside the object; or str, the same
            compressed.
        size: (height, width) of the image.
    Raises:
        ValueError: the run lengths are malformed, or do not sum to the number of the image's pixels.
    """
    height, width = size
    if isinstance(counts, list):
        if not all(type(run) is int for run in counts):
            raise ValueError('an RLE whose counts are not whole numbers')
        runs = counts
    elif isinstance(counts, str):
        runs = decompress(counts)
    else:
        raise ValueError('an RLE without counts')
    if min(runs, default=0) < 0:
        raise ValueError('an RLE with a negative count')
    if sum(runs) != height * width:
        raise ValueError(f'an RLE of {sum(runs)} pixels for an image of {height * width}')
    if isinstance(counts, list):
        uncompressed: Any = {'size': [height, width], 'counts': counts}
        return cast(RLE, mask_api.frPyObjects(uncompressed, height, width))
    return {'size': [height, width], 'counts': counts.encode('ascii')}


def decompress(counts: str) -> list[int]:
    """The run lengths of a compressed RLE.

    A character holds five bits of a number, lowest first, and a sixth that says whether more follow. From the fourth
    run on, a number is the difference from the run two before.

    Numbers of an image's run lengths have six characters at most (`annotation_file.MAX_PIXELS` sees to that).
    pycocotools reads longer ones, though padded with nothing but zeros, as other numbers, since its shifts overflow,
    and would write past the end of the mask.

    Raises:
        ValueError: the counts are malformed.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
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


def _to_grid(points: np.ndarray, size: tuple[int, int], transform: np.ndarray | None) -> np.ndarray:
    """A polygon [m, 2] in the grid's coordinates, clipped to an area three times as wide and as high as the grid."""
    if transform is not None:
        transform = np.asarray(transform, np.float64)
        points = points @ transform[:, :2].T + transform[:, 2]
    grid = np.array([size[1], size[0]], np.float64)
    points = _clip(points, -grid, 2 * grid)
    return points if transform is None else _snap(points)


def _clip(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The part of a polygon within a rectangle, float [m', 2] (Sutherland and Hodgman, 1974).

    The work and memory of pycocotools grow with a polygon's circumference, and its integers overflow.
    """
    if ((low <= points) & (points <= high)).all():
        return points
    for axis in (0, 1):
        for sign, limit in ((1, high[axis]), (-1, -low[axis])):
            excess = sign * points[:, axis] - limit
            if (excess > 0).any():
                points = _clip_to_half_plane(points, excess)
    return points


def _clip_to_half_plane(points: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """The part of a polygon where excess, float [m], is at most 0. It is linear along the edges."""
    inside = excess <= 0
    crosses = inside != np.roll(inside, -1)
    share = np.divide(excess, excess - np.roll(excess, -1), out=np.zeros_like(excess), where=crosses)
    crossings = points + share[:, None] * (np.roll(points, -1, axis=0) - points)
    candidates = np.stack([points, crossings], axis=1)
    return candidates[np.stack([inside, crosses], axis=1)]


def _snap(points: np.ndarray) -> np.ndarray:
    """Points on the lattice of fifths of a pixel that pycocotools works on.

    It rounds by truncation, which is the wrong way for the negative coordinates left of and above the grid. Three
    quarters of a step make up for that, so the mask of a crop is the cropped mask.
    """
    fifths = np.floor(points * 5 + 0.5)
    return np.where(fifths < 0, fifths - 0.75, fifths) / 5


def _warp(mask: np.ndarray, size: tuple[int, int], transform: np.ndarray | None) -> np.ndarray:
    """A mask, uint8 of 0 and 1, on another grid: bool [height, width]."""
    height, width = size
    matrix = np.eye(2, 3) if transform is None else np.array(transform, np.float64)
    # OpenCV's integers are the centres of pixels, ours are corners.
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return cv2.warpAffine(mask * np.uint8(255), matrix, (width, height), flags=cv2.INTER_LINEAR) >= 128
