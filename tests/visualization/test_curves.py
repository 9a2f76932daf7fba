import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from system.errors import UserError
from tests.helpers import ROOT
from training.log import Log
from visualization import drawing as visualize
from visualization.curves import draw_curves, read_log, smooth
from visualization.drawing import main


def write_run(folder, first, last, loss, ap_at=()):
    """Go on with a run's log as train.py does."""
    log = Log(folder / 'log.jsonl', first - 1, last, 1)
    for step in range(first, last + 1):
        log.step(step, 0, 1e-3, {'box': loss / 2, 'mask': loss / 2})
        if step in ap_at:
            log.write(step, box_ap=0.3, mask_ap=0.2)
    log.close()


def test_steps_that_were_repeated_count_once(tmp_path):
    write_run(tmp_path, 1, 6, 4.0, ap_at=[2, 6])
    write_run(tmp_path, 4, 5, 3.0, ap_at=[5])  # from a checkpoint of step 3
    steps = read_log(tmp_path / 'log.jsonl')
    assert {step: numbers['loss'] for step, numbers in steps.items()} == {1: 4, 2: 4, 3: 4, 4: 3, 5: 3}
    assert [step for step, numbers in steps.items() if 'mask_ap' in numbers] == [2, 5]
    assert steps[5]['box'] == 1.5


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path):
    write_run(tmp_path, 1, 3, 4.0)
    file = tmp_path / 'log.jsonl'
    file.write_text(file.read_text()[:-10] + '\n7\n[]\n{"epoch": 1}\n{"step": "x"}\n')
    assert list(read_log(file)) == [1, 2]


@pytest.mark.parametrize('content', ['', '{"step": 3, "mask_ap": 0.1, "box_ap": 0.2}', '\0\n'])
def test_a_log_without_losses_is_refused(tmp_path, content):
    (tmp_path / 'log.jsonl').write_text(content)
    with pytest.raises(UserError, match='has no losses in it'):
        read_log(tmp_path / 'log.jsonl')


@pytest.mark.parametrize('line', [b'[' * 100_000, b'{"step": 2, "loss": 1' + b'0' * 400 + b'}', b'\xff\xfe',
                                  b'{"step": NaN}', b'{"step": Infinity}', b'{"step": 1e300}', b'{"step": 2'])
def test_a_damaged_line_counts_for_nothing(tmp_path, line):
    write_run(tmp_path, 1, 3, 4.0)
    file = tmp_path / 'log.jsonl'
    file.write_bytes(file.read_bytes() + line + b'\n{"step": 4, "loss": NaN, "box": 1e300}\n')
    steps = read_log(file)
    assert list(steps) == [1, 2, 3, 4]
    draw_curves(steps, 'a $damaged_ run')


@pytest.mark.parametrize('loss', ['NaN', 'Infinity', '1e300'])
def test_a_log_of_losses_that_are_no_numbers_is_refused(tmp_path, capsys, loss):
    (tmp_path / 'log.jsonl').write_text(f'{{"step": 1, "loss": {loss}}}\n' * 3)
    assert main(['curves', str(tmp_path)]) == 2
    assert capsys.readouterr().err == (f'visualization.drawing: error: {tmp_path}/log.jsonl: has no losses in it that are '
                                       'numbers\n')
    assert not (tmp_path / 'curves.png').exists()


def test_a_pipe_for_a_log_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'log.jsonl')
    with pytest.raises(UserError, match='cannot be read: not a file'):
        read_log(tmp_path / 'log.jsonl')


def test_curves_show_the_log(tmp_path):
    write_run(tmp_path, 1, 40, 4.0, ap_at=[20, 40])
    figure = draw_curves(read_log(tmp_path / 'log.jsonl'), 'a run')
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == ['loss', 'its parts, smoothed', 'AP on the validation images', 'learning rate',
                            'seconds a step']
    _, mean = panels['loss'].lines
    np.testing.assert_allclose(mean.get_xydata(), [[step, 4.0] for step in range(1, 41)])
    assert [text.get_text() for text in panels['its parts, smoothed'].get_legend().texts] == ['box', 'mask']
    box, mask = panels['AP on the validation images'].lines
    np.testing.assert_array_equal(box.get_xydata(), [[20, 0.3], [40, 0.3]])
    np.testing.assert_array_equal(mask.get_xydata(), [[20, 0.2], [40, 0.2]])
    assert panels['AP on the validation images'].get_ylim() == pytest.approx((0, 0.33))


@pytest.mark.parametrize(('steps', 'title', 'marker'), [(1, 'its parts', 'o'), (2, 'its parts', 'o'),
                                                        (3, 'its parts', 'None'), (39, 'its parts', 'None'),
                                                        (40, 'its parts, smoothed', 'None')])
