import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as mask_api
from pycocotools.coco import COCO

from data.coco import CocoDataset
from data.masks import rasterise
from system.errors import UserError
from tests.helpers.bad_annotations import (
    BAD_ANNOTATIONS,
    BAD_FILES,
    SQUARE,
    TRIANGLE,
    UNUSUAL_ANNOTATIONS,
    annotation,
    category,
    content,
    image,
    without,
    write_json,
)


@pytest.fixture
def load(tmp_path: Path) -> Callable[[object], CocoDataset]:
    """Opens a dataset with an annotation file of some content."""
    def load(content: object) -> CocoDataset:
        return CocoDataset(write_json(tmp_path / 'instances.json', content), tmp_path / 'images')
    return load


def test_classes_follow_category_ids_with_gaps(load):
    categories = [category(90, 'last'), category(0, 'first'), category(12, 'middle')]
    dataset = load(content([annotation(1, category_id=12), annotation(2, category_id=0),
                            annotation(3, category_id=90)], categories=categories))
    assert dataset.classes.names == ('first', 'middle', 'last')
    assert dataset.classes.ids == (0, 12, 90)
    assert dataset.objects(0).labels.tolist() == [1, 0, 2]


def test_class_names_are_in_one_line(load):
    dataset = load(content(categories=[category(3, 'a\n\x1b[31mb'), category(4, '\ud800'), category(5, '星')]))
    assert dataset.classes.names == ('a\\n\\x1b[31mb', '\\ud800', '星')


def test_a_thousand_classes(load):
    dataset = load(content([annotation(1, category_id=2999)],
                           categories=[category(3 * i + 2, f'c{i}') for i in range(1000)]))
    assert len(dataset.classes) == 1000
    assert dataset.objects(0).labels.tolist() == [999]


def test_images_are_as_in_the_file(load, tmp_path):
    dataset = load(content(images=[image(9, width=33), image('a', file_name='sub/a.png', height=44.0)]))
    first, second = dataset.images
    assert len(dataset) == 2
    assert (first.id, first.path, first.width, first.height) == (9, tmp_path / 'images/9.jpg', 33, 60)
    assert (second.id, second.path, second.height) == ('a', tmp_path / 'images/sub/a.png', 44)


def test_objects_belong_to_their_images(load):
    dataset = load(content([annotation(1, image_id=8), annotation(2), annotation(3, image_id=8)]))
    assert [len(dataset.objects(i)) for i in range(2)] == [1, 2]
    assert dataset.has_annotations and dataset.warnings == []


def test_an_image_without_objects_is_empty(load):
    objects = load(content([annotation(1)])).objects(1)
    assert objects.labels.shape == (0,) and objects.labels.dtype == np.int64
    assert objects.boxes.shape == (0, 4) and objects.boxes.dtype == np.float32
    assert objects.segmentations == [] and objects.num_crowds == 0


def test_a_file_of_test_images_has_no_annotations(load):
    dataset = load(without(content(), 'annotations'))
    assert not dataset.has_annotations
    assert len(dataset) == 2 and len(dataset.objects(0)) == 0


def test_crowds_are_last(load):
    crowd = {'size': [60, 80], 'counts': [0, 600, 4200]}
    dataset = load(content([
        annotation(1, iscrowd=1, segmentation=crowd, bbox=[0, 0, 10, 60]),
        annotation(2, bbox=[1, 1, 5, 5]),
        annotation(3, iscrowd=1, segmentation=crowd, bbox=[0, 0, 11, 60]),
        annotation(4, bbox=[2, 2, 5, 5])]))
    objects = dataset.objects(0)
    assert objects.num_crowds == 2
    assert objects.boxes.tolist() == [[1, 1, 6, 6], [2, 2, 7, 7], [0, 0, 10, 60], [0, 0, 11, 60]]
    assert [type(segmentation) for segmentation in objects.segmentations] == [list, list, dict, dict]


def test_boxes_are_clipped_to_the_image(load):
    dataset = load(content([annotation(1, bbox=[-5, 50.5, 20, 30]), annotation(2, bbox=[70, -3, 30.5, 10])]))
    assert dataset.objects(0).boxes.tolist() == [[0, 50.5, 15, 60], [70, 0, 80, 7]]


