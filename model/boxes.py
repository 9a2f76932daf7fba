"""Boxes as tensors: decoding offsets, and how well boxes agree.

Boxes are x0 y0 x1 y1 relative to the image; anchors are centre x, centre y, width, height.
"""
import math

import paddle
from paddle import Tensor

from model.anchors import MAX_LOG_SCALE, VARIANCES


def decode(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Boxes from predicted offsets, at most 62.5 times as wide and as high as their anchors.

    Args:
        offsets: float32 [..., a, 4].
        anchors: float32 [a, 4].
    Returns:
        float32 [..., a, 4].
    """
    centres = anchors[:, :2] + offsets[..., :2] * VARIANCES[0] * anchors[:, 2:]
    sizes = anchors[:, 2:] * paddle.exp(paddle.clip(offsets[..., 2:] * VARIANCES[1], max=MAX_LOG_SCALE))
    low = centres - sizes / 2
    return paddle.concat([low, low + sizes], -1)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """The offsets that `decode` turns into these boxes.

    Args:
        boxes, anchors: float32 [n, 4], with positive sizes.
    Returns:
        float32 [n, 4].
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    sizes = boxes[:, 2:] - boxes[:, :2]
    return paddle.concat([(centres - anchors[:, :2]) / (VARIANCES[0] * anchors[:, 2:]),
                          paddle.log(sizes / anchors[:, 2:]) / VARIANCES[1]], 1)


def ciou(boxes: Tensor, targets: Tensor) -> Tensor:
    """Complete IoU of boxes, pair by pair (https://arxiv.org/abs/1911.08287, equations 10 and 11).

    IoU, less the squared distance of the centres over that of the enclosing box's corners, less a penalty for
    another aspect ratio. The penalty's weight is a constant to the gradient, as in the paper.

    Args:
        boxes, targets: float32 [n, 4], with positive sizes.
    Returns:
        float32 [n], from -1.5 to 1.
    """
    sizes, target_sizes = boxes[:, 2:] - boxes[:, :2], targets[:, 2:] - targets[:, :2]
    overlap = paddle.minimum(boxes[:, 2:], targets[:, 2:]) - paddle.maximum(boxes[:, :2], targets[:, :2])
    intersection = _area(paddle.clip(overlap, min=0))
    iou = intersection / (_area(sizes) + _area(target_sizes) - intersection)

    enclosing = paddle.maximum(boxes[:, 2:], targets[:, 2:]) - paddle.minimum(boxes[:, :2], targets[:, :2])
    between = (boxes[:, :2] + boxes[:, 2:] - targets[:, :2] - targets[:, 2:]) / 2
    distance = (between ** 2).sum(1) / (enclosing ** 2).sum(1)

    angle = paddle.atan(target_sizes[:, 0] / target_sizes[:, 1]) - paddle.atan(sizes[:, 0] / sizes[:, 1])
    aspect = 4 / math.pi ** 2 * angle ** 2
    weight = (aspect / (1 - iou + aspect + 1e-9)).detach()
    return iou - distance - weight * aspect


def box_area(boxes: Tensor) -> Tensor:
    """Of boxes, float32 [n, 4], as float32 [n]."""
    return _area(boxes[:, 2:] - boxes[:, :2])


def _area(sizes: Tensor) -> Tensor:
    return sizes[:, 0] * sizes[:, 1]
