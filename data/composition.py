"""Samples of images that are scaled, turned, put into mosaics, and have objects of other images pasted over them.

Each image is a layer with an affine of its own, so that its pixels and masks are interpolated once. The box of an
object is the bounds of what is left to see of its mask.
"""
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from data.augmentation import (
    FILL_COLOUR,
    Augmentation,
    Sample,
    Window,
    augmented_pixels,
    choose_transform,
    compose,
    large_enough,
    make_sample,
    not_crowd,
    scaling,
    transform_boxes,
    translation,
    turn_and_flip,
    union_by_class,
)
from data.coco import Objects
from data.masks import (
    RLE,
    area,
    bounding_box,
    decode,
    decode_all,
    encode,
    encode_mask,
    encode_polygons,
    intersection,
    union,
)
from model.config import Config

MAX_OBJECTS = 5000  # of a sample; the IoU matrix of 100,000 with all anchors takes all memory
MIN_VISIBLE = 0.1  # share of an object that must be left to see
MOSAIC_CENTRE = (0.3, 0.7)  # where the four images of a mosaic may meet, along each axis
MAX_PASTED = 10  # objects
MIN_INSIDE = 0.5  # share of an object within pasted ones from which it is pasted with them
ALL = (0.0, 0.0, 1.0, 1.0)

Source = tuple[np.ndarray, Objects]  # an image, uint8 [h, w, 3], BGR, and its ground truth
Region = tuple[float, float, float, float]  # x0 y0 x1 y1, a part of the unit square


class Layer(NamedTuple):
    """An image in a sample.

    Attributes:
        image: uint8 [h, w, 3], BGR.
        objects: its ground truth.
        affine: float64 [2, 3], from the image to the unit square.
        region: the part of the unit square that shows it.
    """
    image: np.ndarray
    objects: Objects
    affine: np.ndarray
    region: Region = ALL


class Placed(NamedTuple):
    """An object in a sample.

    Attributes:
        label: its class, from 0.
        crowd: whether it is a crowd.
        area: of the whole object, seen or not, in pixels of the input.
        masks: what is seen of it, on each of the grids.
    """
    label: int
    crowd: bool
    area: float
    masks: tuple[RLE, ...]

    @property
    def box(self) -> np.ndarray:
        """The bounds of what is seen, float32 [4], x0 y0 x1 y1 relative to the sample."""
        x, y, width, height = bounding_box(self.masks[0])
        return np.array([x, y, x + width, y + height], np.float32) / self.masks[0]['size'][0]

    @property
    def visible(self) -> bool:
        """Whether enough of it is left to learn from."""
        return area(self.masks[0]) >= max(MIN_VISIBLE * self.area, 1) and bool(large_enough(self.box[None])[0])


def compose_sample(source: Source, config: Config, rng: np.random.Generator, augmentation: Augmentation,
                   draw_source: Callable[[], Source]) -> Sample:
    """A sample of an image, and perhaps of others.

    Args:
        source: the image.
        config: the network's.
        rng: for augmentation.
        augmentation: what to do.
        draw_source: another image at random.
    """
    if augmentation.published:
        return make_sample(*source, config, rng, augmentation)
    grids = config.input_size, config.prototype_size, config.level_sizes[0]
    canvas = np.full((config.input_size, config.input_size, 3), FILL_COLOUR, np.uint8)
    placed: list[Placed] = []
    for layer in _choose_layers(source, rng, augmentation, draw_source):
        window = x0, y0, x1, y1 = _window(layer.region, config.input_size)
        canvas[y0:y1, x0:x1] = augmented_pixels(layer.image, layer.affine, config.input_size, window, rng)
        placed += place(layer, grids)
    if rng.random() < augmentation.copy_paste:
        layer = _lone_layer(draw_source(), rng, augmentation)
        if len(placed) + len(layer.objects) <= MAX_OBJECTS:
            placed = _paste(canvas, placed, layer, grids, rng)
    return _finish(canvas, placed, config)


def place(layer: Layer, grids: Sequence[int]) -> list[Placed]:
    """The objects of a layer that are seen in it, on grids of so many pixels a side, the input's first."""
    height, width = layer.image.shape[:2]
    affines = [compose(scaling(size, size), layer.affine) for size in grids]
    frames = [_frame(layer, size) for size in grids]
    boxes = transform_boxes(layer.objects.boxes, layer.affine)
    low, high = np.array(layer.region[:2]), np.array(layer.region[2:])
    whole = np.asarray(((low <= boxes[:, :2]) & (boxes[:, 2:] <= high)).all(1))
    magnification = abs(np.linalg.det(affines[0][:, :2]))
    regular, placed = not_crowd(layer.objects), []
    for i in np.flatnonzero(((boxes[:, 2:] > low) & (boxes[:, :2] < high)).all(1)):
        segmentation = layer.objects.segmentations[i]
        masks = tuple(intersection(encode(segmentation, (size, size), affine), frame)
                      for size, affine, frame in zip(grids, affines, frames))
        pixels = area(masks[0]) if whole[i] else area(encode(segmentation, (height, width))) * magnification
        placed.append(Placed(int(layer.objects.labels[i]), not regular[i], pixels, masks))
    return [thing for thing in placed if thing.visible]


