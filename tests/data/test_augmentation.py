import dataclasses
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from data.augmentation import (
    AUGMENTATIONS,
    CHANGEABLE,
    HORIZONTAL_FLIP,
    QUARTER_TURN,
    VERTICAL_FLIP,
    Augmentation,
    choose_augmentation,
    choose_transform,
    compose,
    make_sample,
    photometric_distortion,
    rotation,
    scaling,
    transform_boxes,
    warp,
)
from data.coco import Objects
from data.masks import Segmentation
from model.config import preset
from tests.helpers import GOLDEN

CONFIG = preset('resnet18dcn_half', num_classes=3, input_size=256)


class Fixed:
    """A random generator that returns the given draws."""

    def __init__(self, *draws: Any) -> None:
        self.draws = list(draws)

    def random(self) -> Any:
        return self.draws.pop(0)

    def uniform(self, *_: object) -> Any:
        return self.draws.pop(0)


def objects(*boxes: Sequence[float], labels: Sequence[int] | None = None, crowds: int = 0) -> Objects:
    """Rectangles of these boxes, the last ones crowds, all of class 0 without labels."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    polygons: list[Segmentation] = [
        [np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float64)] for x0, y0, x1, y1 in array]
    return Objects(np.zeros(len(boxes), np.int64) if labels is None else np.array(labels), array, polygons, crowds)


def image(height: int = 60, width: int = 100) -> np.ndarray:
    """Noise."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_boxes_and_masks_are_relative_to_the_stretched_image():
    sample = make_sample(image(), objects((10, 15, 60, 45)), CONFIG)
    np.testing.assert_allclose(sample.boxes, [[0.1, 0.25, 0.6, 0.75]])
    size = CONFIG.prototype_size
    rows, columns = np.nonzero(sample.masks[0])
    assert sample.masks.shape == (1, size, size)
    np.testing.assert_allclose([columns.min(), columns.max() + 1, rows.min(), rows.max() + 1],
                               np.array([0.1, 0.6, 0.25, 0.75]) * size, atol=1)


def test_without_a_generator_the_image_is_only_resized():
    some = image()
    np.testing.assert_allclose(make_sample(some, objects(), CONFIG).image.astype(int),
                               cv2.resize(some, (256, 256)).astype(int), atol=4)


def test_horizontal_flip_flips_image_boxes_and_masks_alike():
    some, things = image(), objects((10, 15, 60, 45))
    plain = make_sample(some, things, CONFIG)
    undistorted = [0.9, 0.9, 0.9, 0.9, 0.9]
    flipped = make_sample(some, things, CONFIG, Fixed(0.1, 0.9, 0.1, *undistorted))  # neither expanded nor cropped
    np.testing.assert_allclose(flipped.boxes, [[0.4, 0.25, 0.9, 0.75]])
    np.testing.assert_allclose(flipped.image.astype(int), plain.image[:, ::-1].astype(int), atol=1)
    assert (flipped.masks[0] != plain.masks[0, :, ::-1]).mean() < 0.01
    assert (flipped.semantic[0] != plain.semantic[0, :, ::-1]).mean() < 0.02


def test_light_augmentation_neither_expands_nor_crops():
    for seed in range(20):
        sample = make_sample(image(), objects((10, 15, 60, 45)), CONFIG, np.random.default_rng(seed),
                             AUGMENTATIONS['light'])
        assert sample.boxes[0, [1, 3]].tolist() == [0.25, 0.75] and sample.boxes[0, 0] in np.float32([0.1, 0.4])


def test_a_crop_of_an_expanded_image_by_hand():
    some, things = np.full((60, 100, 3), 200, np.uint8), objects((10, 15, 60, 45), (90, 30, 100, 60))
    # The image at 20, 30 of 200 x 120, a crop of 100 x 84 from 10, 0: the image starts at 10, 30 in it.
    draws = [0.9, 2.0, np.array([20.5, 30.5]), 0.1, np.array([0.5, 0.7]), np.array([10.2, 0.7]), 0.9]
    sample = make_sample(some, things, CONFIG, Fixed(*draws, 0.1, 20, 0.9, 0.9, 0.9, 0.9))  # 20 brighter
    np.testing.assert_allclose(sample.boxes, [[0.2, 45 / 84, 0.7, 75 / 84]], rtol=1e-6)  # the other's centre is outside
    left, top = round(0.1 * 256), round(30 / 84 * 256)
    for filled in (sample.image[:top - 2], sample.image[:, :left - 2]):
        assert (filled == (104, 117, 124)).all()
    assert (sample.image[top + 2:, left + 2:] == 220).all()
    rows, columns = np.nonzero(sample.masks[0])
    np.testing.assert_allclose([columns.min(), columns.max() + 1, rows.min(), rows.max() + 1],
                               sample.boxes[0, [0, 2, 1, 3]] * CONFIG.prototype_size, atol=1)


