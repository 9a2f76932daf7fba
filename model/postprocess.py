"""Postprocessing: raw outputs → `Detections`."""
import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as mask_api

from model.nms import cross_class_fast_nms, fast_nms

CROP_MARGIN = 1  # prototype pixels around the box that the mask may use
UPSAMPLED_ROWS = 64  # at a time, which keeps them in the cache
EVALUATION_SCORE_THRESHOLD = 0.05  # of the published evaluation


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects of one image, best box score first: what a prediction returns.

    A mask is stored as the part of the image around its box, and false outside it; see `full_mask`.

    Attributes:
        classes: int64 [n], from 0, without background.
        box_scores: float32 [n], 0 to 1, how sure the class is.
        mask_scores: float32 [n], 0 to 1; the box score times the predicted mask IoU, or just the box score.
        boxes: float32 [n, 4], x0 y0 x1 y1 in pixels, inside the image.
        masks: n bool arrays [h, w], each of its own size and perhaps empty.
        corners: int64 [n, 2], x y of the top-left pixel of each mask in the image.
        size: height and width of the image in pixels.
    """
    classes: np.ndarray
    box_scores: np.ndarray
    mask_scores: np.ndarray
    boxes: np.ndarray
    masks: list[np.ndarray]
    corners: np.ndarray
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.classes)

    def full_mask(self, index: int) -> np.ndarray:
        """One object's mask on the whole image: bool [height, width]."""
        full = np.zeros(self.size, bool)
        (x, y), (height, width) = self.corners[index], self.masks[index].shape
        full[y:y + height, x:x + width] = self.masks[index]
        return full

    def rle(self, index: int) -> dict[str, Any]:
        """One object's mask as pycocotools encodes the whole image's: dict of size and counts (bytes)."""
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
        ends = np.zeros(len(places) + 2, np.int64)
        ends[1:-1], ends[-1] = places, height * width
        runs = ends[1:] - ends[:-1]
        uncompressed: Any = {'size': [height, width], 'counts': runs[:len(runs) - (runs[-1] == 0)]}
        return mask_api.frPyObjects(uncompressed, height, width)

    def select(self, keep: np.ndarray) -> 'Detections':
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


@dataclass(frozen=True, eq=False)
class LowResolutionDetections:
    """The objects of one image with masks at the size of the prototypes, which are cheaper to pass to processes.

    Attributes:
        classes, box_scores, mask_scores, boxes, size: as in `Detections`.
        masks: n float32 arrays [h, w], 0 to 1, each of its own size and perhaps empty.
        crops: int64 [n, 4], their places x0 y0 x1 y1 among the prototypes.
        prototype_size: height and width of the prototypes.
    """
    classes: np.ndarray
    box_scores: np.ndarray
    mask_scores: np.ndarray
    boxes: np.ndarray
    masks: list[np.ndarray]
    crops: np.ndarray
    prototype_size: tuple[int, int]
    size: tuple[int, int]

    def pasted_masks(self) -> np.ndarray:
        """The low-resolution masks, zero outside their boxes: float32 [n, 1, ph, pw]."""
        full = np.zeros((len(self.masks), 1, *self.prototype_size), np.float32)
        for place, mask, (x0, y0, x1, y1) in zip(full, self.masks, self.crops, strict=True):
            place[0, y0:y1, x0:x1] = mask
        return full

    def rescored(self, mask_iou: np.ndarray) -> 'LowResolutionDetections':
        """The same with mask scores of box score times predicted mask IoU (YOLACT++, section 3.5).

        Args:
            mask_iou: float32 [n, classes], 0 to 1, the predicted IoU of each mask if it is one of a class.
        Returns:
            `LowResolutionDetections`.
        """
        own = mask_iou[np.arange(len(self.masks)), self.classes]
        return dataclasses.replace(self, mask_scores=self.box_scores * own)

    def upsample(self) -> Detections:
        """The same with masks at the image's size."""
        vertical, horizontal = (_Interpolation.of(*pair) for pair in zip(self.prototype_size, self.size))
        parts = [_upsample(mask, crop, vertical, horizontal)
                 for mask, crop in zip(self.masks, self.crops.tolist(), strict=True)]
        return Detections(self.classes, self.box_scores, self.mask_scores, self.boxes, [part for part, _ in parts],
                          np.array([corner for _, corner in parts], np.int64).reshape(-1, 2), self.size)


