"""test_dev.py, stopped in every way: it goes on where it was, and writes the same bytes."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import paddle
import psutil
import pytest

from data.coco import CocoDataset
from model.checkpoint import Checkpoint, save_checkpoint, tensors_of
from model.config import preset
from model.yolact import Yolact
from system.journal import Journal
from tests.helpers import ROOT
from tests.helpers.networks import SMALL
from tools.shapes import write_split

ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
FILES = ['all_bbox_results.json', 'all_bbox_results.zip', 'all_results.json', 'all_results.zip']
IMAGES = 120  # enough to be stopped in, wherever the machine hesitates
LEFT_OUT = IMAGES // 6 + 1
PIECES = IMAGES // 2 - LEFT_OUT  # with nothing left out; the others are tried again by whoever goes on
LAUNCH = ('-m', 'paddle.distributed.launch', '--nproc_per_node', '2', '--backend', 'gloo')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A small network, and a list of images, of which every sixth is damaged and one is not there."""
    folder = tmp_path_factory.mktemp('submission')
    write_split(folder, 'test', 6, width=160, height=120)
    path = folder / 'annotations/image_info_test.json'
    content = json.loads(path.read_text())
    content['images'] = [{**content['images'][i % 6], 'id': 7 * i} for i in range(IMAGES)]
    content['images'][11]['file_name'] = 'gone.jpg'
    damaged = folder / 'test' / content['images'][2]['file_name']
    damaged.write_bytes(damaged.read_bytes()[:500])
    path.write_text(json.dumps(content))
    paddle.seed(0)
    network = Yolact(preset(**SMALL))
    save_checkpoint(folder / 'random.pd', Checkpoint(network.config, CocoDataset(path, folder).classes,
                                                     tensors_of(network)))
    return folder


def command(folder, out, *more, launch=()):
    return [sys.executable, *launch, str(ROOT / 'test_dev.py'), '--model_path', str(folder / 'random.pd'),
            '--test_images_path', str(folder / 'test'), '--batch_size', '2', '--obj_threshold', '0.01',
            '--test_anno_path', str(folder / 'annotations/image_info_test.json'),
            '--out', str(out / 'all_results.json'), *more]


def run(folder, out, *more, launch=()):
    """Exit status and what was printed, lines of errors last."""
    out.mkdir(exist_ok=True)
    process = subprocess.run(command(folder, out, *more, launch=launch), cwd=out, env=ENVIRONMENT, capture_output=True,
                             text=True)
    return process.returncode, process.stdout + process.stderr


def written(out):
    return {name: (out / name).read_bytes() for name in FILES}


@pytest.fixture(scope='module')
def whole(folder, tmp_path_factory):
    """What an undisturbed run writes."""
    out = tmp_path_factory.mktemp('whole')
    status, printed = run(folder, out)
    assert status == 1
    problems = [line for line in printed.splitlines() if line.startswith(str(folder / 'test'))]
    assert len(problems) == LEFT_OUT
    assert printed.splitlines()[-1] == f'Images that were left out: {LEFT_OUT}'
    assert sorted(path.name for path in out.iterdir()) == FILES
    return written(out)


def parts(out):
    """The journal of a run that was stopped."""
    folder, = out.glob('.all_results.json.*.parts')
    return Journal(folder)


