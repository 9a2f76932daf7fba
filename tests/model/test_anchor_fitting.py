import numpy as np
import pytest

from model.anchor_fitting import expected_ious, fit_anchors
from model.anchors import anchors
from model.box_iou import box_iou
from model.config import preset
from model.matcher import corners

CONFIG = preset('resnet18dcn_half', input_size=320)


def random_sizes(width: float, height: float, spread: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([width, height]) * np.exp(rng.normal(0, spread, (500, 2)))


def share_with_anchor(sizes: np.ndarray, config) -> float:
    """The share of objects at random places that have an anchor of IoU 0.5 or more."""
    corner = np.random.default_rng(1).uniform(0, 1, sizes.shape) * (config.input_size - sizes)
    boxes = np.concatenate([corner, corner + sizes], 1) / config.input_size
    return (box_iou(boxes, corners(anchors(config))).max(1) >= 0.5).mean()


@pytest.mark.parametrize('width, height', [(150, 20), (25, 180), (80, 80)])
def test_fitted_anchors_fit_objects_at_random_places(width, height):
    sizes = random_sizes(width, height)
    fitted = fit_anchors(sizes, CONFIG)
    assert expected_ious(sizes, fitted).mean() > expected_ious(sizes, CONFIG).mean() + 0.02
    assert share_with_anchor(sizes, fitted) >= share_with_anchor(sizes, CONFIG)


def test_anchors_for_thin_objects():
    """Of wires 8 times as long as they are thick hardly any has an anchor before."""
    sizes = random_sizes(240, 30)
    assert share_with_anchor(sizes, CONFIG) < 0.1
    assert share_with_anchor(sizes, fit_anchors(sizes, CONFIG)) > 0.9


def test_expected_ious_are_those_of_objects_at_random_places():
    sizes = random_sizes(60, 40)
    corner = np.random.default_rng(2).uniform(0.2, 0.6, sizes.shape) * CONFIG.input_size
    boxes = np.concatenate([corner, corner + sizes], 1) / CONFIG.input_size
    real = box_iou(boxes, corners(anchors(CONFIG))).max(1)
    assert expected_ious(sizes, CONFIG).mean() == pytest.approx(real.mean(), abs=0.05)


def test_sizes_that_no_object_needs_stay():
    fitted = fit_anchors(random_sizes(20, 20), CONFIG)
    assert fitted.anchor_sizes[4] == pytest.approx(384, rel=0.1)
    assert fitted.anchors_per_cell == CONFIG.anchors_per_cell


def test_without_objects_anchors_stay():
    assert fit_anchors(np.zeros((0, 2)), CONFIG) == CONFIG
    assert fit_anchors(np.zeros((3, 2)), CONFIG) == CONFIG