@pytest.mark.parametrize('box', [None, []])
def test_a_missing_box_encloses_the_segmentation(load, box):
    block = np.zeros((60, 80), np.uint8, order='F')
    block[5:9, 20:70] = 1
    rle = {'size': [60, 80], 'counts': mask_api.encode(block)['counts'].decode()}
    dataset = load(content([annotation(1, bbox=box, segmentation=[TRIANGLE, SQUARE]),
                            annotation(2, bbox=box, segmentation=rle)]))
    np.testing.assert_allclose(dataset.objects(0).boxes, [[10, 10, 60, 40], [20, 5, 70, 9]])


def test_iscrowd_area_and_bbox_may_be_missing(load):
    objects = load(content([without(annotation(1), 'iscrowd', 'area', 'bbox')])).objects(0)
    np.testing.assert_allclose(objects.boxes, [[10, 10, 30, 30.2]])
    assert objects.num_crowds == 0


def test_masks_are_those_of_pycocotools(load):
    block = np.zeros((60, 80), np.uint8, order='F')
    block[5:9, 20:70] = 1
    text = mask_api.encode(block)['counts'].decode()
    dataset = load(content([
        annotation(1, segmentation=[TRIANGLE, SQUARE]),
        annotation(2, segmentation={'size': [60, 80], 'counts': [65, 50, 10, 40, 4635]}),
        annotation(3, segmentation={'size': [60, 80], 'counts': text})]))
    official = COCO(dataset.annotations_path)
    masks = [rasterise(segmentation, (60, 80)) for segmentation in dataset.objects(0).segmentations]
    for mask, id in zip(masks, (1, 2, 3), strict=True):
        assert (mask == official.annToMask(official.anns[id])).all()
    assert [int(mask.sum()) for mask in masks[1:]] == [90, 200]


def test_polygons_are_arrays_of_points(load):
    (polygons,) = load(content([annotation(1, segmentation=[TRIANGLE, SQUARE])])).objects(0).segmentations
    assert [polygon.tolist() for polygon in polygons] == [
        [[10, 10], [30, 10.5], [10, 30.2]], [[40, 20], [60, 20], [60, 40], [40, 40]]]


def test_changing_objects_does_not_change_the_dataset(load):
    dataset = load(content([annotation(1)]))
    objects = dataset.objects(0)
    objects.labels[:] = 5
    objects.boxes[:] = 0
    objects.segmentations[0][0][:] = 0
    again = dataset.objects(0)
    assert again.labels.tolist() == [0]
    assert again.boxes.tolist() == [[10, 10, 30, 30]]
    assert again.segmentations[0][0].tolist() == [[10, 10], [30, 10.5], [10, 30.2]]


@pytest.mark.parametrize('name', UNUSUAL_ANNOTATIONS)
def test_an_odd_annotation_is_kept(load, name):
    dataset = load(content([annotation(1, **UNUSUAL_ANNOTATIONS[name])]))
    assert len(dataset.objects(0)) == 1 and not dataset.warnings
    record, = dataset.annotations(0)
    assert mask_api.decode(record['segmentation']).shape == (60, 80)


@pytest.mark.parametrize('name', BAD_ANNOTATIONS)
def test_a_bad_annotation_is_left_out_with_a_line(load, name):
    keys, problem = BAD_ANNOTATIONS[name]
    dataset = load(content([annotation(1), annotation(666, **keys), annotation(2, bbox=[1, 1, 2, 2])]))
    assert dataset.objects(0).boxes.tolist() == [[10, 10, 30, 30], [1, 1, 3, 3]]
    (line,) = dataset.warnings
    assert line.startswith(f'{dataset.annotations_path}: annotation 666 ') and '\n' not in line and len(line) < 400
    assert re.search(problem, line)


def test_a_polygon_at_the_limit_is_kept(load):
    dataset = load(content([annotation(1, segmentation=[[-100_000, 0, 100_000, 0, 5, 100_000]])]))
    assert len(dataset.objects(0)) == 1 and not dataset.warnings


def test_ids_of_annotations_are_reported_in_one_line(load):
    dataset = load(content([annotation('a\nb', bbox=[0]), annotation('x' * 1000, bbox=[0])]))
    assert [line.partition('annotation ')[2][:6] for line in dataset.warnings] == ['a\\nb i', "'xxxxx"]
    assert all('\n' not in line and len(line) < 400 for line in dataset.warnings)


