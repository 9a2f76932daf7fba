
import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from pycocotools import mask as coco_mask

from model import postprocess as detection
from model.anchors import anchors
from model.config import preset
from model.postprocess import Detections
from tests.helpers.golden import NETWORKS, assert_same_detections, golden, inputs
from tests.helpers.outputs import made_outputs, mask_iou_net


def detect(*arguments, mask_iou=None, **keywords):
    """Detections of the network's outputs, re-scored if there is a net for that."""
    small = detection.postprocess(*arguments, **keywords)
    return (small.rescored(mask_iou(small.pasted_masks())) if mask_iou and len(small.masks) else small).upsample()


def one_object(box, size, prototypes, coefficients=(1.0,)):
    """Detections of a single sure object."""
    return detect(np.float32([box]), np.float32([[0.1, 0.9]]), np.float32([coefficients]), prototypes, size)


def random_prototypes(height, width, seed=0):
    return np.random.RandomState(seed).normal(0, 3, (height, width, 1)).astype(np.float32)


def fully_assembled(box, size, prototypes):
    """A mask the long way round: on all of the prototypes, cropped, and resized to all of the image."""
    height, width = prototypes.shape[:2]
    mask = 1 / (1 + np.exp(-prototypes[..., 0]))
    y, x = np.mgrid[:height, :width]
    x0, y0, x1, y1 = np.multiply(box, [width, height, width, height])
    mask *= (x >= x0 - 1) & (x < x1 + 1) & (y >= y0 - 1) & (y < y1 + 1)
    return F.interpolate(paddle.to_tensor(mask[None, None]), size, mode='bilinear', align_corners=False,
                         align_mode=0).numpy()[0, 0] > 0.5


@pytest.mark.parametrize('name', NETWORKS)
def test_anchors_are_the_golden_ones(name):
    expected, cells = golden(name), anchors(preset(name))
    assert cells.shape == tuple(expected['priors_shape'])
    np.testing.assert_allclose(inputs.sample(cells), expected['priors'], rtol=0, atol=1e-6)


@pytest.mark.parametrize('name', NETWORKS)
def test_detections_are_the_golden_ones(name):
    assert_same_detections(detect(**made_outputs(name)), golden(name), 'made_')


@pytest.mark.parametrize('name', NETWORKS)
def test_cross_class_detections_are_the_golden_ones(name):
    assert_same_detections(detect(**made_outputs(name), cross_class=True), golden(name), 'made_cross_class_')


def test_boxes_lie_in_the_image():
    boxes = detect(**made_outputs('resnet50dcn')).boxes
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    assert (boxes >= 0).all() and (boxes <= [427, 301, 427, 301]).all()
    assert (boxes == 0).any() and (boxes == [427, 301, 427, 301]).any()


@pytest.mark.parametrize('size', [(90, 130), (301, 427), (33, 20), (7, 300), (1, 1)])
@pytest.mark.parametrize('box', [(0.31, 0.22, 0.77, 0.58), (0, 0, 1, 1), (-0.2, 0.4, 0.3, 1.3),
                                 (0.5, 0.5, 0.5, 0.5), (0.97, 0.02, 0.99, 0.03)])
def test_a_part_equals_the_full_resize(box, size):
    prototypes = random_prototypes(34, 46)
    mask = one_object(box, size, prototypes).full_mask(0)
    assert mask.shape == size
    assert (mask != fully_assembled(box, size, prototypes)).sum() <= 1  # one may be at 0.5


def test_a_part_is_no_larger_than_its_box_with_the_margin():
    found = one_object((0.25, 0.5, 0.5, 0.75), (400, 800), np.ones((40, 40, 1), np.float32))
    assert found.masks[0].shape == (12 * 10, 12 * 20)
    assert found.corners.tolist() == [[9 * 20, 19 * 10]]
    assert found.masks[0][1:-1, 1:-1].any()


@pytest.mark.parametrize('box', [(1.2, 0.1, 1.5, 0.3), (-0.5, -0.5, -0.2, -0.2), (0.2, 1.1, 0.4, 1.2)])
def test_an_object_outside_the_image_has_no_mask(box):
    found = one_object(box, (60, 80), random_prototypes(20, 20))
    assert found.masks[0].size == 0
    assert found.full_mask(0).shape == (60, 80) and not found.full_mask(0).any()
    assert coco_mask.area(found.rle(0)) == 0