def test_an_image_with_objects_never_loses_them_all():
    things = objects((48, 28, 52, 32), (0, 0, 100, 60), crowds=1)
    for seed in range(300):
        sample = make_sample(image(), things, CONFIG, np.random.default_rng(seed))
        assert len(sample.boxes) == 1


def test_objects_that_are_too_thin_from_the_start_leave_the_image_empty():
    sample = make_sample(image(), objects((20, 20, 20.3, 40)), CONFIG, np.random.default_rng(0))
    assert len(sample.boxes) == 0


@pytest.mark.parametrize('height, width', [(1, 1), (1, 300), (700, 2)])
def test_images_of_few_pixels(height, width):
    for seed in range(40):
        for things in (objects(), objects((0, 0, width, height))):
            sample = make_sample(image(height, width), things, CONFIG, np.random.default_rng(seed))
            assert sample.image.shape == (256, 256, 3) and len(sample.boxes) == len(things)


def test_objects_under_4_of_550_are_dropped_with_their_masks():
    sample = make_sample(image(), objects((0, 0, 50, 30), (50, 30, 50.7, 60), (50, 30, 51, 60), labels=[0, 1, 1]),
                         CONFIG)
    assert sample.labels.tolist() == [0, 1]
    assert len(sample.masks) == 2
    np.testing.assert_allclose(sample.boxes[1], [0.5, 0.5, 0.51, 1])


def test_crowds_keep_their_boxes_and_nothing_else():
    sample = make_sample(image(), objects((0, 0, 50, 30), (50, 30, 100, 60), labels=[0, 1], crowds=1), CONFIG)
    assert sample.labels.tolist() == [0]
    np.testing.assert_allclose(sample.crowds, [[0.5, 0.5, 1, 1]])
    assert not sample.semantic[1].any()


def test_semantic_targets_are_the_union_of_a_class():
    sample = make_sample(image(), objects((0, 0, 50, 60), (25, 0, 75, 60), (0, 0, 100, 30), labels=[1, 1, 0]), CONFIG)
    cells = CONFIG.level_sizes[0]
    assert sample.semantic.shape == (2, cells, cells)
    assert sample.semantic[1].mean() == pytest.approx(0.75, abs=0.02)
    assert sample.semantic[0].mean() == pytest.approx(0.5, abs=0.02)


def test_an_image_without_objects():
    sample = make_sample(image(), objects(), CONFIG, np.random.default_rng(0))
    assert sample.boxes.shape == sample.crowds.shape == (0, 4)
    assert sample.masks.shape == (0, CONFIG.prototype_size, CONFIG.prototype_size)


def test_compose_applies_its_second_argument_first():
    transform = compose(HORIZONTAL_FLIP, scaling(0.5, 0.25))
    np.testing.assert_allclose(transform_boxes(np.array([[0.0, 1, 1, 2]]), transform), [[0.5, 0.25, 1, 0.5]])


@pytest.mark.parametrize('transform, expected', [
    (HORIZONTAL_FLIP, (0.9, 0.2)), (VERTICAL_FLIP, (0.1, 0.8)), (QUARTER_TURN, (0.8, 0.1)),
    (rotation(90, 0.5, 0.5), (0.8, 0.1)), (rotation(-90, 0, 0), (0.2, -0.1)), (rotation(37, 0.1, 0.2), (0.1, 0.2)),
    (rotation(45, 0, 0), (-0.1 * 0.5 ** 0.5, 0.3 * 0.5 ** 0.5))])
def test_where_a_point_goes(transform, expected):
    """Of x 0.1 and y 0.2; y points down."""
    np.testing.assert_allclose(transform @ (0.1, 0.2, 1), expected, atol=1e-12)


@pytest.mark.parametrize('transform', [
    scaling(1 / 100, 1 / 60), compose(QUARTER_TURN, scaling(1 / 100, 1 / 60)),
    compose(scaling(1 / 100, 1 / 60), rotation(20, 50, 30)), compose(scaling(0.5, 0.5), scaling(1 / 100, 1 / 60))])
def test_a_window_of_a_warped_image_is_that_part_of_the_whole(transform):
    some = image()
    whole = warp(some, transform, 90)
    for x0, y0, x1, y1 in ((0, 0, 90, 90), (10, 20, 30, 80), (0, 40, 60, 90), (44, 44, 46, 47)):
        found = warp(some, transform, 90, (x0, y0, x1, y1))
        np.testing.assert_allclose(found.astype(int), whole[y0:y1, x0:x1].astype(int), atol=10)


