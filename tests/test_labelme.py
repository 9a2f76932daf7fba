import json

import cv2
import numpy as np
import pytest

from data.coco import CocoDataset
from data.labelme import LabelmeError, main, read_labelme, to_coco
from data.masks import rasterise


def shape(label='cat', points=((0, 0), (10, 0), (10, 10)), **more):
    return {'label': label, 'points': [list(point) for point in points], 'shape_type': 'polygon', **more}


@pytest.fixture
def write(tmp_path):
    def write(*shapes, name='one.json', **more):
        cv2.imwrite(str(tmp_path / 'one.png'), np.zeros((40, 60, 3), np.uint8))
        path = tmp_path / name
        path.write_text(json.dumps({'version': '5.0.1', 'shapes': list(shapes), 'imagePath': 'one.png',
                                    'imageHeight': 40, 'imageWidth': 60, **more}))
        return path
    return write


def test_shapes_of_a_group_are_one_object(write):
    _, size, objects, problems = read_labelme(write(shape(group_id=1), shape(group_id=2), shape(group_id=1), shape(),
                                                    shape('dog', group_id=1)))
    assert (size, problems) == ((40, 60), [])
    assert [(label, len(parts)) for label, parts in objects] == [('cat', 2), ('cat', 1), ('cat', 1), ('dog', 1)]


def test_rectangles_and_circles_are_polygons(write):
    _, _, objects, _ = read_labelme(write(shape(points=[(20, 30), (5, 10)], shape_type='rectangle'),
                                          shape(points=[(30, 20), (30, 30)], shape_type='circle')))
    (_, rectangle), (_, circle) = objects
    assert rasterise(rectangle, (40, 60)).sum() == 15 * 20
    assert rasterise(circle, (40, 60)).sum() == pytest.approx(np.pi * 100, rel=0.03)


def test_what_has_no_area_is_left_out_with_a_line(write):
    path = write(shape(points=[(1, 2)], shape_type='point'), shape(points=[(1, 2), (3, 4)], shape_type='line'), shape())
    _, _, objects, problems = read_labelme(path)
    assert len(objects) == 1
    assert problems == [f'{path}: shape 1 is left out: a point of 1 point has no area',
                        f'{path}: shape 2 is left out: a line of 2 points has no area']


def test_the_picture_tells_its_size_where_the_file_does_not(write):
    picture, size, _, _ = read_labelme(write(shape(), imageHeight=None, imagePath='.\\one.png'))
    assert (picture.name, tuple(size)) == ('one.png', (40, 60))


def test_a_picture_that_is_not_there_is_told_and_left_out(write, tmp_path, capsys):
    write(shape())
    path = write(shape(), name='two.json', imagePath='two.png')
    assert main([str(tmp_path), '--out', str(tmp_path / 'out/all.json')]) == 1
    assert capsys.readouterr() == (f'{tmp_path}/out/all.json: 1 picture, 1 object, 1 class\n',
                                   f'{path}: its picture, {tmp_path}/two.png, is not there; put it there, or take the '
                                   'file out of the folder\n')
    dataset = CocoDataset(tmp_path / 'out/all.json', tmp_path)
    assert [picture.path.name for picture in dataset.images] == ['one.png']


@pytest.mark.parametrize('content', ['', '[]', '{}', '[' * 100_000,
                                     '{"shapes": 3, "imagePath": "x", "imageHeight": 1, "imageWidth": 1}',
                                     '{"shapes": [{"label": "x", "points": "y"}], "imagePath": "one.png", '
                                     '"imageHeight": 4, "imageWidth": 4}'])
def test_what_is_no_file_of_labelme_is_refused_in_one_line(tmp_path, content):
    (tmp_path / 'x.json').write_text(content)
    with pytest.raises(LabelmeError, match='is not a file of labelme') as caught:
        read_labelme(tmp_path / 'x.json')
    assert '\n' not in str(caught.value)


def test_a_folder_becomes_annotations_that_can_be_trained_on(write, tmp_path, capsys):
    write(shape(), shape('dog', [(1.5, 2), (20, 2), (20, 30)]))
    for i in range(20):
        write(shape('bird'), name=f'more{i:02d}.json')
    (tmp_path / 'zzz.json').write_text('{}')
    status = main([str(tmp_path), '--out', str(tmp_path / 'out/train.json'), '--val', str(tmp_path / 'out/val.json')])
    out, err = capsys.readouterr()
    assert status == 1
    assert err == f"{tmp_path / 'zzz.json'}: is not a file of labelme (KeyError: 'shapes'); take it out of the folder\n"
    train, val = (CocoDataset(tmp_path / f'out/{name}.json', tmp_path) for name in ('train', 'val'))
    assert (len(train), len(val)) == (18, 3)
    assert train.classes == val.classes and list(train.classes.names) == ['bird', 'cat', 'dog']
    assert not train.warnings and not val.warnings


def test_classes_may_be_chosen_and_ordered(write):
    content, problems = to_coco([write(shape(), shape('dog'))], ['dog', 'horse'])
    assert [one['name'] for one in content['categories']] == ['dog', 'horse']
    assert [one['category_id'] for one in content['annotations']] == [1]
    assert len(problems) == 1 and "an object named 'cat' is left out" in problems[0]
