"""A dataset's objects as the detections of a perfect network."""
import numpy as np

from data.masks import rasterise
from model.detection import Detections


def ground_truth(dataset, i):
    """All objects of picture i that are not crowds, with scores that fall from 0.9.

    Returns:
        `Detections`.
    """
    picture, objects = dataset.images[i], dataset.objects(i)
    number = len(objects) - objects.num_crowds
    size = (picture.height, picture.width)
    parts = [_part(rasterise(segmentation, size)) for segmentation in objects.segmentations[:number]]
    scores = np.linspace(0.9, 0.6, number, dtype=np.float32)
    return Detections(objects.labels[:number], scores, scores, objects.boxes[:number],
                      [mask for mask, _ in parts],
                      np.array([corner for _, corner in parts], np.int64).reshape(-1, 2), size)


def _part(mask):
    """The part of a mask that holds all of its pixels, and its top-left corner x y."""
    y, x = np.nonzero(mask)
    return mask[y.min():y.max() + 1, x.min():x.max() + 1], (x.min(), y.min())
