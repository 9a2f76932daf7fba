"""Augmentation: an image and its objects, perhaps with other images, → a sample.

All of the geometry (random expand, random crop, scale jitter, rotation, flips, resize) is one affine, float64 [2, 3],
from an image, which spans [0, width] x [0, height], to the unit square. So every pixel is interpolated once, and every
mask is rasterised once, at the size that the losses use. Photometric distortion follows. `make_sample` does what is
published for YOLACT; `data.composition` does the rest, and puts several images into one sample.
"""
import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

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
VERTICAL_FLIP = np.array([[1, 0, 0], [0, -1, 1]], np.float64)
QUARTER_TURN = np.array([[0, -1, 1], [1, 0, 0]], np.float64)  # clockwise
MAX_SHIFT = 0.1  # of the side, beyond what keeps the image within the sample, or the sample within the image

Window = tuple[int, int, int, int]  # x0 y0 x1 y1, a part of a grid of pixels


@dataclass(frozen=True)
class Augmentation:
    """What is done to images at random, beside horizontal flips and photometric distortion.

    Attributes:
        expand_and_crop: random expand and random crop of SSD (https://arxiv.org/abs/1512.02325, section 2.2).
        scale_jitter: an image is scaled by a factor between 1 / (1 + this) and 1 + this, and shifted: large-scale
            jitter of https://arxiv.org/abs/2012.07177.
        rotation: degrees, the largest angle by which an image is turned either way.
        vertical_flip: whether half of the images are flipped vertically.
        quarter_turns: whether images are turned by a random multiple of 90 degrees.
        mosaic: probability that a sample is put together from four images (https://arxiv.org/abs/2004.10934, section
            3.3).
        copy_paste: probability that objects of another image are pasted (https://arxiv.org/abs/2012.07177).
    """
    expand_and_crop: bool = False
    scale_jitter: float = 0.0
    rotation: float = 0.0
    vertical_flip: bool = False
    quarter_turns: bool = False
    mosaic: float = 0.0
    copy_paste: float = 0.0

    @property
    def published(self) -> bool:
        """Whether this does no more than what is published for YOLACT."""
        return dataclasses.replace(self, expand_and_crop=False) == Augmentation()


AUGMENTATIONS = {
    'full': Augmentation(expand_and_crop=True),
    'light': Augmentation(),
    'strong': Augmentation(scale_jitter=0.5, mosaic=0.3, copy_paste=0.3),
}
CHANGEABLE = ('scale_jitter', 'rotation', 'vertical_flip', 'quarter_turns', 'mosaic', 'copy_paste')  # fields


def choose_augmentation(name: str, changes: Mapping[str, Any]) -> Augmentation:
    """The augmentation of a name, with other values for the fields of `CHANGEABLE` that are given and not None."""
    given = {field: changes[field] for field in CHANGEABLE if changes.get(field) is not None}
    return dataclasses.replace(AUGMENTATIONS[name], **given)


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
                augmentation: Augmentation = AUGMENTATIONS['full']) -> Sample:
    """Resize an image and its objects to a network's input, and augment them for training as published.

    Args:
        image: uint8 [h, w, 3], BGR.
        objects: its ground truth.
        config: the network's.
        rng: for augmentation; None for none.
        augmentation: a published one.
    """
    transform = choose_transform(image.shape[1::-1], objects, rng, augmentation)
    window = 0, 0, config.input_size, config.input_size
    pixels = augmented_pixels(image, transform.affine, config.input_size, window, rng)
    regular = not_crowd(objects)
    kept = np.flatnonzero(transform.kept & regular)
    labels = objects.labels[kept]
    segmentations = [objects.segmentations[i] for i in kept]
    masks = rasterise_all(segmentations, transform.affine, config.prototype_size)
    small_masks = rasterise_all(segmentations, transform.affine, config.level_sizes[0])
    return Sample(pixels, transform.boxes[kept], labels, transform.boxes[transform.kept & ~regular], masks,
                  union_by_class(labels, small_masks, config))


def not_crowd(objects: Objects) -> np.ndarray:
    """Which objects are not crowds, bool [n]."""
    return np.arange(len(objects)) < len(objects) - objects.num_crowds


def augmented_pixels(image: np.ndarray, affine: np.ndarray, size: int, window: Window,
                     rng: np.random.Generator | None) -> np.ndarray:
    """`warp`, and photometric distortion where there is a generator for it."""
    pixels = warp(image, affine, size, window)
    if rng is not None:
        left, top, right, bottom = _extent(image, affine, size, window)
        pixels[top:bottom, left:right] = photometric_distortion(pixels[top:bottom, left:right], rng)
        if not _is_upright(affine):
            pixels[~_inside(image, affine, size, window)] = FILL_COLOUR
    return pixels


