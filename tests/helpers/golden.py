"""Golden numbers: results of the public PyTorch implementation for synthetic weights, images and outputs.

Files in tests/golden/, each for the network of its name, seed 0; `inputs` (golden_inputs.py) makes the inputs that
they are the results for, and `inputs.sample` picks the entries of large arrays that are compared.

- input, loc, conf, mask, proto, priors and *_shape: samples and shapes of the normalised image
  inputs.image(480, 640), of the raw outputs in eval mode (conf after softmax) and of the anchors.
- classes, box_scores, mask_scores, boxes, mask_areas, mask_rles, size: the detections on that image. Boxes
  are in whole pixels, mask_rles are the counts of compressed RLE.
- made_*, made_cross_class_*: the same for inputs.predictions(...) on an image 301 high and 427 wide, with
  Fast NMS and with its cross-class kind.
- train_*, grad_names, grad_norms, loss_keys, loss_curve (YOLACT++ alone): raw outputs in train mode, the norm
  of every parameter's gradient, and the losses of three steps of training.
- *.json: names and shapes of the network's parameters.
"""
import functools

import numpy as np
from pycocotools import mask as coco_mask

from model.postprocess import Detections
from tests.golden import golden_inputs as inputs
from tests.helpers import GOLDEN

__all__ = ['NETWORKS', 'assert_same_detections', 'golden', 'inputs']

NETWORKS = {  # preset → file
    'resnet50dcn': 'yolact_plus_resnet50',
    'resnet50': 'yolact_resnet50',
    'darknet53': 'yolact_darknet53',
}


@functools.lru_cache
def golden(preset: str) -> dict[str, np.ndarray]:
    """The golden numbers of a preset's network, by name."""
    with np.load(GOLDEN / f'{NETWORKS[preset]}.npz') as file:
        return dict(file)


def assert_same_detections(detections: Detections, golden: dict[str, np.ndarray], prefix: str = '',
                           swapped: int = 0) -> None:
    """Detections agree one for one, in any order.

    Each has a golden partner of its own: same class, box within a pixel, scores within 1e-4, mask IoU above
    0.99.

    Args:
        detections: the ones to compare.
        golden: the golden numbers, from `golden`.
        prefix: which of its detections: '', 'made_' or 'made_cross_class_'.
        swapped: how many may have no partner, because rounding swaps scores that differ by less than 1e-6.
    """
    expected = {key: golden[prefix + key] for key in
                ('classes', 'box_scores', 'mask_scores', 'boxes', 'mask_areas', 'mask_rles', 'size')}
    assert tuple(detections.size) == tuple(expected['size'])
    assert len(detections) == len(expected['classes'])
    agree = _agreement(detections, expected)
    free, lonely = np.ones(len(detections), bool), []
    for index, row in enumerate(agree):
        partners = np.flatnonzero(row & free)
        if len(partners):
            free[partners[0]] = False
        else:
            lonely.append(f'class {expected["classes"][index]}, box {expected["boxes"][index]}, score '
                          f'{expected["box_scores"][index]:.4f}, area {expected["mask_areas"][index]}')
    assert len(lonely) <= swapped, f'nothing like these golden {prefix}detections: {lonely}'


def _agreement(detections: Detections, expected: dict[str, np.ndarray]) -> np.ndarray:
    """Which golden detection agrees with which detection: bool [golden detections, detections]."""
    height, width = expected['size']
    boxes = np.clip(expected['boxes'], 0, [width, height, width, height])  # golden ones may lie outside
    close_box = np.abs(boxes[:, None] - detections.boxes).max(2) <= 1
    close_scores = (np.isclose(expected['box_scores'][:, None], detections.box_scores, rtol=0, atol=1e-4)
                    & np.isclose(expected['mask_scores'][:, None], detections.mask_scores, rtol=0, atol=1e-4))
    ours = [detections.rle(index) for index in range(len(detections))]
    size = [int(height), int(width)]
    theirs = [{'size': size, 'counts': counts.encode()} for counts in expected['mask_rles']]
    same_mask = (coco_mask.iou(theirs, ours, [False] * len(ours)) > 0.99) | (
        (expected['mask_areas'][:, None] == 0) & (coco_mask.area(ours) == 0))
    return (expected['classes'][:, None] == detections.classes) & close_box & close_scores & same_mask
