import dataclasses
import json
import os

import numpy as np
import pytest
from ground_truth import ground_truth
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.coco import AnnotationError, CocoDataset
from data.pictures import read_picture
from data.results import average_precision, check_classes, evaluate, predict, to_coco, write_results
from data.shapes import write_split
from model.classes import Classes
from model.detection import Detections

SIDE = 200
A, B = 10, 20  # category ids


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shapes')
    write_split(folder, 'val', 24)
    return CocoDataset(folder / 'annotations/instances_val.json', folder / 'val')


def results(dataset, change=lambda detections: detections):
    """Box and mask results of the changed ground truth of all pictures."""
    found = [(picture.id, change(ground_truth(dataset, i))) for i, picture in enumerate(dataset.images)]
    return [[entry for id, detections in found for entry in to_coco(detections, id, dataset.classes, kind)]
            for kind in ('box', 'mask')]


def judged(dataset, change=lambda detections: detections):
    return average_precision(dataset, *results(dataset, change))


def square(id, image_id, category_id=A, left=20, **keys):
    """An annotated square of 100 pixels a side."""
    right = left + 100
    polygon = [left, 30, right, 30, right, 130, left, 130]
    return {'id': id, 'image_id': image_id, 'category_id': category_id, 'iscrowd': 0, 'area': 10000,
            'bbox': [left, 30, 100, 100], 'segmentation': [polygon], **keys}


@pytest.fixture
def squares(tmp_path):
    def squares(*annotations):
        images = [{'id': id, 'file_name': f'{id}.png', 'width': SIDE, 'height': SIDE} for id in (1, 2)]
        path = tmp_path / 'squares.json'
        path.write_text(json.dumps({'images': images, 'annotations': annotations, 'categories': [
            {'id': A, 'name': 'a'}, {'id': B, 'name': 'b'}]}))
        return CocoDataset(path, tmp_path)
    return squares


def found(left=20, label=0, box_score=0.9, mask_score=0.9):
    """Detections of one square of 100 pixels a side."""
    return Detections(np.array([label]), np.float32([box_score]), np.float32([mask_score]),
                      np.float32([[left, 30, left + 100, 130]]), [np.ones((100, 100), bool)],
                      np.array([[left, 30]]), (SIDE, SIDE))


def joined(*detections):
    columns = {name: np.concatenate([getattr(one, name) for one in detections])
               for name in ('classes', 'box_scores', 'mask_scores', 'boxes', 'corners')}
    masks = [mask for one in detections for mask in one.masks]
    return Detections(**columns, masks=masks, size=detections[0].size)


def precision(dataset, pictures, **keys):
    """Average precision of Detections by image id."""
    boxes, masks = ([entry for id, detections in pictures.items()
                     for entry in to_coco(detections, id, dataset.classes, kind)] for kind in ('box', 'mask'))
    return average_precision(dataset, boxes, masks, **keys)


def test_the_ground_truth_has_an_average_precision_of_one(shapes):
    figures = judged(shapes)
    for kind in (figures.box, figures.mask):
        assert kind['AP'] == kind['AP50'] == kind['AP75'] == kind['AR100'] == pytest.approx(1)


def test_half_of_the_objects_missed(squares):
    dataset = squares(square(1, 1), square(2, 2))
    figures = precision(dataset, {1: found()})
    # Precision is 1 at the recalls 0, 0.01 ... 0.5 of 101, and 0 above.
    assert figures.box['AP'] == figures.mask['AP'] == pytest.approx(51 / 101)
    assert figures.box['AR100'] == figures.mask['AR100'] == pytest.approx(0.5)


def test_a_shifted_box_hits_up_to_its_overlap(squares):
    detections = dataclasses.replace(found(), boxes=np.float32([[40, 30, 140, 130]]))
    figures = precision(squares(square(1, 1)), {1: detections})
    assert figures.box['AP'] == pytest.approx(0.4)  # IoU 80 / 120: a hit at 0.5, 0.55, 0.6 and 0.65
    assert (figures.box['AP50'], figures.box['AP75']) == (pytest.approx(1), 0)
    assert figures.mask['AP'] == pytest.approx(1)


