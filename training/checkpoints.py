"""Checkpoints of a run: how they are named, and which are kept."""
import contextlib
import dataclasses
import os
import re
import shutil

from model.checkpoint import Checkpoint, save_checkpoint, tensors_of
from training.log import say

CHECKPOINTS_KEPT = 15
CHECKPOINT_NAME = re.compile(r'step\d{7,}-ep\d{3,}-loss\S+\.pd')
BEST_NAME = re.compile(r'best-step(\d{7,})-ap(\d\.\d{4})\.pd')


def keep(save_dir, run, classes, step, epoch, loss):
    """Save a checkpoint, and remove the oldest."""
    name = f'step{step:07d}-ep{epoch:03d}-loss{loss:.3f}.pd'
    say(f'saved {save(save_dir, run, classes, step, epoch, name)}')
    prune(save_dir)


def save(save_dir, run, classes, step, epoch, name):
    """Write a checkpoint, and once more if somebody removes it meanwhile. Returns its folder."""
    state = run.optimizer.state_dict()
    keys = {name: f'{parameter.name}_velocity_0' for name, parameter in run.network.named_parameters()}
    velocity = {name: state[key].numpy() for name, key in keys.items() if key in state}
    folder = save_dir / name
    checkpoint = Checkpoint(run.network.config, classes, tensors_of(run.network), velocity, step, epoch,
                            dataclasses.asdict(run.recipe), averaged=run.average.tensors() if run.average else {})
    try:
        save_checkpoint(folder, checkpoint)
    except FileNotFoundError:
        save_checkpoint(folder, checkpoint)
    return folder


def prune(save_dir):
    """Remove all but the newest checkpoints."""
    earlier = [path for path in save_dir.iterdir() if CHECKPOINT_NAME.fullmatch(path.name)]
    for path in sorted(earlier, key=_saved_at)[:-CHECKPOINTS_KEPT]:
        discard(path)


def keep_best(save_dir, run, classes, step, epoch, ap):
    """Keep the checkpoint of the best mask AP of this run apart from the others."""
    earlier = {name: float(BEST_NAME.fullmatch(name)[2]) for name in run.best if (save_dir / name).exists()}
    if ap > max(earlier.values(), default=-1):
        saved = save(save_dir, run, classes, step, epoch, f'best-step{step:07d}-ap{ap:.4f}.pd')
        say(f'best so far: {saved}')
        run.best.add(saved.name)
        for name in earlier.keys() - {saved.name}:
            discard(save_dir / name)


def best_until(save_dir, step):
    """The names of the best checkpoints that a run had saved when it was at a step: set of str."""
    return {path.name for path in save_dir.iterdir()
            if (match := BEST_NAME.fullmatch(path.name)) and int(match[1]) <= step}


def _saved_at(path):
    """When; somebody may have removed it since it was listed."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0


def discard(path):
    """Remove a checkpoint so that a kill leaves no half of one, which would pass for a whole one, and for a new one.

    One that cannot be removed, or has been already, is no reason for a run to end.
    """
    draft = path.with_name(f'.{path.name}.{os.getpid()}.old.draft')  # which save_checkpoint removes later
    with contextlib.suppress(OSError):
        path.rename(draft)
        shutil.rmtree(draft, ignore_errors=True)
