"""Samples of several images: what is where, and what is left of what is covered."""
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np
import pytest

import data.composition
from data.augmentation import AUGMENTATIONS, FILL_COLOUR, MIN_SIDE, Augmentation, Sample
from data.coco import Objects
from data.composition import MIN_VISIBLE, MOSAIC_CENTRE, Layer, Source, compose_sample, place
from data.masks import Segmentation, area, decode, encode_mask
from model.config import preset

CONFIG = preset('resnet18dcn_half', num_classes=9, input_size=320)
SIZE, SMALL = CONFIG.input_size, CONFIG.prototype_size
MOSAIC, PASTE = Augmentation(mosaic=1.0), Augmentation(copy_paste=1.0)
GEOMETRY = {
    'scale jitter': Augmentation(scale_jitter=1.0),
    'rotation': Augmentation(rotation=15.0),
    'any angle': Augmentation(rotation=180.0),
    'vertical flip': Augmentation(vertical_flip=True),
    'quarter turns': Augmentation(quarter_turns=True),
    'crop and rotation': Augmentation(expand_and_crop=True, rotation=15.0),
    'mosaic': MOSAIC,
    'copy-paste': PASTE,
    'all': Augmentation(True, 0.5, 15.0, True, True, 0.5, 0.5),
}


def square(x0: float, y0: float, x1: float, y1: float) -> list[np.ndarray]:
    return [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)]


def source(grey: int, label: int, *boxes: tuple[float, float, float, float], size: int = 100,
           crowds: int = 0) -> Source:
    """A grey image with squares of twice that brightness."""
    image = np.full((size, size, 3), grey, np.uint8)
    for x0, y0, x1, y1 in boxes:
        image[int(y0):int(y1), int(x0):int(x1)] = 2 * grey
    segmentations: list[Segmentation] = [square(*box) for box in boxes]
    return image, Objects(np.full(len(boxes), label), np.array(boxes, np.float32).reshape(-1, 4), segmentations,
                          crowds)


def coloured(height: int = 90, width: int = 140, as_rle: bool = False) -> Source:
    """Four ellipses on black, which do not touch: all objects are green, each one with a brightness of its own."""
    image = np.zeros((height, width, 3), np.uint8)
    segmentations: list[Segmentation] = []
    boxes = []
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    for number, (x, y) in enumerate(itertools.product((0.25, 0.75), (0.25, 0.75))):
        polygon = np.array([x * width, y * height]) + np.stack(
            [0.18 * width * np.cos(angles), 0.2 * height * np.sin(angles)], 1)
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [polygon.round().astype(int)], 1)
        image[mask > 0] = 0, 100 + 40 * number, 0
        segmentations.append(encode_mask(mask > 0) if as_rle else [polygon])
        boxes.append([*polygon.min(0), *polygon.max(0)])
    return image, Objects(np.arange(4), np.array(boxes, np.float32), segmentations, 0)


def samples(augmentation: Augmentation, number: int, make: Callable[[], Source] = coloured) -> Iterator[Sample]:
    for seed in range(number):
        yield compose_sample(make(), CONFIG, np.random.default_rng(seed), augmentation, make)


def bounds(mask: np.ndarray) -> np.ndarray:
    y, x = np.nonzero(mask)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) / len(mask)


@pytest.fixture
def undistorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('data.augmentation.photometric_distortion', lambda image, rng: image)


@pytest.mark.parametrize('as_rle', [False, True])
@pytest.mark.parametrize('name', GEOMETRY)
def test_a_box_is_the_bounds_of_its_mask(name, as_rle):
    """To a pixel of the masks. An object of which a corner is left can be thinner there than such a pixel."""
    found = []
    for sample in samples(GEOMETRY[name], 25, partial(coloured, as_rle=as_rle)):
        assert len(sample.boxes) == len(sample.labels) == len(sample.masks)
        assert (sample.boxes[:, 2:] - sample.boxes[:, :2] >= np.float32(MIN_SIDE)).all()
        assert (sample.boxes >= 0).all() and (sample.boxes <= 1).all()
        for box, mask in zip(sample.boxes, sample.masks):
            assert mask.any()
            found.append(np.abs(bounds(mask) - box).max() * SMALL)
    assert len(found) > 50
    assert np.mean(np.array(found) <= 1.01) > 0.98 and max(found) < 4


