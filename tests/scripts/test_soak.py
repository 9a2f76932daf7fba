"""Runs that are killed at random moments over and over, and end as if nothing had happened.

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


class Victim:
    """A process that is started again and again until it ends by itself.

    Attributes:
        kills, seconds: so far.
        log: Path of what it says, in this life.
    """

    def __init__(self, log):
        self.log, self.kills, self.began = log, 0, time.monotonic()

    def live(self, command, ready, delay):
        """One life, which a kill ends some time after something is so.

        Args:
            command: list of what to run.
            ready: callable that tells whether it is so.
            delay: seconds from then to the kill.
        Returns:
            its exit status; None if it was killed.
        """
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

    def says(self, start):
        """Whether it has said a line that starts so."""
        return any(line.startswith(start) for line in self.log.read_text().splitlines())

    @property
    def seconds(self):
        return time.monotonic() - self.began


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
    assert checkpoint.velocity.keys() <= checkpoint.tensors.keys() == checkpoint.averaged.keys()
    assert checkpoint.velocity
    return checkpoint.step, path


def sweep(out):
    """Remove what kills in the middle of saving left behind: how many drafts that were."""
    drafts = list(out.glob('.*.draft'))
    for draft in drafts:
        shutil.rmtree(draft)
    return len(drafts)


@pytest.mark.parametrize('kills, steps', [(5, 16), pytest.param(200, 300, marks=SOAK)])
def test_training_that_is_killed_at_random_moments_ends_with_the_weights_of_an_undisturbed_run(folder, tmp_path, kills,
                                                                                               steps):
    rng, victim, out = np.random.default_rng(0), Victim(tmp_path / 'log'), tmp_path / 'killed'
    out.mkdir()
    torn = starts = 0
    while True:
        torn += sweep(out)
        step, path = newest(out)
        middle = step < steps - 8  # after that nothing is learnt before the last kill
        moments = {  # ready when, and up to how many seconds later the kill comes
            'importing': (lambda: True, 3 if middle else 1),
            'loading': (lambda: victim.says(f'{folder}'), 1.5),
            'stepping': (lambda step=step: victim.says(f'step {step + 1}/'), 0.8),
            'saving': (lambda: any(out.glob('.*.draft')), 0.1)}
        chosen = rng.choice([*moments] if middle else ['importing'])
        ready, most = moments[chosen] if victim.kills < kills else (lambda: False, 0)
        starts += 1
        status = victim.live(training(folder, out, steps, *(
            ('--pattern=1', f'--model_path={path}') if path else FROM_SCRATCH)), ready, most * rng.random())
        if status is not None:
            break
        if chosen in ('stepping', 'saving'):
            assert not victim.says('step ') or victim.says(f'step {step + 1}/{steps} ')  # it has gone on from there
    assert (status, victim.kills) == (0, kills), victim.log.read_text()
    print(f'\ntrain.py: {kills} kills, {torn} of them in the middle of saving, {starts} starts, {steps} steps, '
          f'{victim.seconds:.0f} s')
    subprocess.run([sys.executable, *map(str, training(folder, tmp_path / 'whole', steps, *FROM_SCRATCH))], check=True,
                   env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    (last, killed), (_, undisturbed) = newest(out), newest(tmp_path / 'whole')
    assert last == steps
    for name in ('model', 'optimizer', 'averaged'):
        expected, found = (load_file(path / f'{name}.safetensors') for path in (undisturbed, killed))
        assert expected.keys() == found.keys()
        for key in expected:
            np.testing.assert_array_equal(found[key], expected[key], key)


def submission(folder, out):
    return [ROOT / 'test_dev.py', '--model_path', folder / 'random.pd', '--test_images_path', folder / 'test',
            '--test_anno_path', folder / 'many.json', '--batch_size', '2', '--obj_threshold', '0.01',
            '--out', out / 'all_results.json']


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
    rng, victim = np.random.default_rng(0), Victim(tmp_path / 'log')
    starts, torn = 0, {name: 0 for name in ('importing', 'finding', 'writing')}
    while True:
        before = size_of_journal(out)
        middle = before < 0.97 * total  # after that the run is not to end before the last kill
        target = before + 2 * total / kills * rng.random()
        moments = {
            'importing': (lambda: True, 4 if middle else 1),
            'finding': (lambda target=target: size_of_journal(out) > target, 0.05),
            'writing': (lambda: (out / '.all_results.json.part').exists()
                        and (out / '.all_results.json.part').stat().st_size > 0, 0)}
        chosen = rng.choice(['importing', 'finding', 'finding', 'finding'] if middle else ['importing', 'writing'])
        ready, most = moments[chosen] if victim.kills < kills else (lambda: False, 0)
        starts += 1
        status = victim.live(submission(folder, out), ready, most * rng.random())
        if status is not None:
            break
        torn[chosen] += 1
        assert size_of_journal(out) >= before
        for path in out.glob('all*'):
            assert path.read_bytes() == expected[path.name]
    assert (status, victim.kills) == (0, kills), victim.log.read_text()
    print(f'\ntest_dev.py: {kills} kills ({", ".join(f"{torn[name]} while {name}" for name in torn)}), '
          f'{starts} starts, {images} images, {victim.seconds:.0f} s')
    assert sorted(path.name for path in out.iterdir()) == RESULTS
    assert {name: (out / name).read_bytes() for name in RESULTS} == expected
