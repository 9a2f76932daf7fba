"""Augmentation as in SSD (https://arxiv.org/abs/1512.02325, section 2.2): an image and its objects → a sample.

All of the geometry (random expand, random crop, horizontal flip, resize) is one affine, float64 [2, 3], from the image,
which spans [0, width] x [0, height], to the unit square. So every pixel is interpolated once, and every mask is
rasterised once, at the size that the losses use. Photometric distortion follows.
"""
import functools
from typing import NamedTuple

import cv2
import numpy as np

from data.coco import Objects
from data.masks import Segmentation, rasterise
from model.config import Config

MIN_SIDE = 4 / 550  # of the image; thinner objects are dropped, as published
FILL_COLOUR = (104, 117, 124)  # BGR, around an expanded image: the mean of ImageNet
MAX_CROP_TRIES = 50  # to find a crop with an object
MAX_TRANSFORM_TRIES = 20  # to find a transform that keeps an object
HORIZONTAL_FLIP = np.array([[-1, 0, 1], [0, 1, 0]], np.float64)  # of the unit square


class Sample(NamedTuple):
    """An image as input of the network, and its ground truth as the losses take it.

    Attributes:
        image: uint8 [size, size, 3], BGR.
        boxes: float32 [n, 4], x0 y0 x1 y1 relative to the image.
        labels: int64 [n], classes from 0, without background.
        crowds: float32 [c, 4], boxes of crowds, likewise.
        masks: bool [n, p, p], at the size of the prototypes.
        semantic: bool [classes, p / 2, p / 2], the union of each class's masks.
    """
    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowds: np.ndarray
    masks: np.ndarray
    semantic: np.ndarray


class GeometricTransform(NamedTuple):
    """An affine, and what it makes of the objects of an image.

    Attributes:
        affine: float64 [2, 3], from the image to the unit square.
        kept: bool [n], the objects that stay in the sample.
        boxes: float32 [n, 4], the boxes of all objects, x0 y0 x1 y1 clipped to [0, 1].
    """
    affine: np.ndarray
    kept: np.ndarray
    boxes: np.ndarray


def make_sample(image: np.ndarray, objects: Objects, config: Config, rng: np.random.Generator | None = None,
                augmentation: str = 'full') -> Sample:
    """Resize an image and its objects to a network's input, and augment them for training.

    Args:
        image: uint8 [h, w, 3], BGR.
        objects: its ground truth.
        config: the network's.
        rng: for augmentation; None for none.
        augmentation: 'full' for random expand, random crop, horizontal flip and photometric distortion, as published;
            'light' for the last two.
    """
    not_crowd = np.arange(len(objects)) < len(objects) - objects.num_crowds
    transform = choose_transform(image.shape[1::-1], objects.boxes, not_crowd, rng, augmentation)
    pixels = warp(image, transform.affine, config.input_size)
    if rng is not None:
        left, top, right, bottom = _extent(image, transform.affine, config.input_size)
        pixels[top:bottom, left:right] = photometric_distortion(pixels[top:bottom, left:right], rng)

    kept = np.flatnonzero(transform.kept & not_crowd)
    labels = objects.labels[kept]
    segmentations = [objects.segmentations[i] for i in kept]
    masks = _masks(segmentations, transform.affine, config.prototype_size)
    semantic = np.zeros((config.num_classes - 1, *[config.level_sizes[0]] * 2), bool)
    for label, mask in zip(labels, _masks(segmentations, transform.affine, config.level_sizes[0])):
        semantic[label] |= mask
    crowds = transform.boxes[transform.kept & ~not_crowd]
    return Sample(pixels, transform.boxes[kept], labels, crowds, masks, semantic)


def choose_transform(size: tuple[int, ...], boxes: np.ndarray, not_crowd: np.ndarray,
                     rng: np.random.Generator | None = None, augmentation: str = 'full') -> GeometricTransform:
    """The geometric transform of a sample: one that keeps an object other than a crowd, unless all are too thin.

    Args:
        size: (width, height) of the image.
        boxes: float32 [n, 4], x0 y0 x1 y1 in its pixels.
        not_crowd: bool [n], the objects that are not crowds.
        rng: for a random transform; None for resizing alone.
        augmentation: as of `make_sample`.
    """
    if rng is not None:
        for _ in range(MAX_TRANSFORM_TRIES):
            transform = _apply(*_random_affine(size, boxes, not_crowd, rng, augmentation), boxes)
            if (transform.kept & not_crowd).any() or not not_crowd.any():
                return transform
    return _apply(scaling(1 / size[0], 1 / size[1]), np.ones(len(boxes), bool), boxes)


def _apply(affine: np.ndarray, in_crop: np.ndarray, boxes: np.ndarray) -> GeometricTransform:
    """Apply an affine to boxes. Of the objects in the crop, bool [n], it keeps those that are not too thin."""
    boxes = np.clip(transform_boxes(boxes, affine), 0, 1).astype(np.float32)
    return GeometricTransform(affine, in_crop & (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE).all(1), boxes)


def _random_affine(size: tuple[int, ...], boxes: np.ndarray, not_crowd: np.ndarray, rng: np.random.Generator,
                   augmentation: str) -> tuple[np.ndarray, np.ndarray]:
    """An affine to the unit square, float64 [2, 3], and the objects in the crop, bool [n]."""
    if augmentation == 'full':
        canvas, corner = _random_expand(np.array(size), rng)
        crop, in_crop = _random_crop(canvas, boxes + np.tile(corner, 2), not_crowd, rng)
        width, height = crop[2:] - crop[:2]
        affine = compose(scaling(1 / width, 1 / height), translation(*(corner - crop[:2])))
    else:
        affine, in_crop = scaling(1 / size[0], 1 / size[1]), np.ones(len(boxes), bool)
    return compose(HORIZONTAL_FLIP, affine) if rng.random() < 0.5 else affine, in_crop


