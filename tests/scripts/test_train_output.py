"""What train.py says: on terminals of several widths, and into a file."""
import re
import subprocess
import sys

import pytest

from tests.helpers import ROOT
from tests.helpers.terminal import run_on_terminal
from tests.helpers.training import training_flags
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