def stop(folder, out, ready, number=signal.SIGKILL, flags=()):
    """Sends a signal to a run as soon as something is so. The run is paused while that is looked at."""
    process = subprocess.Popen(command(folder, out, *flags), env=ENVIRONMENT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    while True:
        process.send_signal(signal.SIGSTOP)
        if ready():
            break
        process.send_signal(signal.SIGCONT)
        assert process.poll() is None
        started = any(out.glob('.all_results.json.*.parts'))
        time.sleep(0.001 if started else 0.02)  # while it imports, nothing can be missed
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    assert process.wait() == {signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGINT: 130}.get(number, -number)


def done(out):
    """How many pieces a run that was stopped has done for good."""
    return len(parts(out).finished()) if list(out.glob('.all_results.json.*.parts')) else 0


def test_a_run_that_is_stopped_again_and_again_writes_the_same_bytes(folder, whole, tmp_path):
    before = 0
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGTERM):
        stop(folder, tmp_path, lambda pieces=before + 2: done(tmp_path) >= pieces, number)
        assert before < done(tmp_path) < PIECES
        before = done(tmp_path)
    file, = parts(tmp_path).folder.iterdir()
    file.write_bytes(file.read_bytes()[:-100])  # killed in the middle of a line
    before = done(tmp_path)
    status, printed = run(folder, tmp_path)
    assert status == 1
    assert f'Resuming: {2 * before} of {IMAGES} images are done' in printed
    assert printed.splitlines()[-1] == f'Images that were left out: {LEFT_OUT}'  # those of the earlier runs too
    assert written(tmp_path) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def visible(out):
    """Names of files, without parts that a kill left behind."""
    return sorted(path.name for path in out.iterdir() if not path.name.startswith('.yolact-'))


@pytest.mark.parametrize('state', ['a part of the first file', 'the first file', 'a part of another file'])
def test_a_kill_while_the_files_are_written_loses_nothing(folder, whole, tmp_path, state):
    def ready():
        first, part = (tmp_path / 'all_results.json').exists(), any(tmp_path.glob('.yolact-*.part'))
        return {'a part of the first file': part, 'the first file': first,
                'a part of another file': first and part}[state]
    stop(folder, tmp_path, lambda: done(tmp_path) == PIECES and ready())
    for path in tmp_path.glob('all*'):
        assert path.read_bytes() == whole[path.name]
    assert done(tmp_path) == PIECES
    status, printed = run(folder, tmp_path)
    assert status == 1
    assert f'Resuming: {2 * PIECES} of {IMAGES}' in printed
    assert written(tmp_path) == whole
    assert visible(tmp_path) == FILES


def test_other_weights_or_thresholds_do_not_go_on_from_a_run(folder, whole, tmp_path):
    stop(folder, tmp_path, lambda: done(tmp_path) >= 3)
    status, printed = run(folder, tmp_path, '--nms_threshold', '0.9')
    assert status == 1
    assert 'Resuming' not in printed
    assert written(tmp_path)['all_results.json'] != whole['all_results.json']
    status, printed = run(folder, tmp_path)
    assert status == 1
    assert 'Resuming' in printed
    assert written(tmp_path) == whole


def test_images_of_another_folder_do_not_go_on_from_a_run(folder, whole, tmp_path):
    stop(folder, tmp_path / 'out', lambda: done(tmp_path / 'out') >= 3)
    shutil.copytree(folder / 'test', tmp_path / 'images')
    status, printed = run(folder, tmp_path / 'out', '--test_images_path', tmp_path / 'images')
    assert status == 1
    assert 'Resuming' not in printed
    assert written(tmp_path / 'out') == whole


def test_a_image_that_was_mended_before_the_work_goes_on_is_looked_at(folder, tmp_path):
    shutil.copytree(folder / 'test', tmp_path / 'images')
    flags = '--test_images_path', tmp_path / 'images'
    stop(folder, tmp_path / 'out', lambda: done(tmp_path / 'out') >= 20, flags=flags)  # and has left some out
    content = json.loads((folder / 'annotations/image_info_test.json').read_text())
    like = content['images'][5]  # the sixth of those that the list repeats
    shutil.copy(tmp_path / 'images' / like['file_name'], tmp_path / 'images/gone.jpg')
    status, printed = run(folder, tmp_path / 'out', *flags)
    assert status == 1
    assert 'Resuming' in printed and 'gone.jpg' not in printed
    assert f'Images that were left out: {LEFT_OUT - 1}' in printed
    found = json.loads((tmp_path / 'out/all_results.json').read_text())
    assert 7 * 11 in {one['image_id'] for one in found}