def _is_upright(affine: np.ndarray) -> bool:
    """Whether an affine turns by quarters only, if at all."""
    return bool((affine[:, :2] == 0).sum() == 2)


def _inside(image: np.ndarray, affine: np.ndarray, size: int, window: Window) -> np.ndarray:
    """Which pixels of a window show the image, turned by any angle: bool [h, w]."""
    x0, y0, x1, y1 = window
    height, width = image.shape[:2]
    outline = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
    matrix = compose(translation(-x0, -y0), compose(scaling(size, size), affine))
    return rasterise([outline], (y1 - y0, x1 - x0), matrix)


def union_by_class(labels: np.ndarray, masks: np.ndarray, config: Config) -> np.ndarray:
    """Semantic targets: the union of the masks of each class, bool [classes, h, w], of masks [n, h, w]."""
    semantic = np.zeros((config.num_classes - 1, *[config.level_sizes[0]] * 2), bool)
    for label, mask in zip(labels, masks):
        semantic[label] |= mask
    return semantic


def choose_transform(size: tuple[int, ...], objects: Objects, rng: np.random.Generator | None = None,
                     augmentation: Augmentation = AUGMENTATIONS['full']) -> GeometricTransform:
    """The geometric transform of a sample: one that keeps an object other than a crowd, unless all are too thin.

    Args:
        size: (width, height) of the image.
        objects: its ground truth.
        rng: for a random transform; None for resizing alone.
        augmentation: as of `make_sample`.
    """
    regular = not_crowd(objects)
    if rng is not None:
        for _ in range(MAX_TRANSFORM_TRIES):
            affine, in_crop = _random_affine(size, objects.boxes, regular, rng, augmentation)
            transform = transform_objects(objects, affine, in_crop)
            if (transform.kept & regular).any() or not regular.any():
                return transform
    return transform_objects(objects, scaling(1 / size[0], 1 / size[1]), np.ones(len(objects), bool))


def transform_objects(objects: Objects, affine: np.ndarray, in_crop: np.ndarray) -> GeometricTransform:
    """Apply an affine to objects. Of those in the crop, bool [n], it keeps the ones that are not too thin."""
    boxes = np.clip(transform_boxes(objects.boxes, affine), 0, 1).astype(np.float32)
    return GeometricTransform(affine, in_crop & large_enough(boxes), boxes)


def large_enough(boxes: np.ndarray) -> np.ndarray:
    """Which boxes, [n, 4] x0 y0 x1 y1 relative to the image, are not too thin to learn from, bool [n]."""
    return (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE).all(1)


def _random_affine(size: tuple[int, ...], boxes: np.ndarray, regular: np.ndarray, rng: np.random.Generator,
                   augmentation: Augmentation) -> tuple[np.ndarray, np.ndarray]:
    """An affine to the unit square, float64 [2, 3], and the objects in the crop, bool [n]."""
    if augmentation.expand_and_crop:
        canvas, corner = _random_expand(np.array(size), rng)
        crop, in_crop = _random_crop(canvas, boxes + np.tile(corner, 2), regular, rng)
        width, height = crop[2:] - crop[:2]
        affine = compose(scaling(1 / width, 1 / height), translation(*(corner - crop[:2])))
    else:
        affine, in_crop = scaling(1 / size[0], 1 / size[1]), np.ones(len(boxes), bool)
    affine = turn_and_flip(affine, size, rng, augmentation)
    if augmentation.scale_jitter:
        affine = compose(_random_scaling(augmentation.scale_jitter, rng), affine)
    if not augmentation.published:
        centres = transform_boxes(boxes, affine).reshape(-1, 2, 2).mean(1)
        in_crop = in_crop & ((0 < centres) & (centres < 1)).all(1)
    return affine, in_crop


def turn_and_flip(affine: np.ndarray, size: tuple[int, ...], rng: np.random.Generator,
                  augmentation: Augmentation) -> np.ndarray:
    """Rotate an image of (width, height) around its centre before an affine to the unit square; turn and flip that."""
    if augmentation.rotation:
        angle = rng.uniform(-augmentation.rotation, augmentation.rotation)
        affine = compose(affine, rotation(angle, size[0] / 2, size[1] / 2))
    if augmentation.quarter_turns:
        for _ in range(rng.integers(4)):
            affine = compose(QUARTER_TURN, affine)
    if augmentation.vertical_flip and rng.random() < 0.5:
        affine = compose(VERTICAL_FLIP, affine)
    return compose(HORIZONTAL_FLIP, affine) if rng.random() < 0.5 else affine