def test_a_shifted_mask_hits_up_to_its_overlap(squares):
    detections = dataclasses.replace(found(), corners=np.array([[40, 30]]))
    figures = precision(squares(square(1, 1)), {1: detections})
    assert figures.mask['AP'] == pytest.approx(0.4)
    assert figures.box['AP'] == pytest.approx(1)


def test_a_wrong_class_costs_both_classes(squares):
    dataset = squares(square(1, 1, A), square(2, 2, B))
    figures = precision(dataset, {1: found(label=1, box_score=0.95, mask_score=0.95), 2: found(label=1)})
    # Of a nothing is found; of b half, as the better of two is wrong.
    assert figures.box['AP'] == figures.mask['AP'] == pytest.approx((0 + 0.5) / 2)


def test_boxes_rank_by_box_score_and_masks_by_mask_score(squares):
    detections = joined(found(left=100, box_score=0.9, mask_score=0.1), found(box_score=0.8, mask_score=0.7))
    figures = precision(squares(square(1, 1)), {1: detections})
    assert figures.box['AP50'] == pytest.approx(0.5)
    assert figures.mask['AP50'] == pytest.approx(1)


@pytest.mark.parametrize(('iscrowd', 'expected'), [(1, 1), (0, 0.5 * 51 / 101)])
def test_detections_in_a_crowd_do_not_count(squares, iscrowd, expected):
    right_half = square(2, 1, iscrowd=iscrowd, area=100 * SIDE, bbox=[100, 0, 100, SIDE],
                        segmentation={'size': [SIDE, SIDE], 'counts': [100 * SIDE, 100 * SIDE]})
    detections = joined(found(left=100), found(left=0, box_score=0.5, mask_score=0.5))
    figures = precision(squares(square(1, 1, left=0), right_half), {1: detections})
    assert figures.box['AP75'] == figures.mask['AP75'] == pytest.approx(expected)


def test_no_detections_give_zeros(squares):
    figures = precision(squares(square(1, 1)), {})
    for kind in (figures.box, figures.mask):
        assert kind['AP'] == kind['AP50'] == kind['APl'] == kind['AR100'] == 0
        assert kind['APs'] == -1  # there is nothing small to be found


def test_only_the_chosen_pictures_count(squares):
    dataset = squares(square(1, 1), square(2, 2))
    assert precision(dataset, {1: found()}, image_ids=[1]).mask['AP'] == pytest.approx(1)
    assert precision(dataset, {1: found()}, image_ids=[2]).mask['AP'] == 0


def test_annotations_that_pycocotools_stumbles_over(squares):
    bare = square(0, 1)  # pycocotools takes the id 0 for no match
    for key in ('iscrowd', 'area', 'bbox'):
        del bare[key]
    useless = square(3, 2, segmentation=[]), square(4, 2, segmentation={'size': [SIDE, SIDE], 'counts': [7]})
    figures = precision(squares(bare, *useless), {1: found()})
    assert figures.box['AP'] == figures.mask['AP'] == figures.mask['APl'] == pytest.approx(1)


def test_figures_are_those_of_a_direct_run(shapes, tmp_path, capfd):
    rng = np.random.default_rng(0)

    def blur(detections):
        scores = rng.random((2, len(detections)), np.float32)
        labels = np.where(rng.random(len(detections)) < 0.2, 0, detections.classes)
        return dataclasses.replace(
            detections, classes=labels, box_scores=scores[0], mask_scores=scores[1],
            boxes=detections.boxes + rng.normal(0, 2, detections.boxes.shape).astype(np.float32),
            corners=np.maximum(detections.corners - rng.integers(0, 4, detections.corners.shape), 0))
    entries = results(shapes, blur)
    figures = average_precision(shapes, *entries)
    assert capfd.readouterr() == ('', '')
    for kind, own, iou_type in zip(entries, (figures.box, figures.mask), ('bbox', 'segm'), strict=True):
        write_results(tmp_path / 'results.json', kind)
        truth = COCO(str(shapes.annotations_path))
        direct = COCOeval(truth, truth.loadRes(str(tmp_path / 'results.json')), iou_type)
        direct.evaluate()
        direct.accumulate()
        direct.summarize()
        assert list(own.values()) == direct.stats.tolist()
        assert 0.1 < own['AP'] < 0.9


