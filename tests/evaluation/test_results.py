import dataclasses
import json
import os

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from evaluation.results import read_results, to_coco, write_results
from system.errors import UserError
from tests.helpers.squares import SIDE, A, B, found, joined, write_squares


def test_entries_of_a_box_and_of_a_mask(tmp_path):
    dataset = write_squares(tmp_path)
    detections = dataclasses.replace(found(label=1, box_score=0.1, mask_score=0.7),
                                     boxes=np.float32([[20.126, 30.5, 119.999, 130.004]]))
    assert to_coco(detections, 'x', dataset.classes, 'box') == [
        {'image_id': 'x', 'category_id': B, 'bbox': [20.1, 30.5, 99.9, 99.5], 'score': 0.1}]
    entry, = to_coco(detections, 1, dataset.classes, 'mask')
    assert (entry['category_id'], entry['score']) == (B, 0.7)
    assert (coco_mask.decode(entry['segmentation']).astype(bool) == detections.full_mask(0)).all()


def test_scores_stay_apart_as_far_as_float32_does(tmp_path):
    score = np.float32(0.7)
    detections = joined(found(box_score=score), found(box_score=np.nextafter(score, np.float32(0))))
    first, second = to_coco(detections, 1, write_squares(tmp_path).classes, 'box')
    assert first['score'] > second['score']
    assert [np.float32(entry['score']) for entry in (first, second)] == detections.box_scores.tolist()


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


@pytest.fixture
def read(tmp_path):
    """Reads results of two images, from their text or from entries."""
    def read(content):
        path = tmp_path / 'results.json'
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_results(path, write_squares(tmp_path))
    return read


def box(**keys):
    return {'image_id': 1, 'category_id': A, 'bbox': [1.5, 2, 3, 4], 'score': 0.5, **keys}


def mask(**keys):
    rle = coco_mask.frPyObjects([[10, 10, 50, 10, 50, 40]], SIDE, SIDE)[0]
    return {'image_id': 1, 'category_id': A, 'score': 0.5, **keys,
            'segmentation': {'size': [SIDE, SIDE], 'counts': rle['counts'].decode()}}


def test_results_of_boxes_are_read_as_they_are(read):
    given = [box(), box(image_id=2, category_id=B, score=1)]
    assert read(given) == (given, None)


def test_masks_have_boxes_too(read):
    boxes, masks = read([mask(), mask(image_id=2)])
    assert masks == [mask(), mask(image_id=2)]
    assert boxes == [box(bbox=[11, 10, 39, 30]), box(bbox=[11, 10, 39, 30], image_id=2)]


def test_a_box_that_is_given_with_a_mask_is_its_box(read):
    assert read([{**mask(), **box()}]) == ([box()], [mask()])


def test_run_lengths_may_be_plain_numbers(read):
    _, masks = read([box(segmentation={'size': [SIDE, SIDE], 'counts': [0, SIDE * SIDE]})])
    assert coco_mask.area(masks[0]['segmentation']) == SIDE * SIDE


def test_sides_may_be_written_as_fractions(read):
    _, (entry,) = read([box(segmentation={'size': [200.0, 200.0], 'counts': [0, SIDE * SIDE]})])
    assert coco_mask.decode(entry['segmentation']).shape == (SIDE, SIDE)


def test_no_results_are_none_of_either_kind(read):
    assert read([]) == ([], [])


@pytest.mark.parametrize(('content', 'reason'), [
    ('', 'is not JSON'), ('[{]', 'is not JSON'), ('[' * 100_000, 'is not JSON'), ('{}', 'is not a list of results'),
    ([box(), 7], 'result 2: is not an object'),
    ([box(image_id=3)], 'result 1: image_id 3 is not in the annotations'),
    ([box(image_id=[1])], r'image_id \[1\] is not'), ([box(image_id=True)], 'image_id True is not'),
    ([box(category_id=1)], 'category_id 1 is not'), ([box(category_id='10')], "category_id '10' is not"),
    ([box(image_id=[1] * 9999)], r'image_id \[1, 1.+\.\.\.\] is not'),
    ([box(category_id='x' * 9999)], r'category_id .x+\.\.\.x+. is'),
    ([box(score=10 ** 400)], r'its score is 1000+\.\.\.'), ([box(bbox=[1, 2, 3, 10 ** 400])], 'its bbox is not x, y'),
    ([box(score=None)], 'its score is None'), ([box(score=float('nan'))], 'its score is nan'),
    ([box(bbox=[1, 2, 3])], 'its bbox is not x, y, width and height'),
    ([box(bbox=[1, 2, 3, float('inf')])], 'its bbox is not x, y'),
    ([{'image_id': 1, 'category_id': A, 'score': 1}], 'has neither bbox nor segmentation'),
    ([{**mask(), 'segmentation': [[1, 2, 3, 4, 5, 6]]}], 'its segmentation is not an RLE of 200 by 200 pixels'),
    ([{**mask(), 'segmentation': {'size': [SIDE, 9], 'counts': 'x'}}], 'its segmentation is not an RLE of 200'),
    ([{**mask(), 'segmentation': {'size': [SIDE, SIDE], 'counts': '11'}}], 'an RLE of 2 pixels'),
    ([mask(), box()], '1 of 2 results have no segmentation'),
])
def test_results_that_cannot_be_used_are_refused_in_one_line(read, content, reason):
    with pytest.raises(UserError, match=reason) as caught:
        read(content)
    assert 'results.json: ' in str(caught.value) and '\n' not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_results_file_that_is_not_there_is_refused(tmp_path):
    for path in (tmp_path / 'none.json', tmp_path):
        with pytest.raises(UserError, match='cannot be read'):
            read_results(path, write_squares(tmp_path))
