"""What train.py says: on terminals of several widths, and into a file."""
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.terminal import run_on_terminal
from tests.helpers.training_flags import training_flags
from tools.shapes import write_dataset

COMMAND = (sys.executable, ROOT / 'train.py')
LOSSES = ('box', 'mask', 'class', 'mask_iou', 'semantic')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    write_dataset(folder, train=8, val=3, test=0, width=160, height=120)
    return folder


def steps_in(lines):
    """The lines of progress, and each number that was drawn over another once."""
    return list(dict.fromkeys(line for line in lines if line.startswith('step ')))


@pytest.mark.parametrize('columns', [60, 80, 150])
def test_the_line_of_progress_fits_the_terminal(folder, tmp_path, columns):
    with open(tmp_path / 'stdout', 'w') as stdout:  # whose width is nobody's business
        status, lines = run_on_terminal(columns, *COMMAND, *training_flags(
            folder, initial_step=899_990, steps=900_000, save_dir=tmp_path / 'out'), stdout=stdout)
    assert status == 0, lines
    first, *steps = steps_in(lines)
    assert first.startswith('step 899991/900000  100%  loss ') and len(steps) >= 4
    for line in steps:
        assert re.match(r'step \d+/900000  100%  \d\d:\d\d left  loss \d+\.\d{3}(  |$)', line)
        assert len(line) < columns
        shown = re.findall(r'  ([a-z_]+) \d+\.\d{3}(?=  |$)', line)
        assert shown == ['loss', *LOSSES][:len(shown)]
        assert len(shown) == 6 if columns == 150 else 1 <= len(shown) <= 4
        assert ('  epoch ' in line) == (columns == 150)


def test_a_run_of_minutes_says_on_a_terminal_how_much_of_them_is_used(folder, tmp_path):
    status, lines = run_on_terminal(60, *COMMAND, *training_flags(folder, minutes=0.03, save_dir=tmp_path))
    assert status == 0, lines
    steps = steps_in(lines)
    assert steps and all(re.match(r'step \d+  \d+%  00:0\d of 00:01  loss \d', line) for line in steps)


def test_a_file_gets_a_line_now_and_then(folder, tmp_path):
    """The first step shows that the run works; then there is one every --log_interval."""
    done = subprocess.run([*COMMAND, *training_flags(folder, steps=7, log_interval=3, eval=True, save_dir=tmp_path)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = done.stdout.decode()
    assert done.returncode == 0, text
    assert '\r' not in text and '\x1b' not in text
    steps = [line for line in text.splitlines() if line.startswith('step ')]
    assert [line.split()[1] for line in steps] == ['1/7', '3/7', '6/7', '7/7']
    assert all(f' {name} ' in line for line in steps for name in LOSSES)
    assert steps[-1].endswith(' s waiting for data)')


def output_of(folder, **more):
    """Exit status and lines of a run."""
    done = subprocess.run([*COMMAND, *training_flags(folder, **more)], capture_output=True, text=True)
    assert 'Traceback' not in done.stderr, done.stderr
    return done.returncode, done.stderr.splitlines()


def stopped(process, number):
    """Lines of a run that is sent a signal in its second step of the process."""
    lines = []
    for line in process.stderr:
        lines.append(line.rstrip('\n'))
        if sum(line.startswith('step ') for line in lines) == 2:
            process.send_signal(number)
            break
    lines += process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 128 + number, lines
    return lines


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_prints_the_command_that_goes_on(folder, tmp_path, number):
    """As it stands, in a shell; and that one prints it in its turn."""
    here = tmp_path / "it's mine"
    shutil.copytree(folder, here / 'my data')
    flags = training_flags(here / 'my data', steps=1000, lr=1e-3, save_dir=here / 'runs/a b', eval=True, patience=7)
    lines = stopped(subprocess.Popen([*COMMAND, *flags], stderr=subprocess.PIPE, text=True, cwd=here), number)
    assert lines[-2] == 'to go on:' and lines[-1].count(' --pattern=1 ') == 1
    process = subprocess.Popen(['sh', '-c', f'exec {lines[-1]}'], stderr=subprocess.PIPE, text=True, cwd=here)
    again = stopped(process, number)
    step = next(int(match[1]) for line in lines if (match := re.search(r'/step(\d+)-', line)))
    assert f'resumed at step {step} of 1000' in again
    assert [line for line in again if line.startswith('step ')][0].startswith(f'step {step + 1}/1000 ')
    ours, theirs = lines[-1].split('--save_dir')[1], again[-1].split('--save_dir')[1]
    assert ours == theirs and '--eval' in ours and '--patience=7' in ours and '--lr' not in ours


def test_the_first_lines_say_what_the_run_is(folder, tmp_path):
    status, lines = output_of(folder, steps=2, save_dir=tmp_path / 'a')
    assert status == 0, lines
    assert lines[:3] == [
        f'{folder}/annotations/instances_train.json: 8 images, 8 classes',
        'resnet18dcn_half at 256 pixels on cpu; random weights',
        'recipe published: 2 steps of 2 images a step, SGD at 0.00025 (steps), full augmentation, ohem_loss, smooth_l1']
    path, = (tmp_path / 'a').glob('step*.pd')
    status, lines = output_of(folder, pattern=1, model_path=path, steps=3, save_dir=tmp_path / 'a')
    assert status == 0, lines
    assert lines[1].endswith(f'; weights from {path}')
    assert lines[2].startswith('recipe of the checkpoint: 3 steps of ')
    assert lines[3] == 'resumed at step 2 of 3'


def test_a_new_run_takes_no_folder_of_another(folder, tmp_path):
    out = tmp_path / 'a'
    assert output_of(folder, steps=1, save_dir=out)[0] == 0
    path, = out.glob('step*.pd')
    before = {file: file.read_bytes() for file in out.rglob('*') if file.is_file()}
    for more in ({}, dict(backbone_weights=path)):
        status, lines = output_of(folder, steps=1, save_dir=out, **more)
        assert status == 2
        assert lines[-1] == f'train.py: error: {out}: holds another run ({path.name}); name another folder: --save_dir'
    assert {file: file.read_bytes() for file in out.rglob('*') if file.is_file()} == before
    (tmp_path / 'log').mkdir()
    (tmp_path / 'log/log.jsonl').write_text('')
    status, lines = output_of(folder, pattern=1, model_path=path, steps=2, save_dir=tmp_path / 'log')
    assert status == 2 and lines[-1].endswith('/log: holds another run (log.jsonl); name another folder: --save_dir')
    shutil.copytree(path, tmp_path / 'copy.pd')  # of this run, wherever it lies
    status, lines = output_of(folder, pattern=1, model_path=tmp_path / 'copy.pd', steps=2, save_dir=out)
    assert status == 0, lines


def test_in_the_default_folder_a_new_run_says_that_there_is_another(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert output_of(folder, steps=1)[0] == 0
    first, = Path('weights').glob('step*.pd')
    os.rename(first, first.with_name('step0000009-ep002-loss5.000.pd'))
    status, lines = output_of(folder, steps=1, seed=1)
    assert status == 0, lines
    assert sum(line.startswith('weights: holds another run (step0000009-ep002-loss5.000.pd), ') and
               line.endswith('name a folder for each run: --save_dir') for line in lines) == 1
    assert len([*Path('weights').glob('step*.pd')]) == 2