def test_great_coefficients_do_not_overflow():
    prototypes = np.float32([[[1.0], [-1.0]]])
    with np.errstate(all='raise'):
        mask = one_object((0, 0, 1, 1), (2, 4), prototypes, [1e6]).full_mask(0)
    assert mask.tolist() == [[True, True, False, False]] * 2


@pytest.mark.parametrize('part, corner', [
    (np.ones((5, 7), bool), (0, 0)), (np.ones((5, 3), bool), (2, 0)), (np.ones((3, 7), bool), (0, 2)),
    (np.ones((1, 1), bool), (6, 4)), (np.zeros((3, 3), bool), (1, 1)), (np.zeros((0, 0), bool), (0, 0)),
    (np.zeros((0, 3), bool), (4, 5)), (np.eye(5, dtype=bool), (1, 0)),
    *[(np.random.RandomState(seed).rand(5, 4) > 0.4, (seed, 0)) for seed in range(4)],
    *[(np.random.RandomState(seed).rand(3, 4) > 0.6, (seed, 1)) for seed in range(4)]])
def test_rle_is_that_of_the_full_mask(part, corner):
    found = Detections(np.zeros(1, np.int64), np.ones(1, np.float32), np.ones(1, np.float32),
                       np.zeros((1, 4), np.float32), [part], np.array([corner]), (5, 7))
    assert found.rle(0) == coco_mask.encode(np.asfortranarray(found.full_mask(0), np.uint8))


def test_rles_of_real_masks_are_those_of_the_full_masks():
    found = detect(**made_outputs('resnet50'))
    for index in range(len(found)):
        assert found.rle(index) == coco_mask.encode(np.asfortranarray(found.full_mask(index), np.uint8))


def test_mask_score_is_class_score_times_the_iou_of_its_class():
    boxes = np.float32([[0.1, 0.1, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9]])
    scores = np.float32([[0.2, 0.8, 0.0], [0.4, 0.0, 0.6]])
    seen = []

    def mask_iou(masks):
        seen.append(masks)
        return np.float32([[0.5, 0.1], [0.2, 0.25]])

    found = detect(boxes, scores, np.ones((2, 1), np.float32), np.ones((10, 10, 1), np.float32), (50, 50),
                   mask_iou=mask_iou, max_detections=2)
    assert found.classes.tolist() == [0, 1]
    np.testing.assert_allclose(found.box_scores, [0.8, 0.6])
    np.testing.assert_allclose(found.mask_scores, [0.4, 0.15])
    expected = np.zeros((2, 1, 10, 10))
    expected[0, 0, 0:5, 0:5] = expected[1, 0, 4:10, 4:10] = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(seen[0], expected, rtol=1e-6)


@pytest.mark.parametrize('cross_class', [False, True])
def test_a_score_at_the_threshold_is_no_object(cross_class):
    scores = np.float32([[0.5, 0.5, 0.0]])
    arrays = np.float32([[0, 0, 1, 1]]), scores, np.ones((1, 1), np.float32), random_prototypes(8, 8)
    found = detect(*arrays, (30, 40), mask_iou=mask_iou_net, score_threshold=0.5, cross_class=cross_class)
    assert len(found) == 0 and found.masks == [] and found.size == (30, 40)
    assert [array.shape for array in (found.classes, found.box_scores, found.mask_scores, found.boxes,
                                      found.corners)] == [(0,), (0,), (0,), (0, 4), (0, 2)]
    assert [array.dtype for array in (found.classes, found.boxes, found.corners)] == [
        np.int64, np.float32, np.int64]
    assert len(found.select([])) == 0
    assert len(detect(*arrays, (30, 40), score_threshold=0.49, cross_class=cross_class)) >= 1


def test_select_keeps_what_belongs_together():
    found = detect(**made_outputs('resnet50'))
    for keep in (found.classes == 3, [7, 2, 40]):
        places = np.arange(len(found))[keep]
        some = found.select(keep)
        assert len(some) == len(places) > 1
        np.testing.assert_array_equal(some.classes, found.classes[places])
        np.testing.assert_array_equal(some.mask_scores, found.mask_scores[places])
        np.testing.assert_array_equal(some.boxes, found.boxes[places])
        assert [some.rle(index) for index in range(len(some))] == [found.rle(index) for index in places]
