"""A picture and its objects → what the network trains on.

Geometry is one 2x3 affine from the picture, which spans [0, width] x [0, height], to the input, so every pixel is
interpolated once and every mask is drawn once, straight at the size that the losses use.
"""
from typing import NamedTuple

import cv2
import numpy as np

from data.masks import rasterise

MIN_SIDE = 4 / 550  # of the picture; thinner objects are dropped, as published


class Sample(NamedTuple):
    """One picture as the network and its losses want it.

    Attributes:
        picture: uint8 [size, size, 3], BGR.
        boxes: float32 [n, 4], x0 y0 x1 y1 relative to the picture.
        labels: int64 [n], classes without background.
        crowds: float32 [c, 4], boxes of crowds.
        masks: bool [n, p, p], at the size of the prototypes.
        semantic: bool [classes, p / 2, p / 2], where each class is.
    """
    picture: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowds: np.ndarray
    masks: np.ndarray
    semantic: np.ndarray


def make_sample(picture, objects, config, rng=None):
    """Resize a picture and its objects to a network's input, at random variations of it for training.

    Args:
        picture: uint8 [h, w, 3], BGR.
        objects: `coco.Objects`.
        config: the network's `Config`.
        rng: numpy Generator for mirroring and photometric distortion; None leaves the picture as it is.
    Returns:
        `Sample`.
    """
    height, width = picture.shape[:2]
    transform = scaling(1 / width, 1 / height)
    if rng is not None and rng.random() < 0.5:
        transform = compose(MIRROR, transform)
    pixels = warp(picture, transform, config.input_size)
    if rng is not None:
        pixels = distort(pixels, rng)

    boxes = np.clip(transform_boxes(objects.boxes, transform), 0, 1).astype(np.float32)
    kept = (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE).all(1)
    crowd = np.arange(len(objects)) >= len(objects) - objects.num_crowds
    wanted = np.flatnonzero(kept & ~crowd)
    labels = objects.labels[wanted]
    segmentations = [objects.segmentations[i] for i in wanted]
    masks = _masks(segmentations, transform, config.prototype_size)
    semantic = np.zeros((config.num_classes - 1, *[config.level_sizes[0]] * 2), bool)
    for label, mask in zip(labels, _masks(segmentations, transform, config.level_sizes[0])):
        semantic[label] |= mask
    return Sample(pixels, boxes[wanted], labels, boxes[crowd & kept], masks, semantic)


MIRROR = np.array([[-1, 0, 1], [0, 1, 0]], np.float64)


def scaling(x, y):
    """The affine that stretches by x and y, float64 [2, 3]."""
    return np.array([[x, 0, 0], [0, y, 0]], np.float64)


def compose(second, first):
    """The affine that does first and then second, float64 [2, 3]."""
    return second[:, :2] @ first + np.pad(second[:, 2:], ((0, 0), (2, 0)))


def transform_boxes(boxes, transform):
    """Boxes [n, 4] after an affine without rotation, float64 [n, 4], corners in order."""
    points = boxes.reshape(-1, 2, 2) @ transform[:, :2].T + transform[:, 2]
    return np.concatenate([points.min(1), points.max(1)], 1)


def warp(picture, transform, size):
    """A picture seen through an affine to the unit square, on size × size pixels, uint8 [size, size, 3]."""
    matrix = compose(scaling(size, size), transform)
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV counts from the centre of the first pixel
    return cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def distort(picture, rng):
    """Photometric distortion (SSD, https://arxiv.org/abs/1512.02325, section 2.2), each part half of the time.

    Brightness by up to 32, contrast and saturation by 0.5 to 1.5, hue by up to 18 degrees; contrast comes before or
    after the other two.

    Args:
        picture: uint8 [h, w, 3], BGR.
        rng: numpy Generator.
    Returns:
        uint8 [h, w, 3].
    """
    pixels = picture.astype(np.float32)
    if rng.random() < 0.5:
        pixels += rng.uniform(-32, 32)
    contrast = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1
    first = rng.random() < 0.5
    if first:
        pixels *= contrast
    pixels = _shift_colours(pixels, rng)
    if not first:
        pixels *= contrast
    return np.clip(pixels, 0, 255).round().astype(np.uint8)


def _shift_colours(pixels, rng):
    saturation = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1
    hue = rng.uniform(-18, 18) if rng.random() < 0.5 else 0
    if saturation == 1 and hue == 0:
        return pixels
    hsv = cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV)
    hsv[..., 1] *= saturation
    hsv[..., 0] = (hsv[..., 0] + hue) % 360
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


def _masks(segmentations, transform, size):
    """bool [n, size, size]."""
    transform = compose(scaling(size, size), transform)
    masks = [rasterise(segmentation, (size, size), transform) for segmentation in segmentations]
    return np.array(masks, bool).reshape(-1, size, size)