def _random_scaling(jitter: float, rng: np.random.Generator) -> np.ndarray:
    """Scales the unit square by a random factor, and shifts it: it fills the unit square or lies in it, but for
    `MAX_SHIFT`."""
    factor = np.exp(rng.uniform(-1, 1) * np.log(1 + jitter))
    shift = rng.uniform(min(0, 1 - factor) - MAX_SHIFT, max(0, 1 - factor) + MAX_SHIFT, 2)
    return compose(translation(*shift), scaling(factor, factor))


def _random_expand(size: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """With probability 1/2, place the image at random on a canvas 1 to 4 times as wide and as high.

    Returns:
        The canvas's width and height, and x and y of the image's corner on it, int64 [2] each.
    """
    if rng.random() < 0.5:
        return size, np.zeros(2, int)
    ratio = rng.uniform(1, 4)
    return (size * ratio).astype(int), rng.uniform(0, size * (ratio - 1)).astype(int)


def _random_crop(size: np.ndarray, boxes: np.ndarray, regular: np.ndarray,
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
            if (crop[2:] > crop[:2]).all() and ((in_crop & regular).any() or not regular.any()):
                return crop, in_crop
    return np.array([0, 0, *size]), np.ones(len(boxes), bool)


def scaling(x: float, y: float) -> np.ndarray:
    """The affine that scales by x and y, float64 [2, 3]."""
    return np.array([[x, 0, 0], [0, y, 0]], np.float64)


def translation(x: float, y: float) -> np.ndarray:
    """The affine that translates by x and y, float64 [2, 3]."""
    return np.array([[1, 0, x], [0, 1, y]], np.float64)


def rotation(degrees: float, x: float, y: float) -> np.ndarray:
    """The affine that turns by an angle, clockwise in an image, around a point, float64 [2, 3]."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]], np.float64)
    return compose(translation(x, y), compose(turn, translation(-x, -y)))


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The affine that applies first and then second, float64 [2, 3]."""
    composed = second[:, :2] @ first
    composed[:, 2] += second[:, 2]
    return composed


def transform_boxes(boxes: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The bounds of boxes x0 y0 x1 y1, [n, 4], under an affine: float64 [n, 4], x0 y0 x1 y1."""
    corners = boxes[:, [0, 1, 2, 3, 0, 3, 2, 1]].reshape(-1, 4, 2) @ affine[:, :2].T + affine[:, 2]
    return np.concatenate([corners.min(1), corners.max(1)], 1)


def warp(image: np.ndarray, affine: np.ndarray, size: int, window: Window | None = None) -> np.ndarray:
    """An image under an affine to the unit square, sampled at size × size pixels.

    Args:
        image: uint8 [H, W, 3].
        affine: float64 [2, 3].
        size: of the grid of pixels.
        window: the part of the grid that is wanted; None for all of it.
    Returns:
        uint8 [h, w, 3], the pixels of the window.
    """
    x0, y0, x1, y1 = window = window or (0, 0, size, size)
    matrix = compose(scaling(size, size), affine)
    left, top, right, bottom = _extent(image, affine, size, window)
    whole = _is_upright(affine) and right - left == x1 - x0 and bottom - top == y1 - y0
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV counts from the centre of the first pixel
    matrix[:, 2] -= x0, y0
    return cv2.warpAffine(image, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderValue=FILL_COLOUR,
                          borderMode=cv2.BORDER_REPLICATE if whole else cv2.BORDER_CONSTANT)


def _extent(image: np.ndarray, affine: np.ndarray, size: int, window: Window) -> tuple[int, int, int, int]:
    """The part of a window of size × size pixels that shows the image, not the canvas around it: x0 y0 x1 y1 in it."""
    height, width = image.shape[:2]
    box, = transform_boxes(np.array([[0, 0, width, height]]), affine) * size
    low, high = np.tile(window[:2], 2), np.tile(window[2:], 2)
    return tuple((np.clip(box.round(), low, high) - low).astype(int).tolist())


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


def rasterise_all(segmentations: list[Segmentation], affine: np.ndarray, size: int) -> np.ndarray:
    """Masks under an affine to the unit square, rasterised at size × size pixels: bool [n, size, size]."""
    affine = compose(scaling(size, size), affine)
    masks = [rasterise(segmentation, (size, size), affine) for segmentation in segmentations]
    return np.array(masks, bool).reshape(-1, size, size)
