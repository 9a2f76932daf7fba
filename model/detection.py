"""Raw outputs → Detections: what a user wants to know about a picture."""
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from model.nms import cross_class_fast_nms, fast_nms

CROP_MARGIN = 1  # prototype pixels around the box that the mask may use
BAND = 64  # picture rows that are up-sampled at a time, which keeps them in the cache


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects of one picture, best box score first.

    Each mask is kept as the part of the picture around its box; outside of that it is false.

    Attributes:
        classes: int64 [n], from 0, without background.
        box_scores: float32 [n], 0 to 1, how sure the class is.
        mask_scores: float32 [n], 0 to 1; the box score times the predicted mask IoU, or just the box score.
        boxes: float32 [n, 4], x0 y0 x1 y1 in pixels, inside the picture.
        masks: n bool arrays [h, w], each of its own size and perhaps empty.
        corners: int64 [n, 2], x y of the top-left pixel of each mask in the picture.
        size: height and width of the picture in pixels.
    """
    classes: np.ndarray
    box_scores: np.ndarray
    mask_scores: np.ndarray
    boxes: np.ndarray
    masks: list
    corners: np.ndarray
    size: tuple

    def __len__(self):
        return len(self.classes)

    def full_mask(self, index):
        """One object's mask on the whole picture: bool [height, width]."""
        full = np.zeros(self.size, bool)
        (x, y), (height, width) = self.corners[index], self.masks[index].shape
        full[y:y + height, x:x + width] = self.masks[index]
        return full

    def rle(self, index):
        """One object's mask as pycocotools encodes the whole picture's: dict of size and counts (bytes)."""
        (x0, y0), (height, width) = self.corners[index], self.size
        rows, columns = self.masks[index].shape
        # Column after column, with a pixel that is false before each and after the last.
        line = np.zeros(columns * (rows + 1) + 1, bool)
        line[:-1].reshape(columns, rows + 1)[:, 1:] = self.masks[index].T
        column, row = np.divmod(np.flatnonzero(line[1:] != line[:-1]), rows + 1)
        places = (x0 + column) * height + y0 + row
        if rows == height:  # a run may go on from the bottom of a column at the top of the next
            apart = np.diff(places, prepend=-1) > 0
            places = places[apart & np.append(apart[1:], True)]
        runs = np.diff(places, prepend=0, append=height * width)
        return coco_mask.frPyObjects({'size': [height, width], 'counts': runs[:len(runs) - (runs[-1] == 0)]}, height,
                                     width)

    def select(self, keep):
        """Some of the objects.

        Args:
            keep: bool [n], or the indices of those to keep, in the order to keep them.
        Returns:
            `Detections`.
        """
        chosen = np.arange(len(self))[keep]
        return Detections(self.classes[chosen], self.box_scores[chosen], self.mask_scores[chosen],
                          self.boxes[chosen], [self.masks[index] for index in chosen], self.corners[chosen],
                          self.size)


def detect(boxes, scores, coefficients, prototypes, size, mask_iou=None, score_threshold=0.05,
           iou_threshold=0.5, top_k=200, max_detections=100, cross_class=False):
    """The objects that the network's outputs for one picture say are there.

    Args:
        boxes: float32 [a, 4], x0 y0 x1 y1 relative to the picture, decoded.
        scores: float32 [a, 1 + classes] after softmax, background first.
        coefficients: float32 [a, k], how much of each prototype makes up the mask.
        prototypes: float32 [ph, pw, k].
        size: height and width of the picture in pixels.
        mask_iou: predicts how good masks are, float32 [n, 1, ph, pw] → float32 [n, classes]; None without.
        score_threshold: 0 to 1; an anchor takes part if its best class scores more.
        iou_threshold, top_k: see `fast_nms`.
        max_detections: the most objects to return; None for all. Cross-class NMS stops at top_k alone.
        cross_class: an object drops lesser ones of any class, not only of its own.
    Returns:
        `Detections`.
    """
    chosen = np.flatnonzero((scores[:, 1:] > score_threshold).any(1))
    boxes, scores = boxes[chosen], scores[chosen, 1:]
    if cross_class:
        kept, classes, box_scores = cross_class_fast_nms(boxes, scores, iou_threshold, top_k)
    else:
        kept, classes, box_scores = fast_nms(boxes, scores, iou_threshold, top_k, max_detections)
    boxes, coefficients = boxes[kept], coefficients[chosen[kept]]

    crops = _crops(boxes, prototypes.shape[:2])
    small = [_assemble(prototypes, *pair) for pair in zip(coefficients, crops, strict=True)]
    mask_scores = box_scores
    if mask_iou is not None and len(kept):
        predicted = mask_iou(_on_prototypes(small, crops, prototypes.shape[:2]))
        mask_scores = box_scores * predicted[np.arange(len(kept)), classes]

    parts = [_upsample(*pair, prototypes.shape[:2], size) for pair in zip(small, crops, strict=True)]
    scale = np.array([size[1], size[0]] * 2, np.float32)
    return Detections(classes, box_scores, mask_scores, np.clip(boxes * scale, 0, scale),
                      [part for part, _ in parts],
                      np.array([corner for _, corner in parts], np.int64).reshape(-1, 2), tuple(size))