def _frame(layer: Layer, size: int) -> RLE:
    """The pixels of a grid that show the layer's image."""
    height, width = layer.image.shape[:2]
    outline = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
    image = encode_polygons([outline], (size, size), compose(scaling(size, size), layer.affine))
    x0, y0, x1, y1 = _window(layer.region, size)
    region = encode_polygons([np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float64)], (size, size))
    return intersection(image, region)


def _window(region: Region, size: int) -> Window:
    """The pixels of a grid whose centres are in a region."""
    x0, y0, x1, y1 = (round(side * size) for side in region)
    return x0, y0, x1, y1


def _choose_layers(source: Source, rng: np.random.Generator, augmentation: Augmentation,
                   draw_source: Callable[[], Source]) -> list[Layer]:
    """The image alone, or in a mosaic."""
    if rng.random() < augmentation.mosaic:
        sources = [source, *(draw_source() for _ in range(3))]
        if sum(len(objects) for _, objects in sources) <= MAX_OBJECTS:
            return _mosaic(sources, rng, augmentation)
    return [_lone_layer(source, rng, augmentation)]


def _lone_layer(source: Source, rng: np.random.Generator, augmentation: Augmentation) -> Layer:
    return Layer(*source, choose_transform(source[0].shape[1::-1], source[1], rng, augmentation).affine)


def _mosaic(sources: list[Source], rng: np.random.Generator, augmentation: Augmentation) -> list[Layer]:
    """Four images around a random point. Each fills its region, and is cropped at random there."""
    x, y = rng.uniform(*MOSAIC_CENTRE, 2).tolist()
    layers = []
    for source, region in zip(sources, ((0, 0, x, y), (x, 0, 1, y), (0, y, x, 1), (x, y, 1, 1))):
        width, height = source[0].shape[1::-1]
        affine = turn_and_flip(scaling(1 / width, 1 / height), (width, height), rng, augmentation)
        sides = np.subtract(region[2:], region[:2])
        factor = sides.max() * (1 + augmentation.scale_jitter) ** rng.random()
        corner = region[:2] + rng.uniform(sides - factor, 0)
        layers.append(Layer(*source, compose(translation(*corner), compose(scaling(factor, factor), affine)), region))
    return layers


def _paste(canvas: np.ndarray, placed: list[Placed], layer: Layer, grids: Sequence[int],
           rng: np.random.Generator) -> list[Placed]:
    """Paste some objects of a layer over the canvas, in place. Returns all objects, cut where others cover them."""
    pasted = _choose_pasted(place(layer, grids), rng)
    if not pasted:
        return placed
    covers = [union([thing.masks[i] for thing in pasted]) for i in range(len(grids))]
    x, y, width, height = map(int, bounding_box(covers[0]))
    pixels = augmented_pixels(layer.image, layer.affine, grids[0], (x, y, x + width, y + height), rng)
    part = canvas[y:y + height, x:x + width]
    part[:] = cv2.copyTo(pixels, decode(covers[0])[y:y + height, x:x + width].copy(), part.copy())
    rests = [encode_mask(decode(cover) == 0) for cover in covers]
    return [thing._replace(masks=tuple(map(intersection, thing.masks, rests))) for thing in placed] + pasted


def _choose_pasted(candidates: list[Placed], rng: np.random.Generator) -> list[Placed]:
    """A random subset without crowds, and what lies within it: a facade is pasted with its windows."""
    candidates = [thing for thing in candidates if not thing.crowd]
    if not candidates:
        return []
    number = rng.integers(1, min(len(candidates), MAX_PASTED) + 1)
    chosen = set(rng.permutation(len(candidates))[:number].tolist())
    cover = union([candidates[i].masks[0] for i in chosen])
    return [thing for i, thing in enumerate(candidates) if i in chosen
            or area(intersection(thing.masks[0], cover)) >= MIN_INSIDE * area(thing.masks[0])]


def _finish(canvas: np.ndarray, placed: list[Placed], config: Config) -> Sample:
    """The sample of a canvas and the objects on it, of which some may be hidden."""
    placed = [thing for thing in placed if thing.visible]
    objects = [thing for thing in placed if not thing.crowd]
    crowds = [thing.box for thing in placed if thing.crowd]
    labels = np.array([thing.label for thing in objects], np.int64)
    masks, small_masks = (decode_all([thing.masks[i] for thing in objects], size)
                          for i, size in ((1, config.prototype_size), (2, config.level_sizes[0])))
    return Sample(canvas, _stack([thing.box for thing in objects]), labels, _stack(crowds), masks,
                  union_by_class(labels, small_masks, config))


def _stack(boxes: list[np.ndarray]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 4)
