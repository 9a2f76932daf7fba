"""Several processes that train one network, on a CPU through gloo."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from networks import SMALL

from data.shapes import write_dataset
from model.checkpoint import load_checkpoint

TESTS = Path(__file__).parent
LAUNCH = ('-m', 'paddle.distributed.launch', '--nproc_per_node', '2', '--backend', 'gloo')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    write_dataset(folder, train=4, val=0, test=0, width=160, height=120)
    return folder


def python(tmp_path, *arguments):
    environment = {**os.environ, 'PYTHONPATH': str(TESTS.parent), 'OMP_NUM_THREADS': '1'}
    process = subprocess.run([sys.executable, *map(str, arguments)], cwd=tmp_path, env=environment,
                             capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout + process.stderr


def test_two_processes_take_the_step_of_one_with_twice_the_batch(folder, tmp_path):
    python(tmp_path, TESTS / 'parallel_step.py', folder, 'alone.npz', 4)
    python(tmp_path, *LAUNCH, TESTS / 'parallel_step.py', folder, 'together.npz', 2)
    with np.load(tmp_path / 'alone.npz') as alone, np.load(tmp_path / 'together.npz') as together:
        assert set(alone) == set(together) and len(alone.files) > 50
        largest = max(np.abs(alone[name]).max() for name in alone)
        for name in alone:
            scale = max(np.abs(alone[name]).max(), 1e-3 * largest)
            np.testing.assert_allclose(together[name], alone[name], atol=3e-5 * scale, err_msg=name)


def test_only_the_first_process_writes_and_tells(folder, tmp_path):
    printed = python(tmp_path, *LAUNCH, TESTS.parent / 'train.py', '--pattern=0', '--steps=2', '--batch_size=1',
                     f'--backbone_name={SMALL["backbone_name"]}', '--input_size=256', '--num_workers=1',
                     '--log_interval=1', '--save_dir=out', f'--train_images_path={folder / "train"}',
                     f'--train_anno_path={folder / "annotations/instances_train.json"}')
    checkpoint, = (tmp_path / 'out').iterdir()
    assert load_checkpoint(checkpoint).step == 2
    assert checkpoint.name.startswith('step0000002-ep001-')  # two steps of two pictures are an epoch of four
    assert 'step 2/2 ' in printed
    second = next((tmp_path / 'log').glob('workerlog.1')).read_text()
    assert 'step 2/2 ' not in second and 'Traceback' not in second