def test_processes_share_the_images_and_what_one_did_before(folder, whole, tmp_path):
    stop(folder, tmp_path, lambda: done(tmp_path) >= 3)
    status, printed = run(folder, tmp_path, launch=LAUNCH)
    assert status == 1
    assert f'Wrote the detections in {IMAGES - LEFT_OUT} images' in printed
    assert f'Images that were left out: {LEFT_OUT}' in printed
    assert_same_objects(written(tmp_path), whole)


def test_a_journal_that_is_removed_under_a_run_is_told_at_once_and_the_same_command_writes_the_same_bytes(
        folder, whole, tmp_path):
    process = subprocess.Popen(command(folder, tmp_path), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    while not done(tmp_path):
        assert process.poll() is None
        time.sleep(0.001)
    name = parts(tmp_path).folder.name
    shutil.rmtree(tmp_path / name)
    _, said = process.communicate()
    assert process.returncode == 2
    assert 'Traceback' not in said and said.splitlines()[-1] == (
        f'test_dev.py: error: {tmp_path / name}: {name} was removed; check the path, its permissions and the room on '
        'the disk')
    assert not list(tmp_path.iterdir())
    run(folder, tmp_path)
    assert written(tmp_path) == whole


def assert_same_objects(some, others):
    for name in FILES[::2]:
        found, expected = (json.loads(files[name]) for files in (some, others))
        assert [one['image_id'] for one in found] == [one['image_id'] for one in expected]
        np.testing.assert_allclose([one['score'] for one in found], [one['score'] for one in expected], atol=1e-5)


@pytest.mark.parametrize('victim', [0, 1])
def test_when_one_of_two_processes_is_killed_the_other_says_so_and_the_same_command_goes_on(folder, whole, tmp_path,
                                                                                            victim):
    launcher = subprocess.Popen(command(folder, tmp_path, launch=LAUNCH), cwd=tmp_path, env=ENVIRONMENT,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not done(tmp_path):
            assert launcher.poll() is None
            time.sleep(0.001)
        ranks = {child.environ()['PADDLE_TRAINER_ID']: child for child in psutil.Process(launcher.pid).children()}
        everyone = [descendant for child in ranks.values() for descendant in (child, *child.children())]
        ranks[f'{victim}'].kill()
        _, left = psutil.wait_procs(everyone, 10)  # the launcher looks every second or three
        assert not left
    finally:
        launcher.kill()
        launcher.wait()
    said = (tmp_path / f'log/workerlog.{1 - victim}').read_text()
    assert 'Traceback' not in said
    assert [line for line in said.splitlines() if line.startswith('test_dev.py: ')] == [
        'test_dev.py: error: another process has ended or cannot be reached; its own log may tell why. The same '
        'command goes on from here']
    before = done(tmp_path)
    assert 0 < before < PIECES
    _, printed = run(folder, tmp_path)
    assert f'Resuming: {2 * before} of {IMAGES}' in printed
    assert_same_objects(written(tmp_path), whole)


def test_a_full_disk_loses_nothing_that_was_done(folder, whole, tmp_path):
    size = len(whole['all_results.json']) // 2
    code = f"""import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')"""
    flags = command(folder, tmp_path)
    process = subprocess.run([flags[0], '-c', code, *flags[1:]], env=ENVIRONMENT, capture_output=True, text=True)
    assert process.returncode == 2
    last = process.stderr.splitlines()[-1]
    assert last.startswith(f'test_dev.py: error: {tmp_path}/.all_results.json.') and ': File too large; ' in last
    assert 'Traceback' not in process.stderr
    before = done(tmp_path)
    assert 0 < before < PIECES
    _, printed = run(folder, tmp_path)
    assert f'Resuming: {2 * before} of {IMAGES}' in printed
    assert written(tmp_path) == whole
