import errno
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from data.augmentation import choose_augmentation
from data.coco import CocoDataset
from data.images import read_image
from data.loader import Batches
from model.config import preset
from system.command import exit_status
from tests.helpers import ROOT
from tests.helpers.training_log import write_run
from tools.shapes import write_split
from tools.visualize import main
from visualization.plots import draw_samples

IMAGE = ROOT / 'images/test/shapes_2000004.jpg'


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shapes')
    write_split(folder, 'train', 6, width=320, height=240)
    return CocoDataset(folder / 'annotations/instances_train.json', folder / 'train')


def test_samples_are_drawn_with_the_augmentation_that_flags_ask_for(shapes, tmp_path):
    data = [str(shapes.annotations_path), str(shapes.images_folder), '--backbone_name', 'resnet18dcn_half',
            '--input_size', '256', '--number', '2']
    drawn = []
    for number, flags in enumerate((['full'], ['strong'], ['strong', '--mosaic', '1', '--copy_paste', '1'],
                                    ['light'], ['light', '--vertical_flip', 'true', '--quarter_turns', 'true'],
                                    ['light', '--rotation', '10', '--scale_jitter', '1'])):
        out = tmp_path / f'{number}.png'
        assert main(['samples', *data, '--augmentation', *flags, '--out', str(out)]) == 0
        drawn.append(read_image(out))
    assert all(not np.array_equal(one, other) for one, other in itertools.combinations(drawn, 2))
    batches = Batches(shapes, preset('resnet18dcn_half', input_size=256, num_classes=len(shapes.classes) + 1), 1,
                      augmentation=choose_augmentation('strong', {'mosaic': 1.0, 'copy_paste': 1.0}))
    np.testing.assert_array_equal(drawn[2], draw_samples([batches[0], batches[1]], shapes.classes.names))


@pytest.mark.parametrize('loss', ['NaN', 'Infinity', '1e300'])
def test_a_log_without_finite_losses_is_refused(tmp_path, capsys, loss):
    (tmp_path / 'log.jsonl').write_text(f'{{"step": 1, "loss": {loss}}}\n' * 3)
    assert exit_status(main, ['curves', str(tmp_path)]) == 2
    assert capsys.readouterr().err == (f'tools.visualize: error: {tmp_path}/log.jsonl: has no losses in it that are '
                                       'numbers; train some steps first\n')
    assert not (tmp_path / 'curves.png').exists()


def test_the_command_draws_curves(tmp_path):
    write_run(tmp_path, 1, 5, 4.0)
    done = subprocess.run([sys.executable, '-m', 'tools.visualize', 'curves', tmp_path], text=True,
                          cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f'{tmp_path}/curves.png\n', '')
    assert cv2.imread(str(tmp_path / 'curves.png')).shape == (750, 1200, 3)


def test_help_says_where_the_curves_go(capsys):
    with pytest.raises(SystemExit, match='0'):
        main(['curves', '--help'])
    out = ' '.join(capsys.readouterr().out.split())
    assert 'image to write (default: curves.png in that folder)' in out and 'None' not in out


def test_no_folder_is_made_where_nothing_can_be_drawn(tmp_path, capsys):
    assert exit_status(main, ['curves', str(tmp_path / 'nowhere')]) == 2
    flags = ['samples', str(tmp_path / 'none.json'), str(tmp_path), '--out', str(tmp_path / 'new/x.png')]
    assert exit_status(main, flags) == 2
    assert list(tmp_path.iterdir()) == []


def test_every_error_is_one_line(tmp_path, capsys):
    assert exit_status(main, ['curves', str(tmp_path)]) == 2
    assert capsys.readouterr().err == (f'tools.visualize: error: {tmp_path}/log.jsonl: cannot be read: No such file or '
                                       'directory; name the folder that train.py saves in\n')
    write_run(tmp_path, 1, 5, 4.0)
    capsys.readouterr()
    (tmp_path / 'folder.png').mkdir()
    for out in ('log.jsonl/x.png', 'folder.png'):
        assert exit_status(main, ['curves', str(tmp_path), '--out', str(tmp_path / out)]) == 2
        assert capsys.readouterr().err.count('\n') == 1
    for out in ('curves.xyz', 'folder', 'curves.webp', '.png'):
        assert exit_status(main, ['curves', str(tmp_path), '--out', str(tmp_path / 'new' / out)]) == 2
        assert capsys.readouterr().err == (
            f"tools.visualize: error: {tmp_path}/new/{out}: an image cannot be written as '{Path(out).suffix}'; name "
            'one that ends in .png, .jpg, .jpeg, .pdf or .svg\n')
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('suffix', ['.PNG', '.jpg', '.jpeg', '.pdf', '.svg'])
def test_curves_are_written_in_the_format_of_the_suffix(tmp_path, capsys, suffix):
    write_run(tmp_path, 1, 5, 4.0)
    assert main(['curves', str(tmp_path), '--out', str(tmp_path / f'x{suffix}')]) == 0
    begins = {'.PNG': b'\x89PNG', '.jpg': b'\xff\xd8', '.jpeg': b'\xff\xd8', '.pdf': b'%PDF-', '.svg': b'<?xml'}
    assert (tmp_path / f'x{suffix}').read_bytes().startswith(begins[suffix])


