import dataclasses
import functools
import time

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.coco import CocoDataset
from evaluation.average_precision import average_precision
from evaluation.evaluate import ImageEvaluator, evaluate_results
from evaluation.results import to_coco, write_results
from tests.helpers.bad_annotations import content, many_objects, write_json
from tests.helpers.ground_truth import ground_truth
from tests.helpers.squares import SIDE, A, B, found, joined, square, write_squares
from tools.shapes import write_split


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shapes')
    write_split(folder, 'val', 24)
    return CocoDataset(folder / 'annotations/instances_val.json', folder / 'val')


@pytest.fixture
def squares(tmp_path):
    return functools.partial(write_squares, tmp_path)


def judged(dataset, change=lambda detections: detections):
    """Average precision of the changed ground truth."""
    return precision(dataset, {image.id: change(ground_truth(dataset, i))
                               for i, image in enumerate(dataset.images)})


def precision(dataset, images, image_ids=None):
    """Average precision of Detections by image id."""
    nothing = found().select([])
    return average_precision(dataset, [ImageEvaluator(dataset)(image, images.get(image.id, nothing))[0]
                                       for image in dataset.images if image_ids is None or image.id in image_ids])


def test_the_ground_truth_has_an_average_precision_of_one(shapes):
    metrics = judged(shapes)
    for kind in (metrics.box, metrics.mask):
        assert kind['AP'] == kind['AP50'] == kind['AP75'] == kind['AR100'] == pytest.approx(1)


def test_half_of_the_objects_missed(squares):
    dataset = squares(square(1, 1), square(2, 2))
    metrics = precision(dataset, {1: found()})
    # Precision is 1 at the recalls 0, 0.01 ... 0.5 of 101, and 0 above.
    assert metrics.box['AP'] == metrics.mask['AP'] == pytest.approx(51 / 101)
    assert metrics.box['AR100'] == metrics.mask['AR100'] == pytest.approx(0.5)


def test_a_shifted_box_hits_up_to_its_overlap(squares):
    detections = dataclasses.replace(found(), boxes=np.float32([[40, 30, 140, 130]]))
    metrics = precision(squares(square(1, 1)), {1: detections})
    assert metrics.box['AP'] == pytest.approx(0.4)  # IoU 80 / 120: a hit at 0.5, 0.55, 0.6 and 0.65
    assert (metrics.box['AP50'], metrics.box['AP75']) == (pytest.approx(1), 0)
    assert metrics.mask['AP'] == pytest.approx(1)


def test_a_shifted_mask_hits_up_to_its_overlap(squares):
    detections = dataclasses.replace(found(), corners=np.array([[40, 30]]))
    metrics = precision(squares(square(1, 1)), {1: detections})
    assert metrics.mask['AP'] == pytest.approx(0.4)
    assert metrics.box['AP'] == pytest.approx(1)


def test_a_wrong_class_costs_both_classes(squares):
    dataset = squares(square(1, 1, A), square(2, 2, B))
    metrics = precision(dataset, {1: found(label=1, box_score=0.95, mask_score=0.95), 2: found(label=1)})
    # Of a nothing is found; of b half, as the better of two is wrong.
    assert metrics.box['AP'] == metrics.mask['AP'] == pytest.approx((0 + 0.5) / 2)


def test_boxes_rank_by_box_score_and_masks_by_mask_score(squares):
    detections = joined(found(left=100, box_score=0.9, mask_score=0.1), found(box_score=0.8, mask_score=0.7))
    metrics = precision(squares(square(1, 1)), {1: detections})
    assert metrics.box['AP50'] == pytest.approx(0.5)
    assert metrics.mask['AP50'] == pytest.approx(1)


@pytest.mark.parametrize(('iscrowd', 'expected'), [(1, 1), (0, 0.5 * 51 / 101)])
def test_detections_in_a_crowd_do_not_count(squares, iscrowd, expected):
    right_half = square(2, 1, iscrowd=iscrowd, area=100 * SIDE, bbox=[100, 0, 100, SIDE],
                        segmentation={'size': [SIDE, SIDE], 'counts': [100 * SIDE, 100 * SIDE]})
    detections = joined(found(left=100), found(left=0, box_score=0.5, mask_score=0.5))
    metrics = precision(squares(square(1, 1, left=0), right_half), {1: detections})
    assert metrics.box['AP75'] == metrics.mask['AP75'] == pytest.approx(expected)


def test_no_detections_give_zeros(squares):
    metrics = precision(squares(square(1, 1)), {})
    for kind in (metrics.box, metrics.mask):
        assert kind['AP'] == kind['AP50'] == kind['APl'] == kind['AR100'] == 0
        assert kind['APs'] == -1  # there is nothing small to be found


