import numpy as np
import pytest

from model.anchors import anchors
from model.box_iou import box_iou
from model.config import preset
from model.matcher import IGNORED, Match, assign, corners, match

NO_CROWDS = np.zeros((0, 4), np.float32)
GRID = corners(anchors(preset('resnet18dcn_half', input_size=256)))


def random_objects(n, seed):
    rng = np.random.default_rng(seed)
    low, size = rng.uniform(0, 0.7, (n, 2)), rng.uniform(0.01, 0.3, (n, 2))
    return np.concatenate([low, low + size], 1).astype(np.float32), rng.integers(0, 8, n)


def slow_match(boxes, labels, grid):
    """The definition, word by word."""
    overlaps = box_iou(boxes, grid)
    best, objects = overlaps.max(0), overlaps.argmax(0)
    left = overlaps.copy()
    for _ in boxes:
        thing, anchor = np.unravel_index(left.argmax(), left.shape)
        best[anchor], objects[anchor] = 1, thing
        left[thing], left[:, anchor] = -1, -1
    return np.where(best >= 0.5, labels[objects] + 1, np.where(best < 0.4, 0, IGNORED)), objects


@pytest.mark.parametrize('seed', range(5))
def test_agrees_with_its_definition(seed):
    boxes, labels = random_objects(12, seed)
    found = match(boxes, labels, NO_CROWDS, GRID)
    expected_labels, expected_objects = slow_match(boxes, labels, GRID)
    np.testing.assert_array_equal(found.labels, expected_labels)
    np.testing.assert_array_equal(found.matched, expected_objects)


def test_every_object_gets_an_anchor_of_its_own_even_ten_of_the_same_box():
    boxes = np.repeat(np.array([[0.3, 0.3, 0.31, 0.31]], np.float32), 10, 0)
    found = match(boxes, np.arange(10) % 8, NO_CROWDS, GRID)
    assert sorted(found.matched[found.labels > 0]) == list(range(10))


def test_a_image_without_objects_is_all_background():
    found = match(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), NO_CROWDS, GRID)
    assert not found.labels.any()


def test_anchors_inside_a_crowd_are_neutral_unless_positive():
    boxes, labels = np.array([[0.4, 0.4, 0.6, 0.6]], np.float32), np.array([2])
    crowd = np.array([[0.0, 0.0, 1.0, 0.5]], np.float32)
    without, found = match(boxes, labels, NO_CROWDS, GRID), match(boxes, labels, crowd, GRID)
    width, height = (GRID[:, 2:] - GRID[:, :2]).T
    across = np.clip(np.minimum(GRID[:, 2], 1) - np.maximum(GRID[:, 0], 0), 0, None)
    down = np.clip(np.minimum(GRID[:, 3], 0.5) - np.maximum(GRID[:, 1], 0), 0, None)
    inside = across * down > 0.7 * width * height
    np.testing.assert_array_equal(found.labels, np.where(inside & (without.labels <= 0), IGNORED, without.labels))
    assert (found.labels == 3).any()


def test_assign_counts_through_the_batch():
    first = Match(np.array([0, 2, -1, 1]), np.array([0, 1, 0, 0]))
    second = Match(np.array([3, 0, 0, 0]), np.array([0, 0, 0, 0]))
    assigned = assign([first, second], [2, 1], np.random.default_rng(0))
    assert assigned.positives.tolist() == [1, 3, 4]
    assert assigned.matched.tolist() == [1, 0, 2]
    assert [rows.tolist() for rows in assigned.masked] == [[0, 1], [2]]
    assert assigned.mask_weights.tolist() == [1, 1]


def test_assign_draws_100_masks_a_image_and_makes_up_for_the_rest():
    crowded = Match(np.ones(250, np.int64), np.arange(250) % 5)
    empty = Match(np.zeros(250, np.int64), np.zeros(250, np.int64))
    assigned = assign([empty, crowded], [0, 5], np.random.default_rng(0))
    assert [len(rows) for rows in assigned.masked] == [0, 100]
    assert len(set(assigned.masked[1])) == 100 and set(assigned.masked[1]) <= set(range(250))
    np.testing.assert_allclose(assigned.mask_weights, [1, 2.5])
