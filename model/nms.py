"""Fast NMS: suppressing boxes that a better one overlaps.

Unlike in the usual NMS, a suppressed box still suppresses others, so one IoU matrix decides for all
boxes at once (YOLACT, https://arxiv.org/abs/1904.02689, section 4.4). Boxes are x0 y0 x1 y1, in any unit.
"""
import numpy as np

from model.box_iou import box_area, intersection

ENTRIES_PER_DETECTION = 4  # how many of the best entries to look at first; usually enough


def fast_nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float = 0.5, top_k: int = 200,
             max_detections: int | None = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fast NMS in each class by itself. A box may be kept for several classes, with any score.

    Args:
        boxes: float32 [n, 4].
        scores: float32 [n, classes], without background, not NaN.
        iou_threshold: 0 to 1; overlapping a better box by more suppresses a box.
        top_k: how many of the best boxes of a class take part.
        max_detections: how many of the best to return, over all classes; None for all.
    Returns:
        int64 [k] into boxes, int64 [k] classes, float32 [k] scores; best first, then by class, then by index.
    """
    wanted = scores.size if max_detections is None else max_detections
    best, depth = scores.max(1, initial=0), ENTRIES_PER_DETECTION * wanted
    while True:
        # Only better entries can suppress an entry, so the best `depth` do not depend on those below them. And these
        # are all of the boxes that are among the best `depth` by their best class.
        rows = np.sort(_best(best, depth))
        flat = scores[rows].T.ravel()
        entries = _best(flat, depth)
        classes, index = np.divmod(entries, max(len(rows), 1))
        kept = _survivors(boxes[rows[index]], classes, iou_threshold, top_k)[:wanted]
        if len(kept) == wanted or depth >= scores.size:
            return rows[index[kept]], classes[kept], flat[entries[kept]]
        depth *= 4


def cross_class_fast_nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float = 0.5,
                         top_k: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fast NMS over all classes together. Each box stands for its best class only.

    Args:
        boxes: float32 [n, 4].
        scores: float32 [n, classes], without background, not NaN.
        iou_threshold: 0 to 1; overlapping a better box by more suppresses a box.
        top_k: how many of the best boxes take part, and so the most that can be returned.
    Returns:
        int64 [k] into boxes, int64 [k] classes, float32 [k] scores; best first, then by index.
    """
    classes, best = scores.argmax(1), scores.max(1)
    order = _best(best, top_k)[:top_k]
    index = order[~_suppressed(boxes[order], iou_threshold)]
    return index, classes[index], best[index]


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` best and of those that tie with the last: best first, ties by index."""
    if count >= len(scores):
        return np.argsort(-scores, kind='stable')
    worst = np.partition(scores, len(scores) - count)[len(scores) - count]
    chosen = np.flatnonzero(scores >= worst)
    return chosen[np.argsort(-scores[chosen], kind='stable')]


def _survivors(boxes: np.ndarray, classes: np.ndarray, iou_threshold: float, top_k: int) -> np.ndarray:
    """Indices, ascending, of the boxes that no better one of their class suppresses. Boxes are best first."""
    keep = np.zeros(len(boxes), bool)
    for label in np.unique(classes):
        ranked = np.flatnonzero(classes == label)[:top_k]
        keep[ranked] = ~_suppressed(boxes[ranked], iou_threshold)
    return np.flatnonzero(keep)


def _suppressed(boxes: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Which boxes overlap one before them by more than the threshold: bool [n]."""
    shared, area = intersection(boxes, boxes), box_area(boxes)
    union = area + area[:, None] - shared
    return np.triu(shared > iou_threshold * union, 1).any(0)