def test_kept_annotations_are_as_in_the_file(load):
    given = [annotation(1, bbox=[-1.1, 2.3, 30, 20.7], area=5), annotation(2, iscrowd=1),
             annotation(3, bbox=[0]), annotation(4, area=12.5), annotation(9, image_id=8)]
    dataset = load(content([*given, without(annotation(5), 'area', 'bbox')]))
    kept = list(dataset.annotations(0))
    assert [record['image_id'] for record in dataset.annotations(1)] == [8]
    for record, expected in zip(kept[:3], (given[0], given[1], given[3]), strict=True):
        for key in ('image_id', 'category_id', 'iscrowd', 'bbox', 'area'):
            assert record[key] == expected[key]
    assert kept[3]['area'] == mask_api.area(kept[3]['segmentation']) > 150
    np.testing.assert_allclose(kept[3]['bbox'], [10, 10, 20, 20.2])


@pytest.mark.parametrize('name', ['a\nb.jpg', 'a\0b.jpg', '\ud800.jpg', 'x' * 300 + '.jpg', '', '.'])
def test_file_names_of_every_kind_are_reported_in_one_line(load, tmp_path, name):
    (tmp_path / 'images').mkdir()
    dataset = load(content(images=[image(7, file_name=name)]))
    for read in (dataset.images[0].read, dataset.check_folder):
        with pytest.raises(UserError) as caught:
            read()
        assert not re.search('[\0\n\ud800]', str(caught.value))


@pytest.mark.parametrize('name', ['../secret.jpg', 'sub/../../secret.jpg', '{folder}/secret.jpg', '../' * 3000])
def test_a_file_outside_the_folder_is_refused_unless_it_is_allowed(load, tmp_path, name):
    name = name.replace('{folder}', str(tmp_path))
    with pytest.raises(UserError, match='image 7 is outside the folder of images: .*; correct its file_name, or allow '
                                        'it with --allow_outside'):
        load(content(images=[image(7, file_name=name)]))
    path = tmp_path / 'instances.json'
    dataset = CocoDataset(path, tmp_path / 'images', allow_outside=True)
    assert dataset.images[0].path == tmp_path / 'images' / name


@pytest.mark.parametrize('name', ['7.jpg', 'sub/7.jpg', './7.jpg', 'sub/../7.jpg', '../images/7.jpg', '..7.jpg'])
def test_a_file_inside_the_folder_may_be_named_in_any_way(load, name):
    assert len(load(content(images=[image(7, file_name=name)]))) == 1


def test_a_bad_annotation_without_an_id_is_named_by_its_position(load):
    dataset = load(content([annotation(1), 'junk', without(annotation(2), 'id', 'segmentation')]))
    assert len(dataset.objects(0)) == 1
    assert [re.search(r'no\. \d', line)[0] for line in dataset.warnings] == ['no. 2', 'no. 3']


@pytest.mark.parametrize('name', BAD_FILES)
def test_a_wrong_file_is_refused_with_a_line(load, tmp_path, name):
    bad, problem = BAD_FILES[name]
    with pytest.raises(UserError, match=problem) as caught:
        load(bad)
    assert str(caught.value).startswith(f'{tmp_path / "instances.json"}: ')
    assert '\n' not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match='nowhere.json: cannot be read .*; check the path'):
        CocoDataset(tmp_path / 'nowhere.json', tmp_path)


def test_a_missing_folder_is_named(load, tmp_path):
    with pytest.raises(UserError, match=f'^{tmp_path}/images: no such folder'):
        load(content()).check_folder()


def test_a_folder_of_other_images_is_named_with_an_example(load, tmp_path):
    (tmp_path / 'images').mkdir()
    dataset = load(content())
    with pytest.raises(UserError, match=f'for example {tmp_path}/images/7.jpg'):
        dataset.check_folder()
    (tmp_path / 'images/8.jpg').touch()
    dataset.check_folder()


@pytest.mark.parametrize('content', ['[' * 100_000, '{"images": ' * 50_000])
def test_json_that_is_nested_too_deep(tmp_path, content):
    (tmp_path / 'deep.json').write_text(content)
    with pytest.raises(UserError, match='deep.json: is not JSON'):
        CocoDataset(tmp_path / 'deep.json', tmp_path)


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    with pytest.raises(UserError, match=f'^{tmp_path}: cannot be read .Is a directory.; check the path$'):
        CocoDataset(tmp_path, tmp_path)


def test_names_that_the_system_refuses(tmp_path):
    with pytest.raises(UserError, match='x: cannot be read .File name too long'):
        CocoDataset(tmp_path / ('x' * 300), tmp_path)