def test_changes_of_an_augmentation():
    assert choose_augmentation('strong', {}) == AUGMENTATIONS['strong']
    changes = {'mosaic': 0.5, 'rotation': None, 'quarter_turns': True, 'augmentation': 'strong'}
    assert choose_augmentation('light', changes) == Augmentation(mosaic=0.5, quarter_turns=True)
    assert {*CHANGEABLE, 'expand_and_crop'} == {field.name for field in dataclasses.fields(Augmentation)}
    assert [name for name, some in AUGMENTATIONS.items() if some.published] == ['full', 'light']
    assert not choose_augmentation('full', {'rotation': 5.0}).published


def test_warp_samples_at_pixel_centres():
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None] * 4, 64, 0).repeat(3, 2)
    half = warp(ramp, scaling(1 / 64, 1 / 64), 32)
    np.testing.assert_allclose(half[5, :, 0], np.arange(32) * 8 + 2, atol=1)  # between two pixels


@pytest.mark.parametrize('draws, expected', [
    ((0.1, 20, 0.9, 0.9, 0.9, 0.9), lambda x: x + 20.0),  # brightness
    ((0.9, 0.1, 1.5, 0.1, 0.9, 0.9), lambda x: x * 1.5),  # contrast first
    ((0.1, -32, 0.1, 0.5, 0.9, 0.9, 0.9), lambda x: (x - 32.0) * 0.5)])  # both, contrast last
def test_brightness_and_contrast_by_hand(draws, expected):
    some = image()
    np.testing.assert_allclose(photometric_distortion(some, Fixed(*draws)), np.clip(expected(some), 0, 255), atol=0.51)


def test_hue_turns_red_towards_yellow_and_saturation_fades():
    red = np.full((2, 2, 3), (0, 0, 255), np.uint8)
    turned = photometric_distortion(red, Fixed(0.9, 0.9, 0.9, 0.9, 0.1, 18.0))
    np.testing.assert_allclose(turned[0, 0], [0, 255 * 18 / 60, 255], atol=1)
    faded = photometric_distortion(red, Fixed(0.9, 0.9, 0.9, 0.1, 0.5, 0.9))
    np.testing.assert_allclose(faded[0, 0], [127.5, 127.5, 255], atol=1)


def test_distortion_has_the_published_ranges():
    grey = np.full((1, 1, 3), 100, np.uint8)
    values = np.array([photometric_distortion(grey, np.random.default_rng(seed))[0, 0, 0] for seed in range(4000)],
                      float)
    assert values.min() == pytest.approx(34, abs=2)  # (100 - 32) / 2
    assert values.max() == pytest.approx(198, abs=3)  # (100 + 32) * 1.5
    assert (values == 100).mean() == pytest.approx(0.25, abs=0.03)


def differ(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether two samples have different distributions, by the Kolmogorov-Smirnov test at p = 0.01."""
    values = np.concatenate([found, expected])
    cdfs = [np.searchsorted(np.sort(some), values, 'right') / len(some) for some in (found, expected)]
    return bool(np.abs(cdfs[0] - cdfs[1]).max() > 1.628 * np.sqrt(1 / len(found) + 1 / len(expected)))


def test_geometric_transforms_are_distributed_as_in_the_public_code():
    """2,000 draws on an image of 800 x 600 with nine objects, against as many by dbolya/yolact 902073d.

    Compared are the number of objects that are kept, the size of the crop relative to the image, and area and aspect
    ratio of one of the objects.
    """
    with np.load(GOLDEN / 'augmentation.npz') as file:
        expected = dict(file)
    truth, rng = objects(*expected['boxes']), np.random.default_rng(0)
    rows = []
    for _ in range(2000):
        transform = choose_transform((800, 600), truth, rng)
        x0, y0, x1, y1 = transform.boxes[rng.choice(np.flatnonzero(transform.kept))]
        scale = np.abs(transform.affine[[0, 1], [0, 1]]) * (800, 600)
        rows.append((transform.kept.sum(), *1 / scale, (x1 - x0) * (y1 - y0), (x1 - x0) / (y1 - y0)))
    kept, crop_width, crop_height, area, aspect = np.array(rows).T
    assert not differ(kept, expected['objects'])
    assert not differ(crop_width, expected['crop'][:, 0])
    assert not differ(crop_height, expected['crop'][:, 1])
    assert not differ(area, expected['area'])
    assert not differ(aspect, expected['aspect'])
    assert differ(area, 1.2 * expected['area'])