def postprocess(boxes: np.ndarray, scores: np.ndarray, coefficients: np.ndarray, prototypes: np.ndarray,
                size: tuple[int, int], score_threshold: float = EVALUATION_SCORE_THRESHOLD, iou_threshold: float = 0.5,
                top_k: int = 200, max_detections: int | None = 100,
                cross_class: bool = False) -> LowResolutionDetections:
    """Score threshold, Fast NMS and mask assembly for one image.

    Args:
        boxes: float32 [a, 4], x0 y0 x1 y1 relative to the image, decoded.
        scores: float32 [a, 1 + classes] after softmax, background first.
        coefficients: float32 [a, k], how much of each prototype makes up the mask.
        prototypes: float32 [ph, pw, k].
        size: height and width of the image in pixels.
        score_threshold: 0 to 1; an anchor takes part if its best class scores more.
        iou_threshold, top_k: see `fast_nms`.
        max_detections: the most objects to return; None for all. Cross-class NMS stops at top_k alone.
        cross_class: an object suppresses lesser ones of any class, not only of its own.
    Returns:
        `LowResolutionDetections`, whose mask scores are their box scores.
    """
    chosen = np.flatnonzero((scores[:, 1:] > score_threshold).any(1))
    boxes, scores = boxes[chosen], scores[chosen, 1:]
    if cross_class:
        kept, classes, box_scores = cross_class_fast_nms(boxes, scores, iou_threshold, top_k)
    else:
        kept, classes, box_scores = fast_nms(boxes, scores, iou_threshold, top_k, max_detections)
    boxes, coefficients = boxes[kept], coefficients[chosen[kept]]

    crops = _crops(boxes, prototypes.shape[:2])
    masks = [_assemble(prototypes, *pair) for pair in zip(coefficients, crops, strict=True)]
    scale = np.array([size[1], size[0]] * 2, np.float32)
    return LowResolutionDetections(classes, box_scores, box_scores, np.clip(boxes * scale, 0, scale), masks, crops,
                           (prototypes.shape[0], prototypes.shape[1]), size)


def _crops(boxes: np.ndarray, prototype_size: tuple[int, ...]) -> np.ndarray:
    """The prototype pixels of each box and its margin: int64 [n, 4], x0 y0 x1 y1, x1 and y1 excluded."""
    height, width = prototype_size
    scale = np.array([width, height], np.float32)
    low = np.clip(np.ceil(boxes[:, :2] * scale - CROP_MARGIN), 0, scale)
    high = np.clip(np.ceil(boxes[:, 2:] * scale + CROP_MARGIN), 0, scale)
    return np.concatenate([low, high], 1).astype(np.int64)


def _assemble(prototypes: np.ndarray, coefficients: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """A mask from its prototypes (YOLACT, equation 1) within the crop: float32 [h, w], 0 to 1."""
    x0, y0, x1, y1 = crop
    return 0.5 + 0.5 * np.tanh(0.5 * (prototypes[y0:y1, x0:x1] @ coefficients))  # sigmoid; never overflows


def _upsample(mask: np.ndarray, crop: list[int], vertical: '_Interpolation',
              horizontal: '_Interpolation') -> tuple[np.ndarray, tuple[int, int]]:
    """A cropped mask where it exceeds 0.5 after resizing the prototypes to the image, bilinearly.

    A pixel outside the crop's rectangle gets less than half its weight from the crop, so the rectangle holds
    the mask.

    Args:
        mask: float32 [h, w], 0 to 1.
        crop: its place x0 y0 x1 y1 among the prototypes.
        vertical, horizontal: from the prototypes to the whole image.
    Returns:
        bool [h', w'] and the x, y of its top-left pixel.
    """
    x, columns, right = horizontal.between(crop[0], crop[2])
    y, rows, below = vertical.between(crop[1], crop[3])
    around = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.float32)
    around[1:-1, 1:-1] = mask
    wide = (around[:, 1:] - around[:, :-1]).take(columns, 1)
    wide *= right
    wide += around.take(columns, 1)
    rises = wide[1:] - wide[:-1]
    part = np.empty((len(rows), len(columns)), bool)
    for band in (slice(first, first + UPSAMPLED_ROWS) for first in range(0, len(rows), UPSAMPLED_ROWS)):
        values = rises.take(rows[band], 0)
        values *= below[band, None]
        values += wide.take(rows[band], 0)
        np.greater(values, 0.5, out=part[band])
    return part, (x, y)


class _Interpolation(NamedTuple):
    """Weights of linear interpolation along one axis, from the cells of the prototypes to the pixels of the image.

    Attributes:
        scale: pixels a cell.
        before: int64 [pixels], the cell that comes before each pixel's centre.
        weights: float32 [pixels], the weight of the cell after that one.
    """
    scale: float
    before: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, cells: int, pixels: int) -> '_Interpolation':
        centres = np.clip((np.arange(pixels) + 0.5) * (cells / pixels) - 0.5, 0, cells - 1)
        before = centres.astype(np.int64)
        return cls(pixels / cells, before, (centres - before).astype(np.float32))

    def between(self, start: int, stop: int) -> tuple[int, np.ndarray, np.ndarray]:
        """Those of the cells start to stop: the first pixel, the cells counted from start - 1, and the weights."""
        first, last = round(start * self.scale), round(stop * self.scale)
        return first, self.before[first:last] - (start - 1), self.weights[first:last]
