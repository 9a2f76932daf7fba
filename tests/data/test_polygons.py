import cv2
import numpy as np
import pytest

from data.masks import rasterise
from data.polygons import has_hole, outlines, polygons


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


def drawn(shape: str) -> np.ndarray:
    """A mask of some shape, bool [60, 80]."""
    canvas = np.zeros((60, 80), np.uint8)
    if shape == 'disk':
        cv2.circle(canvas, (40, 30), 20, 1, -1)
    elif shape == 'ring':
        cv2.circle(canvas, (40, 30), 22, 1, 7)
    elif shape == 'two holes':
        canvas[5:55, 5:75] = 1
        canvas[20:30, 10:30] = 0
        canvas[15:45, 50:60] = 0
    elif shape == 'components':
        canvas[3:20, 3:30] = 1
        canvas[40:55, 60:80] = 1
    elif shape == 'full':
        canvas[:] = 1
    elif shape == 'noise':
        canvas[:] = cv2.GaussianBlur(np.random.default_rng(0).random((60, 80)), (9, 9), 3) > 0.5
    return canvas.astype(bool)


SHAPES = 'disk', 'ring', 'two holes', 'components', 'full', 'noise'


@pytest.mark.parametrize('shape', SHAPES)
def test_polygons_cover_the_pixels_of_their_mask(shape):
    mask = drawn(shape)
    exact = rasterise(polygons(mask, tolerance=0), mask.shape)
    assert iou(exact, mask) > (0.98 if shape == 'noise' else 0.995)
    assert iou(rasterise(polygons(mask), mask.shape), mask) > 0.93


@pytest.mark.parametrize('shape', SHAPES)
def test_outlines_filled_by_the_even_odd_rule_cover_the_pixels_of_their_mask(shape):
    mask = drawn(shape)
    found = outlines(mask, tolerance=0)
    filled = np.logical_xor.reduce([rasterise([outline], mask.shape) for outline in found])
    assert iou(filled, mask) > (0.98 if shape == 'noise' else 0.995)
    assert len(found) == {'disk': 1, 'ring': 2, 'two holes': 3, 'components': 2, 'full': 1}.get(shape, len(found))


def test_a_mask_of_a_thousand_holes():
    mask = np.ones((3, 2001), bool)
    mask[1, 1::2] = False
    found = polygons(mask, tolerance=0)
    assert len(found) > 1000
    assert iou(rasterise(found, mask.shape), mask) > 0.98


def test_a_rectangle_has_four_points_at_its_corners():
    mask = np.zeros((10, 12), bool)
    mask[2:7, 3:11] = True
    outline, = polygons(mask, corner=(100, 50))
    assert sorted(outline.tolist()) == [[103, 52], [103, 57], [111, 52], [111, 57]]


def test_holes_stay_holes_and_components_stay_apart():
    ring = drawn('ring')
    assert len(polygons(ring)) == 2
    assert not rasterise(polygons(ring), ring.shape)[30, 40]
    first, second = polygons(drawn('components'))
    assert cv2.contourArea(first.astype(np.float32)) > cv2.contourArea(second.astype(np.float32))


@pytest.mark.parametrize('size', [(0, 0), (5, 0), (4, 4)])
def test_an_empty_mask_has_no_outline(size):
    assert polygons(np.zeros(size, bool)) == []


@pytest.mark.parametrize('shape', SHAPES[:-1])
def test_rings_and_holes_are_found(shape):
    assert has_hole(drawn(shape)) == (shape in ('ring', 'two holes'))


def test_a_gap_that_is_open_only_across_a_corner_is_a_hole():
    mask = np.ones((4, 4), bool)
    mask[1, 1] = mask[0, 0] = False
    assert has_hole(mask)
    mask[0, 1] = False
    assert not has_hole(mask)


def test_a_pixel_and_a_line_have_one_outline():
    for size in ((1, 1), (1, 9), (9, 1)):
        outline, = polygons(np.ones(size, bool))
        assert cv2.contourArea(outline.astype(np.float32)) == size[0] * size[1]
