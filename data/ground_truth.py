"""A dataset's objects as detections, to draw and to compare with what is found."""
import numpy as np

from data.coco import CocoDataset
from data.masks import rasterise
from model.postprocess import Detections


def ground_truth(dataset: CocoDataset, i: int, scores: np.ndarray | None = None) -> Detections:
    """All objects of image i of a dataset that are not crowds.

    Args:
        dataset: `CocoDataset`.
        i: int.
        scores: float32 [n]; None for 1.
    Returns:
        `Detections`.
    """
    image, objects = dataset.images[i], dataset.objects(i)
    number = len(objects) - objects.num_crowds
    size = (image.height, image.width)
    parts = [_part(rasterise(segmentation, size)) for segmentation in objects.segmentations[:number]]
    scores = np.ones(number, np.float32) if scores is None else scores
    return Detections(objects.labels[:number], scores, scores, objects.boxes[:number], [mask for mask, _ in parts],
                      np.array([corner for _, corner in parts], np.int64).reshape(-1, 2), size)


def _part(mask: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """The part of a mask that holds all of its pixels, and its top-left corner x y."""
    y, x = np.nonzero(mask)
    if not len(y):
        return mask[:0, :0], (0, 0)
    return mask[y.min():y.max() + 1, x.min():x.max() + 1], (x.min(), y.min())
