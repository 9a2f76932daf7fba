"""What the scripts make of Paddle's errors of a GPU, which are raised here without one."""
import os
import sys

import cv2
import numpy as np
import pytest

from model.checkpoint import load_checkpoint
from tests.helpers import ROOT, run
from tools.shapes import write_dataset

CHECKPOINT = ROOT / 'weights/shapes.pd'
EXPECTED = {
    'cuda_2.6': 'ExternalError: CUDA error(700), an illegal memory access was encountered; python -m tools.doctor ',
    'cuda_3': 'ExternalError: CUDA error(2), out of memory; lower --batch_size or --input_size',
    'memory': 'ResourceExhaustedError: Out of memory error on GPU 0. Cannot allocate 3.125000GB memory on GPU 0, '
              '7.500000GB memory has been allocated and available memory is only 117.750000MB; lower --batch_size',
    'cudnn': 'PreconditionNotMetError: Cannot load cudnn shared library. Cannot invoke method cudnnGetVersion; Paddle ',
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    write_dataset(folder, train=4, val=2, test=0, width=160, height=120)
    return folder


def fail(error: str, script: str, *flags: object, after: str = '') -> str:
    """Run a script in which Paddle raises an error. Returns the one line of its standard error that says so."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'FAIL': error, 'FAIL_AFTER': after}
    done = run(sys.executable, '-m', 'tests.helpers.paddle_errors', ROOT / script, *flags, env=environment)
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and 'Traceback' not in done.stderr, done.stderr
    assert [line.startswith(f'{script}: error: ') for line in lines].count(True) == 1, done.stderr
    assert lines[-1].startswith(f'{script}: error: {EXPECTED[error]}'), done.stderr
    return lines[-1]


@pytest.mark.parametrize('error', EXPECTED)
def test_demo(error, tmp_path):
    fail(error, 'demo.py', '--engine', 'paddle', '--images', ROOT / 'images/test/shapes_2000004.jpg', '--out', tmp_path)


@pytest.mark.parametrize('error', EXPECTED)
def test_demo_on_a_video(error, tmp_path):
    film = tmp_path / 'film.avi'
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*'MJPG'), 5, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    fail(error, 'demo.py', '--engine', 'paddle', '--images', film, '--out', tmp_path / 'out')
    assert not list((tmp_path / 'out').iterdir())


@pytest.mark.parametrize('error', EXPECTED)
def test_eval(error, folder):
    fail(error, 'eval.py', '--engine', 'paddle', '--model_path', CHECKPOINT, '--valid_images_path', folder / 'val',
         '--valid_anno_path', folder / 'annotations/instances_val.json')


@pytest.mark.parametrize('error', EXPECTED)
def test_test_dev(error, folder, tmp_path):
    line = fail(error, 'test_dev.py', '--engine', 'paddle', '--model_path', CHECKPOINT, '--test_images_path',
                folder / 'val', '--test_anno_path', folder / 'annotations/instances_val.json', '--out',
                tmp_path / 'results.json')
    assert line.endswith('. The same command goes on from here')


@pytest.mark.parametrize('format', ['onnx', 'paddle'])
@pytest.mark.parametrize('error', EXPECTED)
def test_export(error, format, tmp_path):
    if format == 'onnx':
        pytest.importorskip('onnxruntime')
    out = tmp_path / ('out.onnx' if format == 'onnx' else 'out')
    fail(error, 'export.py', '--model_path', CHECKPOINT, '--format', format, '--out', out)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('error', EXPECTED)
def test_training_leaves_the_last_checkpoint_whole(error, folder, tmp_path):
    line = fail(error, 'train.py', '--pattern=0', '--backbone_name=resnet18dcn_half', '--input_size=256',
                '--batch_size=2', '--num_workers=1', '--save_interval=1', '--steps=9', f'--save_dir={tmp_path}',
                f'--train_images_path={folder / "train"}',
                f'--train_anno_path={folder / "annotations/instances_train.json"}', after=f'{tmp_path}/step*.pd')
    assert line.endswith('. The last checkpoint is whole: go on with --pattern=1')
    checkpoint, = tmp_path.glob('step*.pd')
    assert load_checkpoint(checkpoint, training=True).step == 1
    assert list(tmp_path.iterdir()) == [checkpoint]