def _crops(boxes, prototype_size):
    """The prototype pixels of each box and its margin: int64 [n, 4], x0 y0 x1 y1, x1 and y1 excluded."""
    height, width = prototype_size
    scale = np.array([width, height], np.float32)
    low = np.clip(np.ceil(boxes[:, :2] * scale - CROP_MARGIN), 0, scale)
    high = np.clip(np.ceil(boxes[:, 2:] * scale + CROP_MARGIN), 0, scale)
    return np.concatenate([low, high], 1).astype(np.int64)


def _assemble(prototypes, coefficients, crop):
    """A mask from its prototypes (YOLACT, equation 1) within the crop: float32 [h, w], 0 to 1."""
    x0, y0, x1, y1 = crop
    return 0.5 + 0.5 * np.tanh(0.5 * (prototypes[y0:y1, x0:x1] @ coefficients))  # sigmoid; never overflows


def _on_prototypes(masks, crops, prototype_size):
    """Cropped masks in their places: float32 [n, 1, ph, pw]."""
    full = np.zeros((len(masks), 1, *prototype_size), np.float32)
    for place, mask, (x0, y0, x1, y1) in zip(full, masks, crops, strict=True):
        place[0, y0:y1, x0:x1] = mask
    return full


def _upsample(mask, crop, prototype_size, size):
    """A cropped mask where it exceeds 0.5 after resizing the prototypes to the picture, bilinearly.

    A pixel outside the crop's rectangle gets less than half its weight from the crop, so the rectangle holds
    the mask.

    Args:
        mask: float32 [h, w], 0 to 1.
        crop: its place x0 y0 x1 y1 among prototypes of prototype_size (height, width).
        size: height and width of the picture.
    Returns:
        bool [h', w'] and the x, y of its top-left pixel.
    """
    x, columns, right = _taps(crop[0], crop[2], prototype_size[1], size[1])
    y, rows, below = _taps(crop[1], crop[3], prototype_size[0], size[0])
    mask = np.pad(mask, 1)  # zero around the crop
    wide = mask[:, columns] * (1 - right) + mask[:, columns + 1] * right
    part = np.empty((len(rows), len(columns)), bool)
    for band in (slice(first, first + BAND) for first in range(0, len(rows), BAND)):
        top = wide[rows[band]]
        part[band] = top + (wide[rows[band] + 1] - top) * below[band, None] > 0.5
    return part, (x, y)


def _taps(start, stop, cells, pixels):
    """How pixels of the picture, along one axis, sample the cells start to stop of a prototype's.

    Returns:
        The first pixel; for it and each that follows int64 [p], which cell comes before its centre, counted
        from start - 1; and float32 [p], the weight of the cell after that one.
    """
    first, last = round(start * pixels / cells), round(stop * pixels / cells)
    centres = (np.arange(first, last) + 0.5) * (cells / pixels) - 0.5
    centres = np.clip(centres, 0, cells - 1) - start + 1
    before = centres.astype(np.int64)
    return first, before, (centres - before).astype(np.float32)
