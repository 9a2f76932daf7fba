"""How well the anchors of a network cover the objects of a dataset."""
import numpy as np

from data.coco import CocoDataset
from model.anchors import anchors
from model.box_iou import box_iou
from model.config import Config
from model.matcher import corners

MAX_BOXES = 5000  # to compare with the anchors
BOXES_AT_A_TIME = 100  # compared with all anchors, which bounds the memory


def object_sizes(dataset: CocoDataset, input_size: int) -> np.ndarray:
    """Width and height of all objects but crowds, float64 [n, 2], in pixels at the input size."""
    boxes = _resized_boxes(dataset, input_size)
    return boxes[:, 2:] - boxes[:, :2]


def best_anchor_ious(dataset: CocoDataset, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """How well the anchors of a network cover the objects of a dataset, resized to the input size.

    Returns:
        Sizes of objects, float64 [n, 2], width and height in pixels at the input size, of `MAX_BOXES` objects at most,
        evenly chosen; and the IoU of each with its best anchor, float64 [n].
    """
    boxes = _resized_boxes(dataset, config.input_size)
    boxes = boxes[np.linspace(0, len(boxes) - 1, min(MAX_BOXES, len(boxes))).astype(int)].astype(np.float64)
    anchor_boxes = corners(anchors(config)).astype(np.float64) * config.input_size
    best = np.zeros(len(boxes))
    for first in range(0, len(boxes), BOXES_AT_A_TIME):
        chunk = slice(first, first + BOXES_AT_A_TIME)
        best[chunk] = box_iou(boxes[chunk], anchor_boxes).max(1)
    return boxes[:, 2:] - boxes[:, :2], best


def _resized_boxes(dataset: CocoDataset, size: int) -> np.ndarray:
    """All objects' boxes, crowds apart, after resizing the images to a square: [n, 4], x0 y0 x1 y1 in pixels."""
    boxes = []
    for i, image in enumerate(dataset.images):
        objects = dataset.objects(i)
        regular = objects.boxes[:len(objects) - objects.num_crowds]
        boxes.append(regular * size / np.array([image.width, image.height] * 2))
    return np.concatenate(boxes).reshape(-1, 4)