def test_few_points_are_dots_and_nothing_is_called_smoothed_that_is_not(tmp_path, steps, title, marker):
    write_run(tmp_path, 1, steps, 4.0)
    loss, parts, rate, time = draw_curves(read_log(tmp_path / 'log.jsonl'), 'a run').axes
    assert parts.get_title() == title
    for axes in (loss, parts, rate, time):
        assert {line.get_marker() for line in axes.lines} == {marker}
        assert all(len(line.get_xdata()) == steps for line in axes.lines)


def test_smoothing_takes_means_of_a_twentieth():
    values = np.random.default_rng(0).random(80)
    expected = [values[max(i - 2, 0):i + 3].mean() for i in range(80)]
    np.testing.assert_allclose(smooth(values), expected)
    np.testing.assert_allclose(smooth(values[:5]), values[:5])


def test_a_program_draws_them(tmp_path):
    write_run(tmp_path, 1, 5, 4.0)
    done = subprocess.run([sys.executable, '-m', 'visualization.drawing', 'curves', tmp_path], text=True,
                          cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f'{tmp_path}/curves.png\n', '')
    assert cv2.imread(str(tmp_path / 'curves.png')).shape == (750, 1200, 3)


def test_help_tells_where_the_curves_go(capsys):
    with pytest.raises(SystemExit, match='0'):
        main(['curves', '--help'])
    out = ' '.join(capsys.readouterr().out.split())
    assert 'image to write (default: curves.png in that folder)' in out and 'None' not in out


def test_no_folder_is_made_where_nothing_can_be_drawn(tmp_path, capsys):
    assert main(['curves', str(tmp_path / 'nowhere')]) == 2
    assert main(['samples', str(tmp_path / 'none.json'), str(tmp_path), '--out', str(tmp_path / 'new/x.png')]) == 2
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_drawn_is_one_line(tmp_path, capsys):
    assert main(['curves', str(tmp_path)]) == 2
    assert capsys.readouterr().err == (f'visualization.drawing: error: {tmp_path}/log.jsonl: cannot be read: No such file or '
                                       'directory; name the folder that train.py saves in\n')
    write_run(tmp_path, 1, 5, 4.0)
    capsys.readouterr()
    (tmp_path / 'folder.png').mkdir()
    for out in ('log.jsonl/x.png', 'folder.png'):
        assert main(['curves', str(tmp_path), '--out', str(tmp_path / out)]) == 2
        assert capsys.readouterr().err.count('\n') == 1
    for out in ('curves.xyz', 'folder', 'curves.webp', '.png'):
        assert main(['curves', str(tmp_path), '--out', str(tmp_path / 'new' / out)]) == 2
        assert capsys.readouterr().err == (
            f"visualization.drawing: error: {tmp_path}/new/{out}: an image is not written as '{Path(out).suffix}'; name one "
            'that ends in .png, .jpg, .jpeg, .pdf or .svg\n')
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('suffix', ['.PNG', '.jpg', '.jpeg', '.pdf', '.svg'])
def test_curves_are_written_in_the_form_of_their_suffix(tmp_path, capsys, suffix):
    write_run(tmp_path, 1, 5, 4.0)
    assert main(['curves', str(tmp_path), '--out', str(tmp_path / f'x{suffix}')]) == 0
    begins = {'.PNG': b'\x89PNG', '.jpg': b'\xff\xd8', '.jpeg': b'\xff\xd8', '.pdf': b'%PDF-', '.svg': b'<?xml'}
    assert (tmp_path / f'x{suffix}').read_bytes().startswith(begins[suffix])


def test_a_full_disk_is_told_and_leaves_the_image_of_before(tmp_path, capsys, monkeypatch):
    write_run(tmp_path, 1, 5, 4.0)
    (tmp_path / 'curves.png').write_bytes(b'before')
    capsys.readouterr()

    @contextlib.contextmanager
    def full(path, mode):
        raise OSError(errno.ENOSPC, 'No space left on device')
        yield
    monkeypatch.setattr(visualize, 'replacing', full)
    assert main(['curves', str(tmp_path)]) == 2
    assert capsys.readouterr().err == (f'visualization.drawing: error: {tmp_path}/curves.png: cannot be written (No space '
                                       'left on device)\n')
    assert (tmp_path / 'curves.png').read_bytes() == b'before'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['curves.png', 'log.jsonl']


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    write_run(tmp_path, 1, 5, 4.0)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, '-m', 'visualization.drawing', 'curves', tmp_path], text=True,
                          cwd=ROOT, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, '')
    assert cv2.imread(str(tmp_path / 'curves.png')) is not None
