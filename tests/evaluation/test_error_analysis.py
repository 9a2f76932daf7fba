"""What is found wrong in images of squares of 100 pixels a side."""
import functools

import numpy as np
import pytest

from evaluation.error_analysis import (
    BACKGROUND,
    MAX_IMAGES,
    MAX_OVERALL,
    Errors,
    PerImageErrors,
    errors_in_image,
    match,
)
from evaluation.evaluate import ImageEvaluator, evaluate_results
from evaluation.results import to_coco
from tests.helpers.squares import SIDE, A, B, found, joined, square, write_squares


@pytest.fixture
def squares(tmp_path):
    return functools.partial(write_squares, tmp_path)


def errors_of(dataset, *detections, kind='mask'):
    entries = to_coco(joined(*detections), 1, dataset.classes, kind) if detections else []
    return errors_in_image(dataset, 0, entries)


def test_a_hit_a_miss_and_a_result_where_nothing_is(squares):
    dataset = squares(square(1, 1, A, left=0), square(2, 1, B, left=100))
    errors = errors_of(dataset, found(left=20, label=0), found(left=50, label=1))  # IoUs of 80 / 120 and 50 / 150
    assert errors.pairs == {(0, 0): 1, (1, BACKGROUND): 1, (BACKGROUND, 1): 1}
    assert errors.quality == pytest.approx({0: 2 / 3, 1: 0, None: (2 / 3) / (1 + 0.5 + 0.5)})
    assert (errors.place, errors.wrong) == (0, 2)


@pytest.mark.parametrize('kind', ['mask', 'box'])
def test_an_object_that_is_taken_for_another(squares, kind):
    errors = errors_of(squares(square(1, 1, A)), found(label=1), kind=kind)
    assert errors.pairs == {(0, 1): 1}
    assert errors.quality == {0: 0, 1: 0, None: 0}
    assert errors.wrong == 1


def test_a_result_of_the_right_class_has_the_object_even_where_one_of_another_scores_more(squares):
    errors = errors_of(squares(square(1, 1, A)), found(left=50, label=0, mask_score=0.4),  # too far off
                       found(left=40, label=0, mask_score=0.5), found(left=20, label=1, mask_score=0.9))
    assert errors.pairs == {(0, 0): 1, (BACKGROUND, 1): 1, (BACKGROUND, 0): 1}
    assert errors.quality[0] == pytest.approx((80 / 120) / 1.5)


def test_of_two_results_for_an_object_the_one_that_scores_more_has_it(squares):
    dataset = squares(square(1, 1, A))
    entries = to_coco(joined(found(left=20, mask_score=0.5), found(left=30, mask_score=0.8)), 1, dataset.classes,
                      'mask')
    matches = match(dataset, 0, entries)
    assert [entry['score'] for entry in matches.results] == [0.8, 0.5]
    assert matches.pairs == [(0, 0, pytest.approx(90 / 110))]


def test_results_in_a_crowd_of_their_class_are_left_out_and_those_of_others_are_not(squares):
    crowd = square(2, 1, A, iscrowd=1, area=100 * SIDE, bbox=[100, 0, 100, SIDE],
                   segmentation={'size': [SIDE, SIDE], 'counts': [100 * SIDE, 100 * SIDE]})
    dataset = squares(crowd, square(1, 1, A, left=0))  # the crowd first, so that places differ
    errors = errors_of(dataset, found(left=100), found(left=100, label=1), found(left=0))
    assert errors.pairs == {(0, 0): 1, (BACKGROUND, 1): 1}
    assert [result['category_id'] for result in errors.results] == [B, A]
    assert errors.quality[0] == pytest.approx(1)


def test_results_that_score_little_are_not_shown(squares):
    errors = errors_of(squares(square(1, 1)), found(mask_score=0.29))
    assert (errors.pairs, errors.results) == ({(0, BACKGROUND): 1}, [])


def test_a_image_with_nothing_in_it_has_no_quality(squares):
    errors = errors_of(squares(square(1, 2)))
    assert (errors.pairs, errors.quality) == ({}, {})


def test_the_worst_images_are_kept_of_all_and_of_each_class():
    errors = Errors(2)
    everything = [PerImageErrors(place, {(0, 0): 1}, {None: place / 1000, place % 10 == 9: place / 1000}, [])
                  for place in range(1000)]
    for place in np.random.default_rng(0).permutation(1000):
        errors.add(everything[place])
    assert (errors.pairs, errors.images) == ({(0, 0): 1000}, 1000)
    kept = [one.place for one in errors.worst()]
    of_second = range(9, 800, 10)  # the worst 80, of which four are among the worst of all
    assert kept == sorted(kept) and len(kept) == MAX_IMAGES
    assert set(kept) >= {*range(MAX_OVERALL)} and set(kept) - {*of_second} <= {*range(160)}
    assert len({*kept} & {*of_second}) > 50


def test_of_images_alike_those_with_more_errors_are_worse():
    errors = Errors(1)
    for place, number in enumerate((1, 3, 2)):
        errors.add(PerImageErrors(place, {(0, BACKGROUND): number}, {None: 0, 0: 0}, []))
    assert [one.place for one in errors.worst()] == [1, 2, 0]


def test_the_errors_of_results_are_added_up(squares):
    dataset = squares(square(1, 1, A), square(2, 2, B))
    boxes = [entry for id in (1, 2) for entry in to_coco(found(), id, dataset.classes, 'box')]
    errors = Errors(2)
    evaluate_results(dataset, boxes, None, errors=errors, workers=2)
    assert (errors.pairs, errors.images) == ({(0, 0): 1, (1, 0): 1}, 2)
    assert [one.place for one in errors.worst()] == [1, 0]
    assert ImageEvaluator(dataset)(dataset.images[0], found())[1] is None  # nobody asked
