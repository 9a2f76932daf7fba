"""Intersection over union of boxes, in NumPy. Boxes are x0 y0 x1 y1, in any unit."""
import numpy as np


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of every pair: float [n, 4] and [m, 4] to [n, m]."""
    shared = intersection(boxes, others)
    return shared / (box_area(boxes)[:, None] + box_area(others) - shared)


def intersection(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area that every pair shares: float [n, 4] and [m, 4] to [n, m]."""
    x0, y0, x1, y1 = np.ascontiguousarray(others.T)  # whole columns, for speed
    width = np.minimum(boxes[:, 2:3], x1) - np.maximum(boxes[:, 0:1], x0)
    height = np.minimum(boxes[:, 3:4], y1) - np.maximum(boxes[:, 1:2], y0)
    return np.maximum(width, 0) * np.maximum(height, 0)


def box_area(boxes: np.ndarray) -> np.ndarray:
    """Of boxes, float [n, 4], as float [n]."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