@pytest.mark.parametrize('as_rle', [False, True])
@pytest.mark.parametrize('name', GEOMETRY)
def test_image_and_masks_agree(undistorted, name, as_rle):
    """Where the masks of a sample are, and nowhere else, its image is green."""
    wrong = []
    for sample in samples(GEOMETRY[name], 25, partial(coloured, as_rle=as_rle)):
        green = sample.image[..., 1].astype(int) - sample.image[..., 0] > 50
        masks = np.logical_or.reduce(sample.masks, initial=False).astype(np.uint8)
        inside = cv2.resize(masks, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
        outline = cv2.dilate(inside, np.ones((11, 11))) != cv2.erode(inside, np.ones((11, 11)))
        wrong.append(((green != inside) & ~outline).mean())
        classes = np.logical_or.reduce(sample.semantic).astype(np.uint8)
        assert (cv2.resize(classes, (SMALL, SMALL), interpolation=cv2.INTER_NEAREST) != masks).mean() < 0.07
    assert np.median(wrong) < 0.001 and max(wrong) < 0.05  # slivers of less than a tenth of an object


def test_what_is_around_a_turned_image_keeps_its_colour():
    """Distortion is for the image, here a white one, which is never as dark as the fill."""
    around = []
    white = np.full((80, 80, 3), 255, np.uint8), source(0, 0)[1]
    for sample in samples(Augmentation(rotation=45.0), 30, lambda: white):
        fill = (sample.image == FILL_COLOUR).all(-1)
        corners = sample.image[[2, 2, -3, -3], [2, -3, 2, -3]]
        around.append(fill.mean())
        if fill.mean() > 0.02:
            assert (corners == FILL_COLOUR).all()
    assert max(around) > 0.1


@pytest.mark.parametrize('name', ['rotation', 'any angle', 'quarter turns', 'scale jitter'])
def test_every_pixel_of_an_image_lands_where_its_affine_says(monkeypatch, undistorted, name):
    """A grid of white dots, each 3 pixels wide, on black."""
    image = np.zeros((180, 240, 3), np.uint8)
    dots = np.array(list(itertools.product(range(30, 240, 60), range(30, 180, 40))))
    for x, y in dots:
        image[y - 1:y + 2, x - 1:x + 2] = 255
    layers: list[Layer] = []

    def watch(layer: Layer, *rest: object) -> list:
        layers.append(layer)
        return place(layer, *rest)
    monkeypatch.setattr(data.composition, 'place', watch)
    seen = 0
    for sample in samples(GEOMETRY[name], 10, lambda: (image, source(0, 0)[1])):
        affine = layers.pop().affine
        for x, y in (dots + 0.5) @ affine[:, :2].T * SIZE + affine[:, 2] * SIZE:
            if 8 < x < SIZE - 8 and 8 < y < SIZE - 8:
                around = sample.image[int(y) - 7:int(y) + 8, int(x) - 7:int(x) + 8, 0].astype(float)
                around[(around == FILL_COLOUR[0])] = 0
                rows, columns = np.mgrid[int(y) - 7:int(y) + 8, int(x) - 7:int(x) + 8] + 0.5
                centre = (around * columns).sum() / around.sum(), (around * rows).sum() / around.sum()
                np.testing.assert_allclose(centre, (x, y), atol=0.25)
                seen += 1
    assert seen > 60


def test_quarter_turns_and_vertical_flips_make_all_eight_orientations(undistorted):
    """The brightest quadrant, and whether the next one clockwise is the second brightest."""
    image = np.kron(np.array([[200, 150], [50, 100]], np.uint8), np.ones((60, 60), np.uint8))[..., None].repeat(3, 2)
    found = set()
    for sample in samples(Augmentation(vertical_flip=True, quarter_turns=True), 60, lambda: (image, source(0, 0)[1])):
        corners = tuple(int(sample.image[y, x, 0]) for y, x in ((80, 80), (80, 240), (240, 240), (240, 80)))
        assert sorted(corners) == [50, 100, 150, 200]
        assert corners[0] + corners[2] in (300, 200)  # opposite quadrants stay opposite
        found.add(corners)
    assert len(found) == 8


def test_scale_jitter_has_its_range_and_is_as_often_below_1_as_above(undistorted):
    """The image is a plain one of 100 pixels with one object of 10 in its middle."""
    sides = []
    for sample in samples(Augmentation(scale_jitter=0.5), 300, partial(source, 40, 0, (45, 45, 55, 55))):
        if len(sample.boxes) and (sample.boxes[0] > 0).all() and (sample.boxes[0] < 1).all():
            sides.append((sample.boxes[0, 2:] - sample.boxes[0, :2]).mean() * 10)
    assert 0.64 < min(sides) < 0.72 and 1.4 < max(sides) < 1.53
    assert np.mean(np.array(sides) < 1) == pytest.approx(0.5, abs=0.08)


def test_a_mosaic_has_four_images_that_fill_their_quadrants(undistorted):
    greys = [20, 50, 80, 110]
    for seed in range(30):
        others = iter([source(grey, label, (30, 30, 70, 70)) for label, grey in enumerate(greys[1:], 1)])
        sample = compose_sample(source(greys[0], 0, (30, 30, 70, 70)), CONFIG, np.random.default_rng(seed), MOSAIC,
                                partial(next, others))
        pixels = sample.image[..., 0]
        owners = np.full((SIZE, SIZE), -1)
        for number, grey in enumerate(greys):
            owners[np.isin(pixels, (grey, 2 * grey))] = number
        draws = np.random.default_rng(seed)
        draws.random()  # whether it is a mosaic
        x, y = (draws.uniform(*MOSAIC_CENTRE, 2) * SIZE).round().astype(int)
        for number, quadrant in enumerate((owners[:y, :x], owners[:y, x:], owners[y:, :x], owners[y:, x:])):
            assert (quadrant == number).mean() > 0.92  # the rest are outlines, of colours between
        for box, label, mask in zip(sample.boxes, sample.labels, sample.masks, strict=True):
            np.testing.assert_allclose(bounds(mask), box, atol=1.01 / SMALL)
            x0, y0, x1, y1 = (box * SIZE).round().astype(int)
            assert (pixels[y0 + 3:y1 - 3, x0 + 3:x1 - 3] == 2 * greys[label]).all()


def test_objects_that_a_mosaic_cuts_off_are_left_out(undistorted):
    """An object in the corner of each image: it is kept where a tenth of it is in the quadrant."""
    kept = dropped = 0
    for sample in samples(MOSAIC, 60, partial(source, 40, 0, (0, 0, 30, 30))):
        bright = (sample.image[..., 0] > 60) & (sample.image[..., 0] != FILL_COLOUR[0])
        for mask in sample.masks:
            assert mask.sum() >= MIN_VISIBLE * (0.3 * 0.5 * SMALL) ** 2 * 0.8
        left = bright & ~cv2.resize(np.logical_or.reduce(sample.masks, initial=False).astype(np.uint8), (SIZE, SIZE),
                                    interpolation=cv2.INTER_NEAREST).astype(bool)
        assert left.mean() < 0.03  # of an object of 0.3 * 0.7 a tenth is 0.0044, and four may be left out
        kept, dropped = kept + len(sample.boxes), dropped + 4 - len(sample.boxes)
    assert kept > 60 and dropped > 20


def test_a_pasted_object_covers_what_is_under_it(undistorted):
    """The whole image is an object; what is pasted is cut out of its mask, its semantic target and its pixels."""
    for seed in range(30):
        sample = compose_sample(source(20, 0, (0, 0, 100, 100)), CONFIG, np.random.default_rng(seed), PASTE,
                                lambda: source(60, 1, (10, 20, 50, 70)))
        assert sample.labels.tolist() == [0, 1]
        under, over = sample.masks
        assert not (under & over).any() and (under | over).all()
        assert not (sample.semantic[0] & sample.semantic[1]).any()
        np.testing.assert_allclose(bounds(over), sample.boxes[1], atol=1.01 / SMALL)
        assert sample.boxes[0].tolist() == [0, 0, 1, 1]
        pixels = sample.image[..., 0]
        assert (pixels > 80).mean() == pytest.approx(0.2, abs=0.005)  # its edges are interpolated
        assert np.isin(pixels, (40, 120)).mean() > 0.98


@pytest.mark.parametrize('pasted, left', [
    ((0, 0, 50, 100), (50, 20, 80, 60)),  # covers its left part
    ((0, 30, 100, 100), (30, 20, 80, 30)),  # and all but its top
    ((0, 22, 100, 100), None),  # of which less than a tenth would be left
    ((0, 0, 100, 100), None)])
def test_what_is_left_of_an_object_decides_its_box_or_that_it_is_dropped(monkeypatch, pasted, left):
    monkeypatch.setattr('data.augmentation.turn_and_flip', lambda affine, *_: affine)
    sample = compose_sample(source(20, 0, (30, 20, 80, 60)), CONFIG, np.random.default_rng(0), PASTE,
                            lambda: source(60, 1, pasted))
    assert sample.labels.tolist() == ([1] if left is None else [0, 1])
    if left is None:
        assert not sample.semantic[0].any()
    else:
        np.testing.assert_allclose(sample.boxes[0], np.array(left) / 100, atol=1 / SIZE)
        assert sample.masks[0].mean() == pytest.approx((left[2] - left[0]) * (left[3] - left[1]) / 1e4, abs=0.01)


def test_an_object_is_pasted_with_what_lies_within_it(monkeypatch):
    """A wall with two windows, and a tree beside it: whenever the wall is pasted, so are its windows."""
    monkeypatch.setattr('data.augmentation.turn_and_flip', lambda affine, *_: affine)
    wall, tree = (10, 10, 60, 90), (70, 50, 90, 90)
    windows = [(20, 20, 30, 30), (40, 20, 50, 30)]
    labels = np.array([0, 1, 1, 2])
    walls = trees = 0
    for seed in range(60):
        image, objects = source(60, 0, wall, *windows, tree)
        sample = compose_sample(source(20, 0), CONFIG, np.random.default_rng(seed), PASTE,
                                lambda: (image, dataclasses.replace(objects, labels=labels)))  # noqa: B023
        number = np.bincount(sample.labels, minlength=3)
        if number[0]:
            assert number[1] == 2
        walls, trees = walls + number[0], trees + number[2]
    assert 20 < walls < 60 and 20 < trees < 60  # a random subset


def test_crowds_are_not_pasted_and_are_covered(monkeypatch):
    monkeypatch.setattr('data.augmentation.turn_and_flip', lambda affine, *_: affine)
    base = source(20, 0, (0, 0, 40, 40), crowds=1)
    crowd = source(60, 1, (0, 0, 80, 80), crowds=1)
    sample = compose_sample(base, CONFIG, np.random.default_rng(0), PASTE, lambda: crowd)
    assert len(sample.boxes) == 0
    np.testing.assert_allclose(sample.crowds, [[0, 0, 0.4, 0.4]], atol=1 / SIZE)
    sample = compose_sample(base, CONFIG, np.random.default_rng(0), PASTE, lambda: source(60, 1, (0, 0, 20, 80)))
    np.testing.assert_allclose(sample.crowds, [[0.2, 0, 0.4, 0.4]], atol=1 / SIZE)


def test_polygons_out_of_their_image_end_with_it():
    """A polygon may go on beyond an image's edge; a smaller image is surrounded by what is not it."""
    image, objects = source(60, 0, (50, 20, 100, 60))
    beyond: list[Segmentation] = [square(50, 20, 180, 60)]
    affine = np.array([[0.005, 0, 0.2], [0, 0.005, 0.3]])
    layer = Layer(image, dataclasses.replace(objects, segmentations=beyond), affine)
    thing, = place(layer, (SIZE, SMALL))
    np.testing.assert_allclose(thing.box, [0.45, 0.4, 0.7, 0.6], atol=1 / SIZE)
    assert decode(thing.masks[1])[:, round(0.71 * SMALL):].sum() == 0
    assert thing.area == area(thing.masks[0])


def test_too_many_objects_are_not_put_together(monkeypatch):
    monkeypatch.setattr('data.composition.MAX_OBJECTS', 7)
    for augmentation in (MOSAIC, PASTE):
        for sample in samples(augmentation, 20):
            assert len(sample.boxes) == 4


def test_an_image_without_objects_and_others_without():
    for augmentation in GEOMETRY.values():
        for sample in samples(augmentation, 5, partial(source, 40, 0)):
            assert sample.boxes.shape == sample.crowds.shape == (0, 4)
            assert sample.masks.shape == (0, SMALL, SMALL) and not sample.semantic.any()


def test_strong_is_a_mixture():
    """About 0.7 of its samples have no mosaic, 0.7 nothing pasted; each image is read once."""
    read = []
    for seed in range(300):
        count = itertools.count(1)
        used = [1]

        def other(used: list[int] = used, count: Iterator[int] = count) -> Source:
            used[0] += next(count) and 1
            return coloured()
        compose_sample(coloured(), CONFIG, np.random.default_rng(seed), AUGMENTATIONS['strong'], other)
        read.append(used[0])
    shares = np.bincount(read, minlength=6) / 300
    np.testing.assert_allclose(shares[1:], [0.49, 0.21, 0, 0.21, 0.09], atol=0.08)
