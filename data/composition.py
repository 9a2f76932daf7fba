"""Several images in one sample: mosaic, and objects pasted from another image.

Each image has an affine of its own, so that its pixels and masks are still interpolated once.
"""
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from data.augmentation import (
    FILL_COLOUR,
    Augmentation,
    GeometricTransform,
    Sample,
    augmented_pixels,
    choose_transform,
    compose,
    large_enough,
    make_sample,
    not_crowd,
    rasterise_all,
    scaling,
    transform_objects,
    translation,
    union_by_class,
)
from data.coco import Objects
from model.config import Config

MIN_VISIBLE = 0.25  # share of an object's box in its part of the mosaic, or of its mask under pasted objects
MOSAIC_CENTRE = (0.3, 0.7)  # where the four images of a mosaic may meet, along each axis
MAX_PASTED = 10  # objects

Source = tuple[np.ndarray, Objects]  # an image, uint8 [h, w, 3], BGR, and its ground truth


class Layer(NamedTuple):
    """An image in a sample.

    Attributes:
        pixels: uint8 [size, size, 3], BGR, after augmentation.
        objects: the ground truth of the image.
        transform: what became of the objects.
        region: x0 y0 x1 y1, the part of the unit square that the image may cover.
    """
    pixels: np.ndarray
    objects: Objects
    transform: GeometricTransform
    region: tuple[float, float, float, float] = (0, 0, 1, 1)


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
    mosaic = augmentation.mosaic > 0 and rng.random() < augmentation.mosaic
    paste = augmentation.copy_paste > 0 and rng.random() < augmentation.copy_paste
    if not mosaic and not paste:
        return make_sample(*source, config, rng, augmentation)
    layers = _mosaic([source, *(draw_source() for _ in range(3))], config, rng) if mosaic else [
        _layer(source, choose_transform(source[0].shape[1::-1], source[1], rng, augmentation), config, rng)]
    sample = _merge(layers, config)
    return _paste(sample, layers, draw_source(), config, rng, augmentation) if paste else sample


def _layer(source: Source, transform: GeometricTransform, config: Config, rng: np.random.Generator,
           region: tuple[float, float, float, float] = (0, 0, 1, 1)) -> Layer:
    return Layer(augmented_pixels(source[0], transform.affine, config, rng), source[1], transform, region)


def _mosaic(sources: list[Source], config: Config, rng: np.random.Generator) -> list[Layer]:
    """Four images around a random point, each in a corner of the unit square, at a random scale."""
    x, y = rng.uniform(*MOSAIC_CENTRE, 2)
    layers = []
    for source, (left, top) in zip(sources, ((True, True), (False, True), (True, False), (False, False))):
        region = (0 if left else x, 0 if top else y, x if left else 1, y if top else 1)
        factor = rng.uniform(0.5, 1)
        # The image's corner that lies at the point is that towards the middle.
        shift = translation(x - factor if left else x, y - factor if top else y)
        height, width = source[0].shape[:2]
        affine = compose(shift, scaling(factor / width, factor / height))
        if rng.random() < 0.5:
            affine = compose(compose(shift, scaling(factor, factor)),
                             np.array([[-1 / width, 0, 1], [0, 1 / height, 0]]))
        transform = transform_objects(source[1], affine, np.ones(len(source[1]), bool))
        layers.append(_layer(source, _within(transform, region), config, rng, region))
    return layers


def _within(transform: GeometricTransform, region: tuple[float, float, float, float]) -> GeometricTransform:
    """The part of objects in a region. Those with too little of their box in it are not kept."""
    low, high = np.tile(region[:2], 2), np.tile(region[2:], 2)
    boxes = np.clip(transform.boxes, low, high).astype(np.float32)
    before, after = ((some[:, 2:] - some[:, :2]).prod(1) for some in (transform.boxes, boxes))
    return GeometricTransform(transform.affine,
                              transform.kept & large_enough(boxes) & (after >= MIN_VISIBLE * before), boxes)


