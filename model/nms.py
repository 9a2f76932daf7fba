"""Fast NMS: dropping boxes that a better one overlaps.

Unlike in the usual NMS, a box that is dropped itself still drops others, so one IoU matrix decides for all
boxes at once (YOLACT, https://arxiv.org/abs/1904.02689, section 4.4). Boxes are x0 y0 x1 y1, in any unit.
"""
import numpy as np

ENTRIES_PER_DETECTION = 4  # how many of the best entries to look at first; usually enough


def fast_nms(boxes, scores, iou_threshold=0.5, top_k=200, max_detections=100):
    """Fast NMS in each class by itself. A box may be kept for several classes, with any score.

    Args:
        boxes: float32 [n, 4].
        scores: float32 [n, classes], without background, not NaN.
        iou_threshold: 0 to 1; overlapping a better box by more drops a box.
        top_k: how many of the best boxes of a class take part.
        max_detections: how many of the best to return, over all classes; None for all.
    Returns:
        int64 [k] into boxes, int64 [k] classes, float32 [k] scores; best first, then by class, then by index.
    """
    wanted = scores.size if max_detections is None else max_detections
    best, depth = scores.max(1, initial=0), ENTRIES_PER_DETECTION * wanted
    while True:
        # Only better entries can drop an entry: what lies below the best `depth` does not change their fate. And these
        # are all of the boxes that are the best `depth` by their best class.
        rows = np.sort(_best(best, depth))
        flat = scores[rows].T.ravel()
        entries = _best(flat, depth)
        classes, index = np.divmod(entries, max(len(rows), 1))
        kept = _survivors(boxes[rows[index]], classes, iou_threshold, top_k)[:wanted]
        if len(kept) == wanted or depth >= scores.size:
            return rows[index[kept]], classes[kept], flat[entries[kept]]
        depth *= 4


def cross_class_fast_nms(boxes, scores, iou_threshold=0.5, top_k=200):
    """Fast NMS over all classes together. Each box stands for its best class only.

    Args:
        boxes: float32 [n, 4].
        scores: float32 [n, classes], without background, not NaN.
        iou_threshold: 0 to 1; overlapping a better box by more drops a box.
        top_k: how many of the best boxes take part, and so the most that can be returned.
    Returns:
        int64 [k] into boxes, int64 [k] classes, float32 [k] scores; best first, then by index.
    """
    classes, best = scores.argmax(1), scores.max(1)
    order = _best(best, top_k)[:top_k]
    index = order[~_dropped(boxes[order], iou_threshold)]
    return index, classes[index], best[index]


def _best(scores, count):
    """Indices of the `count` best and of those that tie with the last: best first, ties by index."""
    if count >= len(scores):
        return np.argsort(-scores, kind='stable')
    worst = np.partition(scores, len(scores) - count)[len(scores) - count]
    chosen = np.flatnonzero(scores >= worst)
    return chosen[np.argsort(-scores[chosen], kind='stable')]


def _survivors(boxes, classes, iou_threshold, top_k):
    """Indices, ascending, of the boxes that no better one of their class drops. Boxes are best first."""
    keep = np.zeros(len(boxes), bool)
    for label in np.unique(classes):
        ranked = np.flatnonzero(classes == label)[:top_k]
        keep[ranked] = ~_dropped(boxes[ranked], iou_threshold)
    return np.flatnonzero(keep)


def _dropped(boxes, iou_threshold):
    """Which boxes overlap one before them too much: bool [n]."""
    x0, y0, x1, y1 = boxes.T
    width = np.minimum(x1, x1[:, None]) - np.maximum(x0, x0[:, None])
    height = np.minimum(y1, y1[:, None]) - np.maximum(y0, y0[:, None])
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    area = (x1 - x0) * (y1 - y0)
    union = area + area[:, None] - intersection
    return np.triu(intersection > iou_threshold * union, 1).any(0)
