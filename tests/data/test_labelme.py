import errno
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from data.coco import CocoDataset
from data.labelme import main, read_labelme, to_coco
from data.masks import rasterise
from model.classes import Classes
from prediction.formats import coco_file
from system.errors import UserError
from tests.helpers import ROOT


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


@pytest.mark.parametrize('point', [(10 ** 400, 0), (1e9, 0), (0, -100_001), (float('nan'), 0), (0, float('inf'))])
@pytest.mark.parametrize('kind', ['polygon', 'rectangle', 'circle'])
def test_what_is_far_from_any_image_is_left_out_with_a_line(write, point, kind):
    points = [(0, 0), point, (10, 10)] if kind == 'polygon' else [(0, 0), point]
    path = write(shape(points=points, shape_type=kind), shape())
    _, _, objects, problems = read_labelme(path)
    assert len(objects) == 1
    assert problems == [f'{path}: shape 1 is left out: it has a point far from any image']


def test_a_circle_that_goes_far_is_left_out_though_its_points_do_not(write):
    path = write(shape(points=[(0, 0), (9e4, 9e4)], shape_type='circle'))
    assert read_labelme(path)[3] == [f'{path}: shape 1 is left out: it has a point far from any image']


@pytest.mark.parametrize('name', ['one\0.png', 'one\ud800.png', 'loop.png', '', '.', 'x' * 5000])
@pytest.mark.parametrize('size', [40, None])
def test_a_image_of_a_name_that_is_none_is_a_problem_of_its_file_alone(write, tmp_path, capsys, name, size):
    (tmp_path / 'loop.png').symlink_to(tmp_path / 'pool.png')
    (tmp_path / 'pool.png').symlink_to(tmp_path / 'loop.png')
    write(shape())
    write(shape(), name='bad.json', imagePath=name, imageHeight=size)
    assert main([str(tmp_path), '--out', str(tmp_path / 'out/all.json')]) == 1
    out, err = capsys.readouterr()
    assert out == f'{tmp_path}/out/all.json: 1 image, 1 object, 1 class\n'
    assert err.count('\n') == 1 and err.startswith(f'{tmp_path}/')


def test_a_size_that_no_image_has_is_a_problem_of_its_file(write):
    with pytest.raises(UserError, match='says that its image has more than 536 million pixels'):
        read_labelme(write(shape(), imageHeight=10 ** 400))


def test_what_is_no_file_is_told_and_not_waited_for(write, tmp_path, capsys):
    write(shape())
    os.mkfifo(tmp_path / 'pipe.json')
    (tmp_path / 'folder.json').mkdir()
    (tmp_path / 'loop.json').symlink_to(tmp_path / 'loop.json')
    assert main([str(tmp_path), '--out', str(tmp_path / 'out/all.json')]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(': ')[1].split(',')[0].split(' (')[0] for line in lines] == ['is a folder', 'cannot be read',
                                                                                    'is a folder']


def test_a_file_that_is_read_is_not_written_over(write, tmp_path, capsys):
    path = write(shape())
    before = path.read_bytes()
    (tmp_path / 'link.json').symlink_to(path)
    for flags in (['--out', path], ['--out', tmp_path / 'out.json', '--val', tmp_path / 'link.json']):
        assert main([str(tmp_path), *map(str, flags)]) == 2
        assert capsys.readouterr() == ('', f'data.labelme: error: {flags[-1]}: is one of the files to read; name '
                                           'another one to write\n')
    assert path.read_bytes() == before and not (tmp_path / 'out.json').exists()


def test_both_annotation_files_are_not_to_be_one(write, tmp_path, capsys):
    write(shape())
    with pytest.raises(SystemExit, match='2'):
        main([str(tmp_path), '--out', str(tmp_path / 'a.json'), '--val', str(tmp_path / 'new/../a.json')])
    assert '--out and --val are to be two files' in capsys.readouterr().err
    assert not (tmp_path / 'a.json').exists()


def test_annotations_of_an_earlier_run_are_no_label_files(write, tmp_path, capsys):
    write(shape())
    with coco_file(tmp_path / 'found.json', Classes(['cat'], [1]), True):
        pass  # as demo.py writes it
    flags = [str(tmp_path), '--out', str(tmp_path / 'train.json'), '--val', str(tmp_path / 'val.json')]
    assert main(flags) == main(flags) == main([*flags[:2], str(tmp_path / 'all.json')]) == 0
    assert capsys.readouterr().err == ''
    assert main([str(tmp_path), '--out', str(tmp_path / 'train.json')]) == 0


def test_a_full_disk_is_told_of_the_file_that_it_has_no_room_for(write, tmp_path, capsys, monkeypatch):
    write(shape())

    def dump(content, file):
        raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(json, 'dump', dump)
    assert main([str(tmp_path), '--out', str(tmp_path / 'new/a.json')]) == 2
    assert capsys.readouterr().err == (f'data.labelme: error: {tmp_path}/new/a.json: cannot be written (No space left '
                                       'on device)\n')
    assert list((tmp_path / 'new').iterdir()) == []


def test_a_reader_that_has_seen_enough_is_no_error(write, tmp_path):
    write(shape())
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, '-m', 'data.labelme', tmp_path, '--out', tmp_path / 'new/a.json'],
                          cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, '')
    assert len(CocoDataset(tmp_path / 'new/a.json', tmp_path)) == 1


def test_the_image_tells_its_size_where_the_file_does_not(write):
    image, size, _, _ = read_labelme(write(shape(), imageHeight=None, imagePath='.\\one.png'))
    assert (image.name, tuple(size)) == ('one.png', (40, 60))


def test_a_image_that_is_not_there_is_told_and_left_out(write, tmp_path, capsys):
    write(shape())
    path = write(shape(), name='two.json', imagePath='two.png')
    assert main([str(tmp_path), '--out', str(tmp_path / 'out/all.json')]) == 1
    assert capsys.readouterr() == (f'{tmp_path}/out/all.json: 1 image, 1 object, 1 class\n',
                                   f'{path}: its image, {tmp_path}/two.png, is not there; put it there, or take the '
                                   'file out of the folder\n')
    dataset = CocoDataset(tmp_path / 'out/all.json', tmp_path)
    assert [image.path.name for image in dataset.images] == ['one.png']


@pytest.mark.parametrize('content', ['', '[]', '{}', '[' * 100_000,
                                     '{"shapes": 3, "imagePath": "x", "imageHeight": 1, "imageWidth": 1}',
                                     '{"shapes": [{"label": "x", "points": "y"}], "imagePath": "one.png", '
                                     '"imageHeight": 4, "imageWidth": 4}'])
def test_what_is_no_file_of_labelme_is_refused_in_one_line(tmp_path, content):
    (tmp_path / 'x.json').write_text(content)
    with pytest.raises(UserError, match='is not a file of labelme') as caught:
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
