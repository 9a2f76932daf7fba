import numpy as np
import pytest

from model.nms import cross_class_fast_nms, fast_nms

BOXES = np.array([[0.0, 0.0, 0.4, 0.4],   # a
                  [0.1, 0.0, 0.5, 0.4],   # b: IoU 0.6 with a
                  [0.2, 0.0, 0.6, 0.4],   # c: IoU 0.6 with b, 1/3 with a
                  [0.6, 0.6, 0.9, 0.9]],  # d: apart
                 np.float32)


def random_case(seed, count=150, classes=5):
    rng = np.random.RandomState(seed)
    low = rng.uniform(0, 0.7, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.05, 0.3, (count, 2))], 1).astype(np.float32)
    return boxes, rng.randint(0, 100, (count, classes)).astype(np.float32)


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def brute_force(boxes, scores, top_k, iou_threshold=0.5):
    """(score, class, index) of each survivor, best first."""
    survivors = []
    for label, column in enumerate(scores.T.astype(float)):
        ranked = sorted(range(len(boxes)), key=lambda index: -column[index])[:top_k]  # noqa: B023
        survivors += [(column[index], label, index) for place, index in enumerate(ranked)
                      if all(iou(boxes[index], boxes[other]) <= iou_threshold for other in ranked[:place])]
    return sorted(survivors, key=lambda survivor: (-survivor[0], *survivor[1:]))


def as_list(result):
    index, classes, scores = result
    assert (index.dtype, classes.dtype, scores.dtype) == (np.int64, np.int64, np.float32)
    return list(zip(scores.tolist(), classes.tolist(), index.tolist(), strict=True))


def test_a_dropped_box_still_drops():
    index, _, scores = fast_nms(BOXES, np.array([[0.9], [0.8], [0.7], [0.6]], np.float32))
    assert index.tolist() == [0, 3]
    np.testing.assert_array_equal(scores, np.float32([0.9, 0.6]))


def test_threshold_is_what_may_overlap():
    scores = np.array([[0.9], [0.8], [0.7], [0.6]], np.float32)
    assert fast_nms(BOXES, scores, iou_threshold=0.61)[0].tolist() == [0, 1, 2, 3]
    assert fast_nms(BOXES, scores, iou_threshold=0.59)[0].tolist() == [0, 3]
    halves = np.array([[0, 0, 1, 1], [0, 0, 1, 0.5]], np.float32)
    assert fast_nms(halves, scores[:2], iou_threshold=0.5)[0].tolist() == [0, 1]


def test_classes_do_not_meet():
    scores = np.array([[0.9, 0.0], [0.0, 0.8], [0.0, 0.0], [0.0, 0.0]], np.float32)
    index, classes, _ = fast_nms(BOXES, scores, max_detections=2)
    assert (index.tolist(), classes.tolist()) == ([0, 1], [0, 1])


def test_across_classes_they_do():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.4], [0.6, 0.5]], np.float32)
    index, classes, best = cross_class_fast_nms(BOXES, scores)
    assert (index.tolist(), classes.tolist()) == ([0, 3], [0, 0])
    np.testing.assert_array_equal(best, np.float32([0.9, 0.6]))


@pytest.mark.parametrize('top_k', [3, 40, 200])
@pytest.mark.parametrize('max_detections', [1, 7, 100, None])
def test_agrees_with_brute_force(top_k, max_detections):
    boxes, scores = random_case(seed=top_k)
    found = as_list(fast_nms(boxes, scores, top_k=top_k, max_detections=max_detections))
    assert found == brute_force(boxes, scores, top_k)[:max_detections]


@pytest.mark.parametrize('top_k', [3, 40, 200])
def test_cross_class_agrees_with_brute_force(top_k):
    boxes, scores = random_case(seed=top_k)
    expected = brute_force(boxes, scores.max(1, keepdims=True), top_k)
    found = as_list(cross_class_fast_nms(boxes, scores, top_k=top_k))
    assert [(score, index) for score, _, index in found] == [(score, index) for score, _, index in expected]
    assert all(scores[index, label] == score for score, label, index in found)


def test_looks_deeper_when_one_object_takes_all_the_best():
    rng = np.random.RandomState(0)
    crowd = np.tile(np.float32([[0.1, 0.1, 0.3, 0.3]]), (500, 1))
    boxes = np.concatenate([crowd, BOXES[3:]])
    scores = np.concatenate([rng.uniform(0.5, 1, (500, 1)), [[0.1]]]).astype(np.float32)
    index, _, _ = fast_nms(boxes, scores, top_k=501, max_detections=2)
    assert index.tolist() == [scores.argmax(), 500]


def test_top_k_limits_each_class():
    boxes = np.stack([np.arange(9), np.zeros(9), np.arange(9) + 0.5, np.ones(9)], 1).astype(np.float32)
    scores = np.stack([np.arange(9), -np.arange(9)], 1).astype(np.float32)
    index, classes, _ = fast_nms(boxes, scores, top_k=2)
    assert (index.tolist(), classes.tolist()) == ([8, 7, 0, 1], [0, 0, 1, 1])
    assert cross_class_fast_nms(boxes, scores, top_k=2)[0].tolist() == [8, 7]
    assert cross_class_fast_nms(boxes, np.ones_like(scores), top_k=2)[0].tolist() == [0, 1]


@pytest.mark.parametrize('max_detections', [3, None])
def test_ties_go_by_class_then_index(max_detections):
    boxes = np.concatenate([BOXES[[0, 3]]] * 10)
    index, classes, _ = fast_nms(boxes, np.ones((20, 3), np.float32), max_detections=max_detections)
    assert np.stack([classes, index], 1).tolist() == [
        [0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]][:max_detections]


@pytest.mark.parametrize('nms', [fast_nms, cross_class_fast_nms])
def test_nothing_in_nothing_out(nms):
    assert as_list(nms(np.zeros((0, 4), np.float32), np.zeros((0, 80), np.float32))) == []