def _merge(layers: list[Layer], config: Config) -> Sample:
    """The layers side by side, each in its region."""
    canvas = np.full((config.input_size, config.input_size, 3), FILL_COLOUR, np.uint8)
    boxes: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    crowds: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    small_masks: list[np.ndarray] = []
    for layer in layers:
        inside = _pixels_of(layer.region, config.input_size)
        canvas[inside] = layer.pixels[inside]
        regular, kept = not_crowd(layer.objects), layer.transform.kept
        chosen = np.flatnonzero(kept & regular)
        boxes.append(layer.transform.boxes[chosen])
        labels.append(layer.objects.labels[chosen])
        crowds.append(layer.transform.boxes[kept & ~regular])
        segmentations = [layer.objects.segmentations[i] for i in chosen]
        for size, found in ((config.prototype_size, masks), (config.level_sizes[0], small_masks)):
            rows, columns = _pixels_of(layer.region, size)
            whole = rasterise_all(segmentations, layer.transform.affine, size)
            found.append(np.zeros_like(whole))
            found[-1][:, rows, columns] = whole[:, rows, columns]
    all_labels = np.concatenate(labels)
    return Sample(canvas, np.concatenate(boxes), all_labels, np.concatenate(crowds), np.concatenate(masks),
                  union_by_class(all_labels, np.concatenate(small_masks), config))


def _pixels_of(region: tuple[float, float, float, float], size: int) -> tuple[slice, slice]:
    """Rows and columns of size × size pixels whose centres are in a region."""
    x0, y0, x1, y1 = (round(side * size) for side in region)
    return slice(y0, y1), slice(x0, x1)


def _paste(sample: Sample, layers: list[Layer], source: Source, config: Config, rng: np.random.Generator,
           augmentation: Augmentation) -> Sample:
    """Paste objects of another image, as they are there, over a sample."""
    transform = choose_transform(source[0].shape[1::-1], source[1], rng, augmentation)
    candidates = rng.permutation(np.flatnonzero(transform.kept & not_crowd(source[1])))
    pasted = np.sort(candidates[:rng.integers(1, MAX_PASTED + 1)])
    if not len(pasted):
        return sample
    segmentations = [source[1].segmentations[i] for i in pasted]
    cover = np.logical_or.reduce(rasterise_all(segmentations, transform.affine, config.input_size))
    pixels = augmented_pixels(source[0], transform.affine, config, rng)
    image = np.where(cover[..., None], pixels, sample.image)
    new_masks = rasterise_all(segmentations, transform.affine, config.prototype_size)
    small_masks = rasterise_all(segmentations, transform.affine, config.level_sizes[0])
    small_cover = np.logical_or.reduce(new_masks)
    boxes, visible = _visible_boxes(sample, layers, cover, small_cover, config)
    labels = source[1].labels[pasted]
    masks = sample.masks[visible] & ~small_cover
    semantic = sample.semantic & ~np.logical_or.reduce(small_masks) | union_by_class(labels, small_masks, config)
    return Sample(image, np.concatenate([boxes[visible], transform.boxes[pasted]]),
                  np.concatenate([sample.labels[visible], labels]), sample.crowds,
                  np.concatenate([masks, new_masks]), semantic)


def _visible_boxes(sample: Sample, layers: list[Layer], cover: np.ndarray, small_cover: np.ndarray,
                   config: Config) -> tuple[np.ndarray, np.ndarray]:
    """What is left of a sample's objects under pasted ones.

    Args:
        cover, small_cover: bool [size, size] and [p, p], the pasted objects.
    Returns:
        Boxes of the parts that are seen, float32 [n, 4]; and which objects have enough left, bool [n].
    """
    size = config.input_size
    placed = [(layer, i) for layer in layers for i in np.flatnonzero(layer.transform.kept & not_crowd(layer.objects))]
    boxes, visible = sample.boxes.copy(), np.ones(len(placed), bool)
    for n in np.flatnonzero((sample.masks & small_cover).any((1, 2))):
        layer, i = placed[n]
        part, whole = _pixels_of(layer.region, size), np.zeros((size, size), bool)
        mask, = rasterise_all([layer.objects.segmentations[i]], layer.transform.affine, size)
        whole[part] = mask[part]
        left = whole & ~cover
        y, x = np.nonzero(left)
        visible[n] = len(y) >= max(MIN_VISIBLE * whole.sum(), 1)
        if visible[n]:
            seen = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) / size
            boxes[n] = [*np.maximum(boxes[n, :2], seen[:2]), *np.minimum(boxes[n, 2:], seen[2:])]
    return boxes, visible & large_enough(boxes)
