"""Commands that are killed at random moments over and over, and whose results are those of an undisturbed run.

`make soak` kills each of them 200 times, which takes half an hour and more; otherwise training is killed five times.
"""
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file

from data.coco import CocoDataset
from model.checkpoint import FILES, Checkpoint, load_checkpoint, save_checkpoint, tensors_of
from model.config import preset
from model.yolact import Yolact
from tests.helpers import ROOT
from tests.helpers.networks import SMALL
from tools.shapes import write_dataset

ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
SOAK = pytest.mark.soak, pytest.mark.slow  # -m 'not slow' leaves them out too
PARTS = '.yolact-*.part'  # unfinished files and folders, as system.files names them
RESULTS = ['all_bbox_results.json', 'all_bbox_results.zip', 'all_results.json', 'all_results.zip']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Six images to train on and six to submit, and a small network."""
    folder = tmp_path_factory.mktemp('data')
    write_dataset(folder, train=6, val=0, test=6, width=160, height=120)
    classes = CocoDataset(folder / 'annotations/instances_train.json', folder / 'train').classes
    paddle.seed(0)
    network = Yolact(preset(**SMALL))
    save_checkpoint(folder / 'random.pd', Checkpoint(network.config, classes, tensors_of(network)))
    return folder


class KilledCommand:
    """A command that is started again and again until it ends by itself.

    Attributes:
        log: Path of the output of the last start.
        kills, starts: so far.
        seconds: since the first start.
    """

    def __init__(self, log):
        self.log, self.kills, self.starts, self._start_time = log, 0, 0, time.monotonic()

    def start(self, command, ready, delay):
        """Start it, and kill it some time after a condition holds.

        Args:
            command: list of a script and its flags.
            ready: callable that tells whether the condition holds.
            delay: seconds from then to the kill.
        Returns:
            its exit status; None if it was killed.
        """
        self.starts += 1
        with open(self.log, 'w') as log:
            process = subprocess.Popen([sys.executable, *map(str, command)], env=ENVIRONMENT, stdout=log, stderr=log)
        while process.poll() is None and not ready():
            time.sleep(0.001)
        try:
            return process.wait(delay)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.kills += 1
            return None

    def has_printed(self, start):
        """Whether a line of its output starts so."""
        return any(line.startswith(start) for line in self.log.read_text().splitlines())

    @property
    def seconds(self):
        return time.monotonic() - self._start_time


def training(folder, out, steps, *more):
    return [ROOT / 'train.py', f'--save_dir={out}', '--batch_size=2', '--num_workers=1', '--log_interval=1',
            f'--steps={steps}', '--save_interval=2', f'--train_images_path={folder / "train"}',
            f'--train_anno_path={folder / "annotations/instances_train.json"}', *more]


FROM_SCRATCH = ('--pattern=0', f'--backbone_name={SMALL["backbone_name"]}', '--input_size=256', '--lr=1e-3',
                '--lr_schedule=cosine', '--ema=0.9')


def newest(out):
    """The step and the folder of the newest checkpoint; 0 and None before the first one. All of them are whole."""
    for path in out.glob('step*.pd'):
        assert {file.name for file in path.iterdir()} == FILES
    path = max(out.glob('step*.pd'), default=None)
    if path is None:
        return 0, None
    checkpoint = load_checkpoint(path, training=True)
    assert checkpoint.optimizer_state.keys() <= checkpoint.tensors.keys() == checkpoint.ema.keys()
    assert checkpoint.optimizer_state
    return checkpoint.step, path


def remove_parts(out):
    """Remove the unfinished files and folders that kills left behind. Returns their number."""
    parts = list(out.glob(PARTS))
    for part in parts:
        shutil.rmtree(part) if part.is_dir() else part.unlink()
    return len(parts)


@pytest.mark.parametrize('kills, steps', [(5, 16), pytest.param(200, 300, marks=SOAK)])
def test_training_that_is_killed_at_random_moments_ends_with_the_weights_of_an_undisturbed_run(folder, tmp_path, kills,
                                                                                               steps):
    rng, killed, out = np.random.default_rng(0), KilledCommand(tmp_path / 'log'), tmp_path / 'killed'
    out.mkdir()
    while_saving = 0
    while True:
        while_saving += remove_parts(out)
        step, path = newest(out)
        if path is None:  # the log alone would be another run's
            (out / 'log.jsonl').unlink(missing_ok=True)
        early = step < steps - 8  # later the run may end before the last kill
        moments = {  # when to kill: from when on, and up to how many seconds later
            'importing': (lambda: True, 3 if early else 1),
            'loading': (lambda: killed.has_printed(f'{folder}'), 1.5),
            'stepping': (lambda step=step: killed.has_printed(f'step {step + 1}/'), 0.8),
            'saving': (lambda: any(out.glob(PARTS)), 0.1)}
        moment = rng.choice([*moments] if early else ['importing'])
        ready, max_delay = moments[moment] if killed.kills < kills else (lambda: False, 0)
        status = killed.start(training(folder, out, steps, *(
            ('--pattern=1', f'--model_path={path}') if path else FROM_SCRATCH)), ready, max_delay * rng.random())
        if status is not None:
            break
        if moment in ('stepping', 'saving'):
            assert not killed.has_printed('step ') or killed.has_printed(f'step {step + 1}/{steps} ')  # it has resumed
    assert (status, killed.kills) == (0, kills), killed.log.read_text()
    print(f'\ntrain.py: {kills} kills, {while_saving} of them while saving, {killed.starts} starts, {steps} steps, '
          f'{killed.seconds:.0f} s')
    subprocess.run([sys.executable, *map(str, training(folder, tmp_path / 'whole', steps, *FROM_SCRATCH))], check=True,
                   env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    (last, resumed), (_, undisturbed) = newest(out), newest(tmp_path / 'whole')
    assert last == steps
    for name in ('model', 'optimizer', 'averaged'):
        expected, found = (load_file(path / f'{name}.safetensors') for path in (undisturbed, resumed))
        assert expected.keys() == found.keys()
        for key in expected:
            np.testing.assert_array_equal(found[key], expected[key], key)


def submission(folder, out):
    return [ROOT / 'test_dev.py', '--model_path', folder / 'random.pd', '--test_images_path', folder / 'test',
            '--test_anno_path', folder / 'many.json', '--batch_size', '2', '--obj_threshold', '0.01',
            '--out', out / 'all_results.json']


def is_writing(out):
    """Whether a file of results is being written."""
    try:
        return any(part.stat().st_size for part in out.glob(PARTS))
    except FileNotFoundError:
        return False  # it has just been finished


def size_of_journal(out):
    return sum(path.stat().st_size for path in out.glob('.*.parts/*.jsonl'))


@pytest.mark.parametrize('kills, images', [pytest.param(200, 1800, marks=SOAK)])
def test_a_submission_that_is_killed_at_random_moments_writes_the_bytes_of_an_undisturbed_run(folder, tmp_path, kills,
                                                                                              images):
    content = json.loads((folder / 'annotations/image_info_test.json').read_text())
    content['images'] = [{**content['images'][i % 6], 'id': 7 * i} for i in range(images)]
    (folder / 'many.json').write_text(json.dumps(content))
    whole, out = tmp_path / 'whole', tmp_path / 'killed'
    subprocess.run([sys.executable, *map(str, submission(folder, whole))], check=True, env=ENVIRONMENT,
                   stderr=subprocess.DEVNULL)
    expected = {name: (whole / name).read_bytes() for name in RESULTS}
    total = len(expected['all_results.json']) + len(expected['all_bbox_results.json'])
    rng, killed = np.random.default_rng(0), KilledCommand(tmp_path / 'log')
    kills_by_moment = {name: 0 for name in ('importing', 'predicting', 'writing')}
    while True:
        remove_parts(out)
        before = size_of_journal(out)
        early = before < 0.97 * total  # later the run may end before the last kill
        target = before + 2 * total / kills * rng.random()
        moments = {
            'importing': (lambda: True, 4 if early else 1),
            'predicting': (lambda target=target: size_of_journal(out) > target, 0.05),
            'writing': (lambda: is_writing(out), 0)}
        moment = rng.choice(['importing', 'predicting', 'predicting', 'predicting'] if early else
                            ['importing', 'writing'])
        ready, max_delay = moments[moment] if killed.kills < kills else (lambda: False, 0)
        status = killed.start(submission(folder, out), ready, max_delay * rng.random())
        if status is not None:
            break
        kills_by_moment[moment] += 1
        assert size_of_journal(out) >= before
        for path in out.glob('all*'):
            assert path.read_bytes() == expected[path.name]
    assert (status, killed.kills) == (0, kills), killed.log.read_text()
    moments = ', '.join(f'{number} while {name}' for name, number in kills_by_moment.items())
    print(f'\ntest_dev.py: {kills} kills ({moments}), {killed.starts} starts, {images} images, {killed.seconds:.0f} s')
    assert sorted(path.name for path in out.iterdir()) == RESULTS
    assert {name: (out / name).read_bytes() for name in RESULTS} == expected
