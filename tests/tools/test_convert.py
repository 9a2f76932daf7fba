import errno
import functools
import json
import os
import subprocess
import sys

import pytest

from data.coco import CocoDataset
from data.coco_file import make_annotations
from data.labelme import read_labelme_files
from model.classes import Classes
from prediction.formats import CocoWriter
from system.command import exit_status
from tests.helpers import ROOT
from tests.helpers.labelme import shape, write_labelme
from tools.convert import main


@pytest.fixture
def write(tmp_path):
    return functools.partial(write_labelme, tmp_path)


@pytest.mark.parametrize('name', ['one\0.png', 'one\ud800.png', 'loop.png', '', '.', 'x' * 5000])
@pytest.mark.parametrize('size', [40, None])
def test_an_image_with_an_impossible_name_is_a_problem_of_its_label_file_alone(write, tmp_path, capsys, name, size):
    (tmp_path / 'loop.png').symlink_to(tmp_path / 'pool.png')
    (tmp_path / 'pool.png').symlink_to(tmp_path / 'loop.png')
    write(shape())
    write(shape(), name='bad.json', imagePath=name, imageHeight=size)
    assert main([str(tmp_path), '--out', str(tmp_path / 'out/all.json')]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f'{tmp_path}/out/all.json: 1 image, 1 object, 1 class\n')
    assert err.count('\n') == 1 and err.startswith(f'{tmp_path}/')


def test_a_label_file_that_is_not_a_regular_file_is_reported_and_not_waited_for(write, tmp_path, capsys):
    write(shape())
    os.mkfifo(tmp_path / 'pipe.json')
    (tmp_path / 'folder.json').mkdir()
    (tmp_path / 'loop.json').symlink_to(tmp_path / 'loop.json')
    assert main([str(tmp_path), '--out', str(tmp_path / 'out/all.json')]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(': ')[1].split(',')[0].split(' (')[0] for line in lines] == ['is a folder', 'is a folder',
                                                                                    'cannot be read']


def test_a_label_file_is_not_overwritten(write, tmp_path, capsys):
    path = write(shape())
    before = path.read_bytes()
    (tmp_path / 'link.json').symlink_to(path)
    for flags in (['--out', path], ['--out', tmp_path / 'out.json', '--val', tmp_path / 'link.json']):
        assert exit_status(main, [str(tmp_path), *map(str, flags)]) == 2
        out, err = capsys.readouterr()
        assert not out and err.startswith(f'tools.convert: error: {flags[-1]}: is an input, {tmp_path}/')
        assert err.endswith('.json, and would be overwritten; name another output\n')
    assert path.read_bytes() == before and not (tmp_path / 'out.json').exists()


def test_out_and_val_must_be_two_files(write, tmp_path, capsys):
    write(shape())
    with pytest.raises(SystemExit, match='2'):
        main([str(tmp_path), '--out', str(tmp_path / 'a.json'), '--val', str(tmp_path / 'new/../a.json')])
    assert '--out and --val must be two different files' in capsys.readouterr().err
    assert not (tmp_path / 'a.json').exists()


def test_annotation_files_of_an_earlier_run_are_skipped(write, tmp_path, capsys):
    write(shape())
    with CocoWriter(tmp_path / 'found.json', Classes(('cat',), (1,)), as_polygons=True):
        pass  # as demo.py writes it
    flags = [str(tmp_path), '--out', str(tmp_path / 'train.json'), '--val', str(tmp_path / 'val.json')]
    assert main(flags) == main(flags) == main([*flags[:2], str(tmp_path / 'all.json')]) == 0
    assert capsys.readouterr().err == ''
    assert main([str(tmp_path), '--out', str(tmp_path / 'train.json')]) == 0


def test_a_full_disk_is_reported_with_the_file_being_written(write, tmp_path, capsys, monkeypatch):
    write(shape())

    def dump(content, file):
        raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(json, 'dump', dump)
    assert exit_status(main, [str(tmp_path), '--out', str(tmp_path / 'new/a.json')]) == 2
    assert capsys.readouterr().err == (f'tools.convert: error: {tmp_path}/new/a.json: No space left on device; check '
                                       'the path, its permissions and the room on the disk\n')
    assert list((tmp_path / 'new').iterdir()) == []


def test_a_closed_output_pipe_is_no_error(write, tmp_path):
    write(shape())
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, '-m', 'tools.convert', tmp_path, '--out', tmp_path / 'new/a.json'],
                          cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, '')
    assert len(CocoDataset(tmp_path / 'new/a.json', tmp_path)) == 1


def test_a_missing_image_is_reported_and_left_out(write, tmp_path, capsys):
    write(shape())
    path = write(shape(), name='two.json', imagePath='two.png')
    assert main([str(tmp_path), '--out', str(tmp_path / 'out/all.json')]) == 1
    assert capsys.readouterr().err == (f'{path}: its image, {tmp_path}/two.png, is not there; put it there, name its '
                                       'folder with --images, or take the file out of the folder\n')
    dataset = CocoDataset(tmp_path / 'out/all.json', tmp_path)
    assert [image.path.name for image in dataset.images] == ['one.png']


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


def test_classes_may_be_chosen_and_ordered(write, tmp_path):
    labels = read_labelme_files([write(shape(), shape('dog'))], tmp_path)
    annotations, _ = make_annotations(labels.splits[''], ['dog', 'horse'], labels.left_out)
    assert [category['name'] for category in annotations['categories']] == ['dog', 'horse']
    assert [record['category_id'] for record in annotations['annotations']] == [1]
    assert len(labels.left_out) == 1 and "an object of class 'cat' is left out" in str(labels.left_out[0])
