"""Box losses, of positive anchors.

All take offsets, float32 [p, 4], as predicted; anchors, float32 [p, 4]; and boxes, float32 [p, 4], x0 y0 x1 y1 of the
ground-truth objects that the anchors are matched with, relative to the image.
"""
import paddle.nn.functional as F
from paddle import Tensor

from model import boxes as arithmetic


def ciou(offsets: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
    """1 - CIoU, small objects up to twice as heavy: times 2 less the box's area."""
    overlap = arithmetic.ciou(arithmetic.decode(offsets, anchors), boxes)
    return ((2 - arithmetic.box_area(boxes)) * (1 - overlap)).sum()


def smooth_l1(offsets: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
    """Smooth L1 of the offsets (SSD, https://arxiv.org/abs/1512.02325, equation 2)."""
    return F.smooth_l1_loss(offsets, arithmetic.encode(boxes, anchors), reduction='sum')