def test_only_the_chosen_images_count(squares):
    dataset = squares(square(1, 1), square(2, 2))
    assert precision(dataset, {1: found()}, image_ids=[1]).mask['AP'] == pytest.approx(1)
    assert precision(dataset, {1: found()}, image_ids=[2]).mask['AP'] == 0


def test_annotations_that_pycocotools_stumbles_over(squares):
    bare = square(0, 1)  # pycocotools takes the id 0 for no match
    for key in ('iscrowd', 'area', 'bbox'):
        del bare[key]
    useless = square(3, 2, segmentation=[]), square(4, 2, segmentation={'size': [SIDE, SIDE], 'counts': [7]})
    metrics = precision(squares(bare, *useless), {1: found()})
    assert metrics.box['AP'] == metrics.mask['AP'] == metrics.mask['APl'] == pytest.approx(1)


def test_figures_are_those_of_a_direct_run(shapes, tmp_path, capfd):
    rng = np.random.default_rng(0)

    def blur(detections):
        scores = rng.random((2, len(detections)), np.float32)
        labels = np.where(rng.random(len(detections)) < 0.2, 0, detections.classes)
        return dataclasses.replace(
            detections, classes=labels, box_scores=scores[0], mask_scores=scores[1],
            boxes=detections.boxes + rng.normal(0, 2, detections.boxes.shape).astype(np.float32),
            corners=np.maximum(detections.corners - rng.integers(0, 4, detections.corners.shape), 0))
    changed = {image.id: blur(ground_truth(shapes, i)) for i, image in enumerate(shapes.images)}
    metrics = precision(shapes, changed)
    written = [[entry for id, detections in changed.items() for entry in to_coco(detections, id, shapes.classes, kind)]
               for kind in ('box', 'mask')]
    assert capfd.readouterr() == ('', '')
    for entries, own, iou_type in zip(written, (metrics.box, metrics.mask), ('bbox', 'segm'), strict=True):
        write_results(tmp_path / 'results.json', entries)
        truth = COCO(str(shapes.annotations_path))
        direct = COCOeval(truth, truth.loadRes(str(tmp_path / 'results.json')), iou_type)
        direct.evaluate()
        direct.accumulate()
        direct.summarize()
        np.testing.assert_allclose(list(own.values()), direct.stats, atol=1e-9)
        assert 0.1 < own['AP'] < 0.9
        name = 'box' if iou_type == 'bbox' else 'mask'
        by_threshold = direct.eval['precision'][..., 0, 2]
        for iou, part in zip(metrics.by_iou[name].values(), by_threshold, strict=True):
            assert iou == pytest.approx(part[part > -1].mean(), abs=1e-9)
        assert list(metrics.by_iou[name]) == [f'0.{percent}' for percent in range(50, 100, 5)]
        for place, ap in enumerate(metrics.by_class[name]):  # this dataset's ids ascend, as pycocotools sorts them
            assert ap == pytest.approx(by_threshold[..., place].mean(), abs=1e-9)
    assert metrics.names == shapes.classes.names
    labels = [record['category_id'] for i in range(len(shapes)) for record in shapes.annotations(i)
              if not record['iscrowd']]
    assert metrics.objects == tuple(labels.count(id) for id in shapes.classes.ids)


def test_tables_are_those_of_pycocotools_and_yolact(squares, capsys):
    dataset = squares(square(1, 1))
    detections = dataclasses.replace(found(), corners=np.array([[40, 30]]))  # mask IoU 80 / 120, box IoU 1
    table = str(precision(dataset, {1: detections}))
    expected = []
    for kind, iou_type in (('box', 'bbox'), ('mask', 'segm')):
        truth = COCO(str(dataset.annotations_path))
        direct = COCOeval(truth, truth.loadRes(to_coco(detections, 1, dataset.classes, kind)), iou_type)
        direct.evaluate()
        direct.accumulate()
        capsys.readouterr()
        direct.summarize()
        expected += [f'{kind}:', *capsys.readouterr().out.splitlines()]
    # pycocotools says -1 of what there is none of, and so do we.
    assert [line.rstrip() for line in table.splitlines()] == [*expected, '', *'''\
       |  all   |  .50   |  .55   |  .60   |  .65   |  .70   |  .75   |  .80   |  .85   |  .90   |  .95
-------+--------+--------+--------+--------+--------+--------+--------+--------+--------+--------+--------
   box | 1.000  | 1.000  | 1.000  | 1.000  | 1.000  | 1.000  | 1.000  | 1.000  | 1.000  | 1.000  | 1.000
  mask | 0.400  | 1.000  | 1.000  | 1.000  | 1.000  | 0.000  | 0.000  | 0.000  | 0.000  | 0.000  | 0.000

class  objects     box    mask
a            1   1.000   0.400
b            0       -       -'''.splitlines()]