def test_table_has_the_figures_in_the_words_of_pycocotools(squares, capsys):
    dataset = squares(square(1, 1))
    path, entries = str(dataset.annotations_path), to_coco(found(), 1, dataset.classes, 'box')
    table = str(precision(dataset, {1: dataclasses.replace(found(), corners=np.array([[40, 30]]))}))
    truth = COCO(path)
    direct = COCOeval(truth, truth.loadRes(entries), 'bbox')
    direct.evaluate()
    direct.accumulate()
    capsys.readouterr()
    direct.summarize()
    theirs = [line.strip().partition(' = ')[0] for line in capsys.readouterr().out.splitlines()]
    header, *rows = table.splitlines()
    assert header.split() == ['box', 'mask']
    assert [row[:len(words)] for row, words in zip(rows, theirs, strict=True)] == theirs
    assert [row[70:].split() for row in rows[:4]] == [['1.000', '0.400'], ['1.000', '1.000'],
                                                      ['1.000', '0.000'], ['-', '-']]


def test_entries_of_a_box_and_of_a_mask(squares):
    dataset = squares(square(1, 1))
    detections = dataclasses.replace(found(label=1, box_score=0.1, mask_score=0.7),
                                     boxes=np.float32([[20.126, 30.5, 119.999, 130.004]]))
    assert to_coco(detections, 'x', dataset.classes, 'box') == [
        {'image_id': 'x', 'category_id': B, 'bbox': [20.13, 30.5, 99.87, 99.5], 'score': 0.1}]
    entry, = to_coco(detections, 1, dataset.classes, 'mask')
    assert (entry['category_id'], entry['score']) == (B, 0.7)
    assert (coco_mask.decode(entry['segmentation']).astype(bool) == detections.full_mask(0)).all()


def test_scores_stay_apart_as_far_as_float32_does(squares):
    score = np.float32(0.7)
    detections = joined(found(box_score=score), found(box_score=np.nextafter(score, np.float32(0))))
    first, second = to_coco(detections, 1, squares(square(1, 1)).classes, 'box')
    assert first['score'] > second['score']
    assert [np.float32(entry['score']) for entry in (first, second)] == detections.box_scores.tolist()


def test_other_classes_are_refused(squares):
    dataset = squares(square(1, 1))
    check_classes(dataset, Classes(('a', 'b'), (A, B)))
    for names, ids in ((('a', 'c'), (A, B)), (('a', 'b'), (A, 21)), (('a',), (A,)), (('b', 'a'), (A, B))):
        with pytest.raises(AnnotationError, match=r'squares\.json: has other classes'):
            check_classes(dataset, Classes(names, ids))


def perfect(dataset):
    """A predictor that knows the ground truth of each picture, and the sizes of the batches it was given."""
    known = {read_picture(picture.path).tobytes(): i for i, picture in enumerate(dataset.images)}
    batches = []

    def predictor(pictures):
        batches.append(len(pictures))
        return [ground_truth(dataset, known[picture.tobytes()]) for picture in pictures]
    return predictor, batches


def test_pictures_meet_their_own_detections_in_any_batches(shapes):
    predictor, batches = perfect(shapes)
    figures, problems = evaluate(predictor, shapes, batch_size=5)
    assert figures.mask['AP'] == figures.box['AP'] == pytest.approx(1)
    assert (batches, problems) == ([5, 5, 5, 5, 4], [])


def test_evaluation_of_the_first_few_pictures(shapes):
    predictor, batches = perfect(shapes)
    figures, _ = evaluate(predictor, shapes, max_images=3)
    assert figures.mask['AP'] == pytest.approx(1)
    assert batches == [1, 1, 1]


def test_pictures_that_cannot_be_used_count_as_empty(tmp_path):
    write_split(tmp_path, 'val', 4)
    dataset = CocoDataset(tmp_path / 'annotations/instances_val.json', tmp_path / 'val')
    predictor, batches = perfect(dataset)
    gone, other = dataset.images[0], dataset.images[3]
    usable = [[entry for entry in entries if entry['image_id'] not in (gone.id, other.id)]
              for entries in results(dataset)]
    gone.path.unlink()
    dataset.images[3] = dataclasses.replace(other, width=other.width + 1)
    figures, problems = evaluate(predictor, dataset, batch_size=2)
    assert figures == average_precision(dataset, *usable)
    assert 0 < figures.mask['AR100'] < 1
    assert batches == [2]
    assert [problem.partition(':')[0] for problem in problems] == [str(gone.path), str(other.path)]
    assert f'but the annotation file says {other.width + 1}x{other.height}' in problems[1]


