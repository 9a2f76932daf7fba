"""An image and its objects → what the network trains on, varied as SSD does (https://arxiv.org/abs/1512.02325, 2.2).

Geometry is one 2x3 affine from the image, which spans [0, width] x [0, height], to the input, so every pixel is
interpolated once and every mask is drawn once, straight at the size that the losses use.
"""
import functools
from typing import Any, NamedTuple

import cv2
import numpy as np

from data.coco import Objects
from data.masks import rasterise
from model.config import Config

MIN_SIDE = 4 / 550  # of the image; thinner objects are dropped, as published
MEAN = (104, 117, 124)  # BGR, of ImageNet's images: what an expanded image is filled with
CROPS = 50  # tries to find a crop with an object
VIEWS = 20  # tries to find a view with an object that is not too thin


class Sample(NamedTuple):
    """One image as the network and its losses want it.

    Attributes:
        image: uint8 [size, size, 3], BGR.
        boxes: float32 [n, 4], x0 y0 x1 y1 relative to the image.
        labels: int64 [n], classes without background.
        crowds: float32 [c, 4], boxes of crowds.
        masks: bool [n, p, p], at the size of the prototypes.
        semantic: bool [classes, p / 2, p / 2], where each class is.
    """
    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowds: np.ndarray
    masks: np.ndarray
    semantic: np.ndarray


class View(NamedTuple):
    """What a sample shows of an image.

    Attributes:
        transform: float64 [2, 3], the affine from the image to the unit square.
        kept: bool [n], the objects that are seen.
        boxes: float32 [n, 4], theirs, x0 y0 x1 y1 in [0, 1].
    """
    transform: np.ndarray
    kept: np.ndarray
    boxes: np.ndarray


def make_sample(image: np.ndarray, objects: Objects, config: Config, rng: np.random.Generator | None = None,
                augmentation: str = 'full') -> Sample:
    """Resize an image and its objects to a network's input, at random variations of it for training.

    Args:
        image: uint8 [h, w, 3], BGR.
        objects: `coco.Objects`.
        config: the network's `Config`.
        rng: numpy Generator for the variations; None leaves the image as it is.
        augmentation: 'full' for expansion, crop, mirroring and photometric distortion, as published; 'light' for the
            last two.
    Returns:
        `Sample`.
    """
    regular = np.arange(len(objects)) < len(objects) - objects.num_crowds
    view = choose_view(image.shape[1::-1], objects.boxes, regular, rng, augmentation)
    pixels = warp(image, view.transform, config.input_size)
    if rng is not None:
        left, top, right, bottom = _extent(image, view.transform, config.input_size)
        pixels[top:bottom, left:right] = distort(pixels[top:bottom, left:right], rng)

    wanted = np.flatnonzero(view.kept & regular)
    labels = objects.labels[wanted]
    segmentations = [objects.segmentations[i] for i in wanted]
    masks = _masks(segmentations, view.transform, config.prototype_size)
    semantic = np.zeros((config.num_classes - 1, *[config.level_sizes[0]] * 2), bool)
    for label, mask in zip(labels, _masks(segmentations, view.transform, config.level_sizes[0])):
        semantic[label] |= mask
    return Sample(pixels, view.boxes[wanted], labels, view.boxes[view.kept & ~regular], masks, semantic)


def choose_view(size: tuple[int, ...], boxes: np.ndarray, regular: np.ndarray, rng: np.random.Generator | None = None,
                augmentation: str = 'full') -> View:
    """Which part of an image to show.

    Args:
        size: (width, height) of the image.
        boxes: float32 [n, 4], x0 y0 x1 y1 in its pixels.
        regular: bool [n], false for crowds.
        rng: numpy Generator; None shows the whole image.
        augmentation: as `make_sample` takes it.
    Returns:
        `View`, with a regular object in it if the image has one that is not too thin.
    """
    for _ in range(VIEWS if rng is not None else 0):
        assert rng is not None
        view = _look(*_draw_view(size, boxes, regular, rng, augmentation), boxes)
        if (view.kept & regular).any() or not regular.any():
            return view
    return _look(scaling(1 / size[0], 1 / size[1]), True, boxes)


def _look(transform: np.ndarray, kept: np.ndarray | bool, boxes: np.ndarray) -> View:
    """The `View` through a transform of objects that may be kept."""
    boxes = np.clip(transform_boxes(boxes, transform), 0, 1).astype(np.float32)
    return View(transform, kept & (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE).all(1), boxes)


def _draw_view(size: tuple[int, ...], boxes: np.ndarray, regular: np.ndarray, rng: np.random.Generator,
               augmentation: str) -> tuple[np.ndarray, np.ndarray]:
    """An affine to the unit square, and bool [n], the objects that it keeps."""
    if augmentation == 'full':
        canvas, corner = _expand(np.array(size), rng)
        crop, kept = _crop(canvas, boxes + np.tile(corner, 2), regular, rng)
        x, y = crop[2:] - crop[:2]
        transform = compose(scaling(1 / x, 1 / y), shift(*(corner - crop[:2])))
    else:
        transform, kept = scaling(1 / size[0], 1 / size[1]), np.ones(len(boxes), bool)
    return compose(MIRROR, transform) if rng.random() < 0.5 else transform, kept


