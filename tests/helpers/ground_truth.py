"""A dataset's objects as the detections of a perfect network."""
import numpy as np

from data import ground_truth as truth
from data.coco import CocoDataset
from model.postprocess import Detections


def ground_truth(dataset: CocoDataset, i: int) -> Detections:
    """All objects of image i that are not crowds, with scores that fall from 0.9."""
    objects = dataset.objects(i)
    return truth.ground_truth(dataset, i, np.linspace(0.9, 0.6, len(objects) - objects.num_crowds, dtype=np.float32))