def _random_expand(size: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """With probability 1/2, place the image at random on a canvas 1 to 4 times as wide and as high.

    Returns:
        The canvas's width and height, and x and y of the image's corner on it, int64 [2] each.
    """
    if rng.random() < 0.5:
        return size, np.zeros(2, int)
    ratio = rng.uniform(1, 4)
    return (size * ratio).astype(int), rng.uniform(0, size * (ratio - 1)).astype(int)


def _random_crop(size: np.ndarray, boxes: np.ndarray, not_crowd: np.ndarray,
                 rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """With probability 5/6, a crop 0.3 to 1 times as wide and as high, around the centre of an object.

    The object is not a crowd, unless there are only crowds. SSD also draws a minimum IoU of an object with the crop:
    0.1, 0.3, 0.7, 0.9 or none. The public code of YOLACT draws it, too, but its check lets every crop pass, and with a
    check that works the AP was far worse. So there is no minimum here.

    Returns:
        x0 y0 x1 y1 of the crop, int64 [4], and which objects have their centres in it, bool [n].
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    while rng.random() < 5 / 6:
        for _ in range(MAX_CROP_TRIES):
            sides = rng.uniform(0.3, 1, 2) * size
            if not 0.5 <= sides[1] / sides[0] <= 2:
                continue
            corner = rng.uniform(0, size - sides)
            crop = np.concatenate([corner, corner + sides]).astype(int)
            in_crop = ((crop[:2] < centres) & (centres < crop[2:])).all(1)
            if (crop[2:] > crop[:2]).all() and ((in_crop & not_crowd).any() or not not_crowd.any()):
                return crop, in_crop
    return np.array([0, 0, *size]), np.ones(len(boxes), bool)


def scaling(x: float, y: float) -> np.ndarray:
    """The affine that scales by x and y, float64 [2, 3]."""
    return np.array([[x, 0, 0], [0, y, 0]], np.float64)


def translation(x: float, y: float) -> np.ndarray:
    """The affine that translates by x and y, float64 [2, 3]."""
    return np.array([[1, 0, x], [0, 1, y]], np.float64)


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The affine that applies first and then second, float64 [2, 3]."""
    return second[:, :2] @ first + np.pad(second[:, 2:], ((0, 0), (2, 0)))


def transform_boxes(boxes: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Boxes x0 y0 x1 y1, [n, 4], under an affine without rotation: float64 [n, 4], x0 y0 x1 y1."""
    points = boxes.reshape(-1, 2, 2) @ affine[:, :2].T + affine[:, 2]
    return np.concatenate([points.min(1), points.max(1)], 1)


def warp(image: np.ndarray, affine: np.ndarray, size: int) -> np.ndarray:
    """An image under an affine to the unit square, sampled at size × size pixels: uint8 [size, size, 3]."""
    matrix = compose(scaling(size, size), affine)
    left, top, right, bottom = _extent(image, affine, size)
    whole = right - left == bottom - top == size
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV counts from the centre of the first pixel
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=FILL_COLOUR,
                          borderMode=cv2.BORDER_REPLICATE if whole else cv2.BORDER_CONSTANT)


def _extent(image: np.ndarray, affine: np.ndarray, size: int) -> tuple[int, int, int, int]:
    """The part of the size × size pixels that shows the image, not the canvas around it: x0 y0 x1 y1."""
    height, width = image.shape[:2]
    box, = transform_boxes(np.array([[0, 0, width, height]]), affine) * size
    return np.clip(box.round(), 0, size).astype(int)


def photometric_distortion(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and hue, each with probability 1/2.

    Brightness changes by up to 32, contrast and saturation by factors of 0.5 to 1.5, hue by up to 18 degrees. Contrast
    is changed before or after saturation and hue, with probability 1/2.

    Args:
        image: uint8 [h, w, 3], BGR.
        rng: for the changes.
    Returns:
        uint8 [h, w, 3], BGR.
    """
    if not image.size:
        return image
    brightness = rng.uniform(-32, 32) if rng.random() < 0.5 else 0
    contrast = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1
    before, after = (contrast, 1) if rng.random() < 0.5 else (1, contrast)
    pixels = cv2.addWeighted(image, before, image, 0, before * brightness, dtype=cv2.CV_32F)
    pixels = _distort_saturation_and_hue(pixels, rng)
    return cv2.convertScaleAbs(np.maximum(pixels, 0, out=pixels), alpha=after)  # rounds, and saturates at 255


def _distort_saturation_and_hue(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        # The same as in HSV, without the conversion: each channel's distance from the brightest scales by the factor.
        factor = rng.uniform(0.5, 1.5)
        brightest = functools.reduce(cv2.max, cv2.split(pixels))
        pixels = cv2.addWeighted(pixels, factor, cv2.merge([brightest] * 3), 1 - factor, 0)
    if rng.random() < 0.5:
        hsv = cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = hsv[..., 0] + rng.uniform(-18, 18)  # degrees; OpenCV wraps them
        pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    return pixels


def _masks(segmentations: list[Segmentation], affine: np.ndarray, size: int) -> np.ndarray:
    """Masks under an affine to the unit square, rasterised at size × size pixels: bool [n, size, size]."""
    affine = compose(scaling(size, size), affine)
    masks = [rasterise(segmentation, (size, size), affine) for segmentation in segmentations]
    return np.array(masks, bool).reshape(-1, size, size)