WILD = (None, True, -1, 0, 1.5, float('nan'), float('inf'), 1e9, -1e300, 10 ** 400, '', 'x', [], [1], [[]], [[[]]], {},
        {'size': [200, 200], 'counts': 'x'}, {'size': None, 'counts': []}, [[1e9, 0, 0, 1e9, 5, 5]], [0, 0, 1e9, 1e9])


@pytest.mark.parametrize('key', ['image_id', 'category_id', 'segmentation', 'bbox', 'area', 'iscrowd', 'id'])
def test_wild_annotations_neither_crash_nor_count(squares, key):
    wild = [{**square(i + 2, 1), key: value} for i, value in enumerate(WILD)]
    dataset = squares(square(1, 1), *wild, *WILD, square(99, 2))
    metrics = precision(dataset, {1: found(), 2: found()})
    kept = sum(len(dataset.objects(i)) for i in range(2))
    assert kept + len(dataset.warnings) == 2 + 2 * len(WILD)
    assert 0 < metrics.mask['AP'] <= 1  # the two squares are found


def test_figures_are_those_of_what_was_loaded(squares):
    dataset = squares(square(1, 1), square(2, 2))
    dataset.annotations_path.write_text('another file by now')
    assert precision(dataset, {1: found(), 2: found()}).mask['AP'] == pytest.approx(1)


def test_image_ids_of_every_kind_stay_apart(squares):
    ids = [2, 'a', 2 ** 63, 2 ** 63 + 1, -1, '2']  # as float64, or as text, some are the same
    dataset = squares(*(square(i, id, left=10 * i) for i, id in enumerate(ids)), ids=ids)
    metrics = precision(dataset, {id: found(left=10 * i) for i, id in enumerate(ids)})
    assert metrics.box['AP'] == metrics.mask['AP'] == pytest.approx(1)
    assert precision(dataset, {'a': found(left=10)}, image_ids=['a']).mask['AP'] == pytest.approx(1)


def test_polygons_that_go_far_outside_are_judged_as_they_are_trained_on(squares):
    around = [-9e4, -9e4, 9e4, -9e4, 9e4, 9e4, -9e4, 9e4]
    to_and_fro = [9e4 * (-1) ** (i // 2) for i in range(40_000)]  # pycocotools would take hundreds of gigabytes
    dataset = squares(square(1, 1, segmentation=[around]), square(2, 2, segmentation=[to_and_fro, square(2, 2)[
        'segmentation'][0]]))
    areas = [coco_mask.area(record['segmentation']) for i in range(2) for record in dataset.annotations(i)]
    assert areas[0] == SIDE ** 2 and areas[1] >= 10000


@pytest.mark.parametrize('ids', [(2, 1), (1, 2)])
def test_of_equal_scores_the_earlier_image_is_first_wherever_it_is_in_the_file(squares, capsys, ids):
    dataset = squares(square(1, 1), square(2, 2), square(3, 2, left=95), ids=ids)
    detections = {1: joined(found(), found(left=60)), 2: joined(found(left=60), found(left=95))}
    metrics = precision(dataset, detections)
    truth = COCO(str(dataset.annotations_path))
    direct = COCOeval(truth, truth.loadRes([entry for id, one in detections.items()
                                            for entry in to_coco(one, id, dataset.classes, 'box')]), 'bbox')
    direct.evaluate()
    direct.accumulate()
    direct.summarize()
    np.testing.assert_allclose(list(metrics.box.values()), direct.stats, atol=1e-9)
    # In order of images: hit, miss, miss, hit.
    assert metrics.box['AP50'] == pytest.approx((34 + 33 * 0.5) / 101)


def test_a_image_of_many_objects_is_judged_as_by_pycocotools_and_soon(tmp_path):
    dataset = CocoDataset(write_json(tmp_path / 'many.json', content(many_objects(20_000))), tmp_path)
    rng, truth = np.random.default_rng(0), COCO(str(tmp_path / 'many.json'))
    corners = rng.uniform(0, 50, (20, 2)).tolist()
    boxes = [{'image_id': 7, 'category_id': 3, 'score': score, 'bbox': [x, y, width, 9.5]}
             for (x, y), score, width in zip(corners, rng.random(20), [1, 3, 10, 90] * 5)]
    began = time.perf_counter()
    metrics = evaluate_results(dataset, boxes, None)
    seconds = time.perf_counter() - began
    direct = COCOeval(truth, truth.loadRes(boxes), 'bbox')
    direct.evaluate()
    direct.accumulate()
    direct.summarize()
    np.testing.assert_allclose([*metrics.box.values()][:12], direct.stats, atol=1e-12)
    assert metrics.box['AP'] > 0 and seconds < 0.5 * (time.perf_counter() - began)