def _expand(size: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Half of the time, the image lies somewhere on a canvas 1 to 4 times as large.

    Returns:
        The canvas's width and height, and x and y of the image's corner on it, int64 [2] each.
    """
    if rng.random() < 0.5:
        return size, np.zeros(2, int)
    ratio = rng.uniform(1, 4)
    return (size * ratio).astype(int), rng.uniform(0, size * (ratio - 1)).astype(int)


def _crop(size: np.ndarray, boxes: np.ndarray, regular: np.ndarray,
          rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Five times of six, a part that is 0.3 to 1 times as wide and as high, and has an object's centre in it.

    SSD also draws a least IoU that an object must have with the crop: 0.1, 0.3, 0.7, 0.9 or none. The public code of
    YOLACT draws it too, but its test lets every crop pass, and with a test that works the AP was far worse; so all
    five are the same here.

    Returns:
        x0 y0 x1 y1 of the crop, int64 [4], and which objects are kept, bool [n].
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    while rng.random() < 5 / 6:
        for _ in range(CROPS):
            sides = rng.uniform(0.3, 1, 2) * size
            if not 0.5 <= sides[1] / sides[0] <= 2:
                continue
            corner = rng.uniform(0, size - sides)
            crop = np.concatenate([corner, corner + sides]).astype(int)
            kept = ((crop[:2] < centres) & (centres < crop[2:])).all(1)
            if (crop[2:] > crop[:2]).all() and ((kept & regular).any() or not regular.any()):
                return crop, kept
    return np.array([0, 0, *size]), np.ones(len(boxes), bool)


MIRROR = np.array([[-1, 0, 1], [0, 1, 0]], np.float64)


def scaling(x: float, y: float) -> np.ndarray:
    """The affine that stretches by x and y, float64 [2, 3]."""
    return np.array([[x, 0, 0], [0, y, 0]], np.float64)


def shift(x: float, y: float) -> np.ndarray:
    """The affine that moves by x and y, float64 [2, 3]."""
    return np.array([[1, 0, x], [0, 1, y]], np.float64)


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The affine that does first and then second, float64 [2, 3]."""
    return second[:, :2] @ first + np.pad(second[:, 2:], ((0, 0), (2, 0)))


def transform_boxes(boxes: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Boxes [n, 4] after an affine without rotation, float64 [n, 4], corners in order."""
    points = boxes.reshape(-1, 2, 2) @ transform[:, :2].T + transform[:, 2]
    return np.concatenate([points.min(1), points.max(1)], 1)


def warp(image: np.ndarray, transform: np.ndarray, size: int) -> np.ndarray:
    """An image seen through an affine to the unit square, on size × size pixels, uint8 [size, size, 3]."""
    matrix = compose(scaling(size, size), transform)
    left, top, right, bottom = _extent(image, transform, size)
    whole = right - left == bottom - top == size
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV counts from the centre of the first pixel
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=MEAN,
                          borderMode=cv2.BORDER_REPLICATE if whole else cv2.BORDER_CONSTANT)


def _extent(image: np.ndarray, transform: np.ndarray, size: int) -> tuple[int, int, int, int]:
    """The pixels of size × size that show the image itself: x0 y0 x1 y1, int."""
    height, width = image.shape[:2]
    box, = transform_boxes(np.array([[0, 0, width, height]]), transform) * size
    return np.clip(box.round(), 0, size).astype(int)


def distort(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Photometric distortion, each part half of the time.

    Brightness by up to 32, contrast and saturation by 0.5 to 1.5, hue by up to 18 degrees; contrast comes before or
    after the other two.

    Args:
        image: uint8 [h, w, 3], BGR.
        rng: numpy Generator.
    Returns:
        uint8 [h, w, 3].
    """
    if not image.size:
        return image
    brighter = rng.uniform(-32, 32) if rng.random() < 0.5 else 0
    contrast = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1
    before, after = (contrast, 1) if rng.random() < 0.5 else (1, contrast)
    pixels = cv2.addWeighted(image, before, image, 0, before * brighter, dtype=cv2.CV_32F)
    pixels = _shift_colours(pixels, rng)
    return cv2.convertScaleAbs(np.maximum(pixels, 0, out=pixels), alpha=after)  # rounds, and cuts off at 255


def _shift_colours(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        # What saturation times a factor comes to: in HSV each channel's distance from the brightest scales with it.
        factor = rng.uniform(0.5, 1.5)
        brightest = functools.reduce(cv2.max, cv2.split(pixels))
        pixels = cv2.addWeighted(pixels, factor, cv2.merge([brightest] * 3), 1 - factor, 0)
    if rng.random() < 0.5:
        hsv = cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = hsv[..., 0] + rng.uniform(-18, 18)  # degrees; OpenCV wraps them
        pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    return pixels


def _masks(segmentations: list[Any], transform: np.ndarray, size: int) -> np.ndarray:
    """bool [n, size, size]."""
    transform = compose(scaling(size, size), transform)
    masks = [rasterise(segmentation, (size, size), transform) for segmentation in segmentations]
    return np.array(masks, bool).reshape(-1, size, size)