def test_predictions_come_as_they_are_made(shapes):
    predictor, batches = perfect(shapes)
    predictions = predict(predictor, shapes.images, 2, [])
    assert next(predictions)[0] is shapes.images[0]
    assert batches == [2]


def test_results_file_is_complete_or_untouched(tmp_path):
    def broken():
        yield {'image_id': 1}
        raise KeyError
    path = tmp_path / 'new/results.json'
    write_results(path, [{'image_id': 1}, {'image_id': 2}])
    with pytest.raises(KeyError):
        write_results(path, broken())
    assert json.loads(path.read_text()) == [{'image_id': 1}, {'image_id': 2}]
    assert list(path.parent.iterdir()) == [path]
    write_results(path, [])
    assert json.loads(path.read_text()) == []


def test_a_results_file_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    started = []
    (tmp_path / 'file').touch()
    os.mkfifo(tmp_path / 'pipe')
    for path in (tmp_path, tmp_path / 'pipe', tmp_path / 'file/below', tmp_path / ('x' * 300), '', '/proc/none'):
        with pytest.raises(OSError):
            write_results(path, (started.append(1) or {} for _ in range(3)))
    assert not started
    assert (tmp_path / 'pipe').is_fifo()  # it was not replaced


WILD = (None, True, -1, 0, 1.5, float('nan'), float('inf'), 1e9, -1e300, 10 ** 400, '', 'x', [], [1], [[]], [[[]]], {},
        {'size': [200, 200], 'counts': 'x'}, {'size': None, 'counts': []}, [[1e9, 0, 0, 1e9, 5, 5]], [0, 0, 1e9, 1e9])


@pytest.mark.parametrize('key', ['image_id', 'category_id', 'segmentation', 'bbox', 'area', 'iscrowd', 'id'])
def test_wild_annotations_neither_crash_nor_count(squares, key):
    wild = [{**square(i + 2, 1), key: value} for i, value in enumerate(WILD)]
    dataset = squares(square(1, 1), *wild, *WILD, square(99, 2))
    figures = precision(dataset, {1: found(), 2: found()})
    kept = sum(len(dataset.objects(i)) for i in range(2))
    assert kept + len(dataset.warnings) == 2 + 2 * len(WILD)
    assert -1 <= figures.mask['AP'] <= 1


def test_figures_are_those_of_what_was_loaded(squares):
    dataset = squares(square(1, 1), square(2, 2))
    dataset.annotations_path.write_text('another file by now')
    assert precision(dataset, {1: found(), 2: found()}).mask['AP'] == pytest.approx(1)


def test_image_ids_of_every_kind_stay_apart(squares, tmp_path):
    ids = [2, 'a', 2 ** 63, 2 ** 63 + 1, -1, '2']  # as float64, or as text, some are the same
    content = json.loads(squares().annotations_path.read_text())
    content['images'] = [{'id': id, 'file_name': 'a.png', 'width': SIDE, 'height': SIDE} for id in ids]
    content['annotations'] = [square(i, id, left=10 * i) for i, id in enumerate(ids)]
    (tmp_path / 'ids.json').write_text(json.dumps(content))
    dataset = CocoDataset(tmp_path / 'ids.json', tmp_path)
    figures = precision(dataset, {id: found(left=10 * i) for i, id in enumerate(ids)})
    assert figures.box['AP'] == figures.mask['AP'] == pytest.approx(1)
    assert precision(dataset, {'a': found(left=10)}, image_ids=['a']).mask['AP'] == pytest.approx(1)


def test_polygons_that_go_far_outside_are_judged_as_they_are_trained_on(squares):
    around = [-9e4, -9e4, 9e4, -9e4, 9e4, 9e4, -9e4, 9e4]
    to_and_fro = [9e4 * (-1) ** (i // 2) for i in range(40_000)]  # pycocotools would take hundreds of gigabytes
    dataset = squares(square(1, 1, segmentation=[around]), square(2, 2, segmentation=[to_and_fro, square(2, 2)[
        'segmentation'][0]]))
    areas = [coco_mask.area(record['segmentation']) for record in dataset.annotations()]
    assert areas[0] == SIDE ** 2 and areas[1] >= 10000
