"""Intersection over union of boxes, in NumPy. Boxes are x0 y0 x1 y1, in any unit."""
import numpy as np

PAIRS_AT_A_TIME = 2 ** 16  # so that what is computed on the way stays in the processor's cache


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of every pair: float [n, 4] and [m, 4] to [n, m]."""
    iou = intersection(boxes, others)
    areas, other_areas = box_area(boxes)[:, None], box_area(others)
    for rows in _blocks(iou):
        iou[rows] /= areas[rows] + other_areas - iou[rows]
    return iou


def intersection(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area that every pair shares: float [n, 4] and [m, 4] to [n, m]."""
    x0, y0, x1, y1 = np.ascontiguousarray(others.T)  # whole columns, for speed
    shared = np.empty((len(boxes), len(others)), np.result_type(boxes, others))
    for rows in _blocks(shared):
        left, top, right, bottom = boxes[rows].T[..., None]
        width, height = shared[rows], np.minimum(bottom, y1)
        np.minimum(right, x1, out=width)
        width -= np.maximum(left, x0)
        height -= np.maximum(top, y0)
        np.maximum(width, 0, out=width)
        np.maximum(height, 0, out=height)
        width *= height
    return shared


def box_area(boxes: np.ndarray) -> np.ndarray:
    """Of boxes, float [n, 4], as float [n]."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _blocks(pairs: np.ndarray) -> list[slice]:
    """Slices of the rows of a matrix, [n, m]."""
    step = max(PAIRS_AT_A_TIME // max(pairs.shape[1], 1), 1)
    return [slice(first, first + step) for first in range(0, len(pairs), step)]