def test_a_full_disk_is_reported_and_leaves_the_earlier_image(tmp_path, capsys, monkeypatch):
    write_run(tmp_path, 1, 5, 4.0)
    (tmp_path / 'curves.png').write_bytes(b'before')
    capsys.readouterr()

    def savefig(figure, file, format):
        raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(Figure, 'savefig', savefig)
    assert exit_status(main, ['curves', str(tmp_path)]) == 2
    assert capsys.readouterr().err == (f'tools.visualize: error: {tmp_path}/curves.png: No space left on device; '
                                       'check the path, its permissions and the room on the disk\n')
    assert (tmp_path / 'curves.png').read_bytes() == b'before'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['curves.png', 'log.jsonl']


def test_a_closed_output_pipe_is_no_error(tmp_path):
    write_run(tmp_path, 1, 5, 4.0)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, '-m', 'tools.visualize', 'curves', tmp_path], text=True,
                          cwd=ROOT, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, '')
    assert cv2.imread(str(tmp_path / 'curves.png')) is not None


@pytest.mark.parametrize(('flag', 'value', 'reason'), [
    ('--number', '0', 'is not 1 or more'), ('--number', '-3', 'is not 1 or more'),
    ('--number', '1001', 'is more than 1000'), ('--number', 'x', 'is not a whole number'),
    ('--seed', '-1', 'is not 0 or more'), ('--seed', '1' + '0' * 400, 'is more than 1000000000')])
def test_numbers_out_of_range_are_refused_with_their_flag(capsys, flag, value, reason):
    with pytest.raises(SystemExit, match='2'):
        main(['samples', 'a.json', 'folder', flag, value])
    line = capsys.readouterr().err.splitlines()[-1]
    assert f'error: argument {flag}: ' in line and value in line and line.endswith(reason)


def test_a_dataset_without_objects_and_an_image_without_any_are_refused(shapes, tmp_path, capsys):
    path = tmp_path / 'a.json'
    content = json.loads(shapes.annotations_path.read_text())
    path.write_text(json.dumps({**content, 'annotations': []}))
    assert exit_status(main, ['anchors', str(path), str(tmp_path), '--out', str(tmp_path / 'x.png')]) == 2
    assert capsys.readouterr().err == f'tools.visualize: error: {path}: has no objects to compare with anchors\n'
    cv2.imwrite(str(tmp_path / 'grey.png'), np.full((320, 320, 3), 127, np.uint8))
    assert exit_status(main, ['prototypes', str(tmp_path / 'grey.png'), '--out', str(tmp_path / 'x.png')]) == 2
    assert capsys.readouterr().err == (f'tools.visualize: error: {tmp_path}/grey.png: no object was found in it; name '
                                       'another image\n')


def test_the_commands_draw_samples_anchors_and_prototypes(shapes, tmp_path, capsys):
    data = [str(shapes.annotations_path), str(shapes.images_folder), '--backbone_name', 'resnet18dcn_half',
            '--input_size', '256']
    for flags in (['samples', *data, '--number', '2'], ['anchors', *data], ['prototypes', str(IMAGE)]):
        out = tmp_path / 'new' / f'{flags[0]}.png'
        assert main([*flags, '--out', str(out)]) == 0
        assert capsys.readouterr().out == f'{out}\n'
        assert read_image(out).shape[0] > 200
    assert exit_status(main, ['samples', *data, '--out', str(tmp_path / 'x.pdf')]) == 2
    assert capsys.readouterr().err == (
        f"tools.visualize: error: {tmp_path / 'x.pdf'}: an image cannot be written as '.pdf'; name one that ends in "
        '.png, .jpg or .jpeg\n')
    assert exit_status(main, ['anchors', *data[:2], '--input_size', '9', '--out', str(tmp_path / 'x.png')]) == 2
    assert capsys.readouterr().err == (f'tools.visualize: error: {data[0]}, --input_size=9: input size 9 is outside '
                                       '256 to 1100\n')
    assert exit_status(main, ['samples', str(tmp_path / 'none'), str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f'tools.visualize: error: {tmp_path / "none"}: cannot be read')
