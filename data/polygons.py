"""Outline tracing: masks → polygons."""
from collections.abc import Sequence

import cv2
import numpy as np

TOLERANCE = 0.75  # pixels that a polygon's edge may be away from the mask's


def polygons(mask: np.ndarray, corner: Sequence[int] | np.ndarray = (0, 0),
             tolerance: float = TOLERANCE) -> list[np.ndarray]:
    """The outlines of a mask. Polygons have no holes, so a component with one is cut through it.

    Coordinates are continuous, as in `masks.rasterise`, which turns the polygons into the mask again, within the
    tolerance.

    Args:
        mask: bool [h, w].
        corner: x y of its top-left pixel.
        tolerance: pixels that an edge may be away from the mask's; 0 follows every pixel.
    Returns:
        list of float64 [m, 2], x y, m at least 3, largest first.
    """
    traced = [outline for part in _split_at_holes(np.asarray(mask)) for outline in trace(part)]
    return [outline + corner for outline in _in_pixels(traced, tolerance)]


def outlines(mask: np.ndarray, tolerance: float = TOLERANCE) -> list[np.ndarray]:
    """The outlines of a mask and of its holes, to be filled by the even-odd rule.

    Args:
        mask: bool [h, w].
        tolerance: as in `polygons`.
    Returns:
        list as of `polygons`.
    """
    return _in_pixels(trace(np.asarray(mask), cv2.RETR_CCOMP), tolerance)


def trace(mask: np.ndarray, retrieval: int = cv2.RETR_EXTERNAL,
          approximation: int = cv2.CHAIN_APPROX_SIMPLE) -> Sequence[np.ndarray]:
    """The outlines of a mask along the edges of its pixels, in half pixels.

    Args:
        mask: bool [h, w].
        retrieval: OpenCV's RETR_EXTERNAL leaves holes out, RETR_CCOMP traces them, too.
        approximation: OpenCV's CHAIN_APPROX_SIMPLE drops points within straight lines, CHAIN_APPROX_NONE keeps all.
    Returns:
        int32 [m, 1, 2] each, x y, which are even at pixel corners.
    """
    # findContours goes through pixel centres, half a pixel inside the mask. On a grid of twice the resolution, with
    # the centres at odd coordinates, a dilated pixel reaches its edges.
    height, width = mask.shape
    grid = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    grid[1::2, 1::2] = mask
    grid = cv2.dilate(grid, np.ones((3, 3), np.uint8))
    return cv2.findContours(grid, retrieval, approximation)[0]


def has_hole(mask: np.ndarray) -> bool:
    """Whether a mask has a hole. A gap that is open only across a corner is one: its outline would cross itself."""
    return _column_of_hole(mask) is not None


def _in_pixels(traced: Sequence[np.ndarray], tolerance: float) -> list[np.ndarray]:
    """Outlines in half pixels → simplified ones in pixels, largest first."""
    return [_simplify(outline, 2 * tolerance) / 2 for outline in sorted(traced, key=cv2.contourArea, reverse=True)]


def _simplify(outline: np.ndarray, tolerance: float) -> np.ndarray:
    simple = cv2.approxPolyDP(outline, tolerance, True)
    return (simple if len(simple) >= 3 else outline)[:, 0]  # of a pixel's four corners two would be left


def _split_at_holes(mask: np.ndarray) -> list[np.ndarray]:
    """Masks without holes whose union is a mask: it is cut through its first hole, and the halves in turn."""
    pending, whole = [mask], []
    while pending:
        part = pending.pop()
        column = _column_of_hole(part)
        if column is None:
            whole.append(part)
            continue
        left, right = part.copy(), part.copy()
        left[:, column:] = False
        right[:, :column] = False
        pending += [right, left]
    return whole


def _column_of_hole(mask: np.ndarray) -> int | None:
    """The column to cut a mask's first hole at; None without a hole."""
    background = 1 - np.pad(mask, 1).astype(np.uint8)
    number, regions, boxes, _ = cv2.connectedComponentsWithStats(background, connectivity=4)
    holes = [region for region in range(1, number) if region != regions[0, 0]]
    if not holes:
        return None
    x, _, width, _, _ = boxes[holes[0]]
    return min(max(x - 1 + (width + 1) // 2, 1), mask.shape[1] - 1)
