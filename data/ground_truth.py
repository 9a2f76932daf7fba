"""Ground truth as `Detections`, to draw and to compare predictions with."""
import numpy as np

from data.coco import CocoDataset
from data.masks import rasterise
from model.postprocess import Detections


def ground_truth(dataset: CocoDataset, i: int, scores: np.ndarray | None = None) -> Detections:
    """The ground truth of one image, without crowds.

    Args:
        dataset: where it is from.
        i: index of the image.
        scores: float32 [n], box scores and mask scores; None for 1.
    """
    image, objects = dataset.images[i], dataset.objects(i)
    number = len(objects) - objects.num_crowds
    size = (image.height, image.width)
    masks = [_crop_to_object(rasterise(segmentation, size)) for segmentation in objects.segmentations[:number]]
    scores = np.ones(number, np.float32) if scores is None else scores
    return Detections(objects.labels[:number], scores, scores, objects.boxes[:number], [mask for mask, _ in masks],
                      np.array([corner for _, corner in masks], np.int64).reshape(-1, 2), size)


def _crop_to_object(mask: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """The smallest part of a mask with all of the object's pixels, and x y of its top-left pixel."""
    y, x = np.nonzero(mask)
    if not len(y):
        return mask[:0, :0], (0, 0)
    return mask[y.min():y.max() + 1, x.min():x.max() + 1], (x.min(), y.min())
