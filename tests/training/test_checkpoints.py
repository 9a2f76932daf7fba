import os
import signal
import subprocess
import sys

from model.checkpoint import load_checkpoint
from model.classes import Classes
from model.config import preset
from model.losses import Criterion
from model.yolact import Yolact
from tests.helpers import ROOT
from tests.helpers.networks import SMALL
from training.checkpoints import CHECKPOINTS_KEPT, best_checkpoints, prune, save_and_prune, save_best
from training.optimizer import make_optimizer
from training.precision import Precision
from training.recipe import FINETUNING
from training.run import Run

SCRIPT = """
import os, signal
from pathlib import Path
from training.checkpoints import prune

unlink = os.unlink
def unlink_and_die(*arguments, **keywords):
    unlink(*arguments, **keywords)
    os.kill(os.getpid(), signal.SIGKILL)
os.unlink = unlink_and_die
prune(Path('step0000015-ep000-loss5.000.pd'))
"""


def new_run(save_dir, start=0, name=''):
    network = Yolact(preset(**SMALL))
    return Run(network, Classes([*'abcdefgh'], range(8)), FINETUNING, Criterion(),
               make_optimizer(network, FINETUNING), Precision(), None, save_dir, start,
               best_checkpoints(save_dir, start, name), name=name)


def name_of(step):
    return f'step{step:07d}-ep000-loss5.000.pd'


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_the_best_checkpoint_is_saved_apart(tmp_path):
    other_run = 'best-step0000006-ap0.9000.pd'
    (tmp_path / other_run).mkdir()

    def evaluate_at(start, *evaluations):
        run = new_run(tmp_path, start)
        for step, ap in evaluations:
            save_best(run, step, 0, ap)
        return names_in(tmp_path)

    assert evaluate_at(0, (4, 0.1), (8, 0.3), (12, 0.2)) == {other_run, 'best-step0000008-ap0.3000.pd'}
    assert load_checkpoint(tmp_path / 'best-step0000008-ap0.3000.pd').step == 8
    (tmp_path / other_run).rmdir()
    assert evaluate_at(12, (16, 0.3)) == {'best-step0000008-ap0.3000.pd'}
    assert evaluate_at(16, (20, 0.4)) == {'best-step0000020-ap0.4000.pd'}


def test_runs_in_one_folder_keep_each_their_own(tmp_path):
    save_best(new_run(tmp_path, name='old'), 4, 0, 0.9)
    for step in range(1, CHECKPOINTS_KEPT + 1):
        save_and_prune(new_run(tmp_path, name='old'), 100 + step, 0, 5.0)
    before = names_in(tmp_path)
    run = new_run(tmp_path, name='new')
    save_best(run, 4, 0, 0.1)
    save_best(new_run(tmp_path, 4, 'new'), 8, 0, 0.2)  # which is resumed
    save_and_prune(run, 8, 0, 5.0)
    assert names_in(tmp_path) == before | {'best-step0000008-ap0.2000.pd', name_of(8)}
    assert best_checkpoints(tmp_path, 8, 'old') == {'best-step0000004-ap0.9000.pd'}


def test_only_15_checkpoints_are_kept_and_nothing_else_is_touched(tmp_path):
    for name in ('shapes.pd', 'best-step0000001-ap0.1000.pd'):
        (tmp_path / name).mkdir()
    (tmp_path / 'step-notes.txt').write_text('mine')
    for step in range(17):
        (tmp_path / name_of(step)).mkdir()
        prune(tmp_path / name_of(step))
    assert names_in(tmp_path) == {'best-step0000001-ap0.1000.pd', 'shapes.pd', 'step-notes.txt',
                                  *map(name_of, range(2, 17))}


def test_checkpoints_are_pruned_by_step_whatever_their_dates(tmp_path):
    """As of files that were copied, or when a clock went wrong."""
    for step in range(16):
        (tmp_path / name_of(step)).mkdir()
        os.utime(tmp_path / name_of(step), (4e9 - step, 4e9 - step))  # in the future, and the other way round
    prune(tmp_path / name_of(15))
    assert names_in(tmp_path) == {*map(name_of, range(1, 16))}


def test_more_digits_are_a_later_step(tmp_path):
    steps = [*range(9_999_990, 10_000_006)]
    for step in steps:
        (tmp_path / name_of(step)).mkdir()
    prune(tmp_path / name_of(steps[-1]))
    assert names_in(tmp_path) == {*map(name_of, steps[1:])}


def test_a_checkpoint_that_was_just_saved_is_kept_whatever_else_is_there(tmp_path):
    """As where a run starts anew in the folder of a longer one, whose checkpoints may have dates in the future."""
    for step in range(100, 100 + CHECKPOINTS_KEPT):
        (tmp_path / name_of(step)).mkdir()
        os.utime(tmp_path / name_of(step), (4e9, 4e9))
    run = new_run(tmp_path)
    for step in (1, 2):
        save_and_prune(run, step, 0, 5.0)
        assert load_checkpoint(tmp_path / name_of(step)).step == step
        assert len(names_in(tmp_path)) == CHECKPOINTS_KEPT
    assert names_in(tmp_path) == {name_of(2), *map(name_of, range(101, 100 + CHECKPOINTS_KEPT))}


def test_a_kill_while_a_checkpoint_is_removed_leaves_no_half_of_one(tmp_path):
    """Half of one could pass for a whole one: without its EMA it even loads."""
    for step in range(16):
        (tmp_path / name_of(step)).mkdir()
        for name in ('meta.json', 'model.safetensors', 'averaged.safetensors'):
            (tmp_path / name_of(step) / name).write_text('')
    killed = subprocess.run([sys.executable, '-c', SCRIPT], cwd=tmp_path, env={**os.environ, 'PYTHONPATH': f'{ROOT}'})
    assert killed.returncode == -signal.SIGKILL
    assert {path.name for path in tmp_path.glob('step*')} == {*map(name_of, range(1, 16))}
    assert all(len(list(path.iterdir())) == 3 for path in tmp_path.glob('step*'))
    assert len(list(tmp_path.glob('.yolact-*.part'))) == 1  # to be removed when no one can be at it any more
