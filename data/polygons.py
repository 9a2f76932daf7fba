"""Outline tracing: masks → polygons."""
from collections.abc import Sequence

import cv2
import numpy as np

TOLERANCE = 0.75  # pixels that a polygon's edge may be away from the mask's


def polygons(mask: np.ndarray, corner: Sequence[int] | np.ndarray = (0, 0),
             tolerance: float = TOLERANCE) -> list[np.ndarray]:
    """The outlines of a mask. Polygons have no holes, so a part with one is cut through it.

    Coordinates are continuous, as in `masks.rasterise`, which makes the mask of them again, but for the tolerance.

    Args:
        mask: bool [h, w].
        corner: x y of its top-left pixel.
        tolerance: pixels that an edge may be away from the mask's; 0 follows every pixel.
    Returns:
        list of float64 [m, 2], x y, m at least 3, largest first.
    """
    found = [outline for part in _without_holes(np.asarray(mask)) for outline in _outlines(part, cv2.RETR_EXTERNAL)]
    return [outline + corner for outline in _in_pixels(found, tolerance)]


def outlines(mask: np.ndarray, tolerance: float = TOLERANCE) -> list[np.ndarray]:
    """The outlines of a mask and of its holes, to be filled by the even-odd rule.

    Args:
        mask: bool [h, w].
        tolerance: as in `polygons`.
    Returns:
        list as of `polygons`.
    """
    return _in_pixels(_outlines(np.asarray(mask), cv2.RETR_CCOMP), tolerance)


def _in_pixels(found: Sequence[np.ndarray], tolerance: float) -> list[np.ndarray]:
    """Outlines in half pixels → simpler ones, largest first."""
    return [_simplify(outline, 2 * tolerance) / 2 for outline in sorted(found, key=cv2.contourArea, reverse=True)]


def _simplify(outline: np.ndarray, tolerance: float) -> np.ndarray:
    simple = cv2.approxPolyDP(outline, tolerance, True)
    return (simple if len(simple) >= 3 else outline)[:, 0]  # of a pixel's four corners two would be left


def _without_holes(mask: np.ndarray) -> list[np.ndarray]:
    """Masks that make up a mask together, none of which has a hole: it is cut through the first one, and so on."""
    parts, whole = [mask], []
    while parts:
        part = parts.pop()
        middle = _middle_of_hole(part)
        if middle is None:
            whole.append(part)
            continue
        left, right = part.copy(), part.copy()
        left[:, middle:] = False
        right[:, :middle] = False
        parts += [right, left]
    return whole


def _middle_of_hole(mask: np.ndarray) -> int | None:
    """The column to cut a hole at, None where there is none."""
    padded = np.pad(mask, 1).astype(np.uint8)
    number, regions, boxes, _ = cv2.connectedComponentsWithStats(1 - padded, connectivity=4)
    holes = [region for region in range(1, number) if region != regions[0, 0]]
    if not holes:
        return None
    x, _, width, _, _ = boxes[holes[0]]
    return min(max(x - 1 + (width + 1) // 2, 1), mask.shape[1] - 1)


def _outlines(mask: np.ndarray, mode: int) -> Sequence[np.ndarray]:
    """The outlines in half pixels, int32 [m, 1, 2]. They go along the corners of pixels, not through their middles."""
    height, width = mask.shape
    corners = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    corners[1::2, 1::2] = mask
    corners = cv2.dilate(corners, np.ones((3, 3), np.uint8))
    return cv2.findContours(corners, mode, cv2.CHAIN_APPROX_SIMPLE)[0]
