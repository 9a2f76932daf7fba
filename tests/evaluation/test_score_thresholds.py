import numpy as np
import pytest

from evaluation.evaluate import ImageEvaluator, evaluate_results
from evaluation.results import to_coco
from evaluation.score_thresholds import ScoredResults, filtered_entries, score_thresholds
from tests.helpers.squares import found, joined, square, write_squares


def scored(*results):
    """`ScoredResults` of (label, score, right)."""
    labels, scores, right = zip(*results) if results else ((), (), ())
    return ScoredResults(np.array(labels, int), np.array(scores, float), np.array(right, bool))


def at(curves, threshold, row=0):
    """Precision, recall and F1 at a threshold."""
    k = curves.thresholds.tolist().index(threshold)
    return [curves.precision[row, k], curves.recall[row, k], curves.f1[row, k]]


def test_precision_recall_and_f1_are_those_counted_by_hand():
    images = [scored((0, 0.9, True), (0, 0.6, False)), scored((0, 0.7, True), (0, 0.3, True), (0, 0.2, False))]
    curves = score_thresholds(images, [4])
    assert curves.thresholds[[0, 1, 100]].tolist() == [0, 0.01, 1]
    assert at(curves, 0.1) == pytest.approx([3 / 5, 3 / 4, 6 / 9])
    assert at(curves, 0.25) == pytest.approx([3 / 4, 3 / 4, 6 / 8])
    assert at(curves, 0.5) == pytest.approx([2 / 3, 2 / 4, 4 / 7])
    assert at(curves, 0.8) == pytest.approx([1, 1 / 4, 2 / 5])
    assert at(curves, 0.95) == pytest.approx([np.nan, 0, 0], nan_ok=True)
    # The highest F1 is that from 0.20 to 0.29, the middle of which is taken.
    assert curves.best() == pytest.approx((0.24, 6 / 8, 3 / 4, 3 / 4))


def test_results_that_score_the_same_stay_together_and_one_at_the_threshold_is_out():
    curves = score_thresholds([scored((0, 0.5, True), (0, 0.5, False), (0, 0.5, False))], [1])
    assert at(curves, 0.49) == pytest.approx([1 / 3, 1, 1 / 2])
    assert at(curves, 0.5) == pytest.approx([np.nan, 0, 0], nan_ok=True)


def test_of_two_ranges_with_the_same_f1_the_longer_one_is_taken():
    # F1 is 2 / 3 with the first alone, up to 0.79, and with all five, up to 0.09.
    curves = score_thresholds([scored((0, 0.8, True), (0, 0.3, False), (0, 0.2, False), (0, 0.1, True))], [2])
    assert at(curves, 0.05)[2] == at(curves, 0.5)[2] == pytest.approx(2 / 3)
    assert curves.best() == pytest.approx((0.54, 2 / 3, 1, 1 / 2))


def test_a_class_without_objects_has_no_f1_but_costs_all_classes_together():
    curves = score_thresholds([scored((0, 0.9, True), (1, 0.8, False))], [1, 0, 2])
    assert at(curves, 0.5) == pytest.approx([1 / 2, 1 / 3, 2 / 5])
    assert at(curves, 0.5, 1) == [1, 1, 1]
    assert at(curves, 0.5, 2) == pytest.approx([0, np.nan, np.nan], nan_ok=True)
    assert at(curves, 0.5, 3) == pytest.approx([np.nan, 0, 0], nan_ok=True)
    assert curves.best(2) is None and curves.best(3) is None
    assert score_thresholds([], [0]).best() is None


def test_no_threshold_below_the_lowest_that_is_known():
    curves = score_thresholds([scored((0, 0.08, True))], [1], 0.05)
    assert curves.thresholds[0] == 0.05 and curves.best() == (0.06, 1, 1, 1)


def test_masks_are_filtered_by_the_scores_of_their_boxes(tmp_path):
    dataset = write_squares(tmp_path, square(1, 1), square(2, 1, iscrowd=1, left=100))
    detections = joined(found(box_score=0.9, mask_score=0.2), found(box_score=0.8, mask_score=0.7),
                        found(left=100, box_score=0.6))
    scored_results = ImageEvaluator(dataset)(dataset.images[0], detections)[0].scored
    # The one in the crowd does not count; of two on an object the one whose box scores more is right.
    assert scored_results.scores.tolist() == [0.9, 0.8]
    assert scored_results.right.tolist() == [True, False]


def test_results_of_a_file_start_where_they_end(tmp_path):
    dataset = write_squares(tmp_path, square(1, 1), square(2, 2))
    boxes = [*to_coco(found(box_score=0.9), 1, dataset.classes, 'box'),
             *to_coco(found(box_score=0.4), 2, dataset.classes, 'box')]
    curves = evaluate_results(dataset, boxes, None).by_score
    assert (curves.thresholds[0], curves.best()) == (0.39, (0.39, 1, 1, 1))
    assert filtered_entries(boxes, None) == filtered_entries(None, boxes) == boxes
