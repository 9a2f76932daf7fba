"""Checkpoints of a run: how they are named, and which are kept."""
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

from model.checkpoint import Checkpoint, run_of, save_checkpoint, tensors_of
from system.files import remove_folder
from system.messages import print_lines
from training.optimizer import optimizer_state

if TYPE_CHECKING:
    from training.run import Run

CHECKPOINTS_KEPT = 15
CHECKPOINT_NAME = re.compile(r'step(\d{7,})-ep\d{3,}-loss\S+\.pd')
BEST_NAME = re.compile(r'best-step(\d{7,})-ap(\d\.\d{4})\.pd')


def save_and_prune(run: 'Run', step: int, epoch: int, loss: float) -> None:
    """Save a checkpoint, and remove those of the run's earliest steps beyond `CHECKPOINTS_KEPT`."""
    saved = _save(run, step, epoch, f'step{step:07d}-ep{epoch:03d}-loss{loss:.3f}.pd')
    run.last_checkpoint = saved
    print_lines(f'saved {saved}')
    prune(saved)


def save_best(run: 'Run', step: int, epoch: int, ap: float) -> None:
    """Save a checkpoint apart from the others if its mask AP is the best of this run, and remove the best until now."""
    earlier = {name: float(name.rpartition('-ap')[2].removesuffix('.pd'))
               for name in run.best if (run.save_dir / name).exists()}
    if ap > max(earlier.values(), default=-1):
        saved = _save(run, step, epoch, f'best-step{step:07d}-ap{ap:.4f}.pd')
        print_lines(f'best so far: {saved}')
        run.best.add(saved.name)
        for name in earlier.keys() - {saved.name}:
            remove_folder(run.save_dir / name)


def best_step(run: 'Run') -> int | None:
    """The step of the best checkpoint of a run; None before there is one, and in all but the main process."""
    return max((int(match[1]) for match in map(BEST_NAME.fullmatch, run.best) if match), default=None)


def best_checkpoints(save_dir: Path, step: int, run_name: str = '') -> set[str]:
    """Names of the best checkpoints that the run of a name had saved by the time of a step."""
    matches = (BEST_NAME.fullmatch(path.name) for path in save_dir.iterdir())
    return {match[0] for match in matches
            if match and int(match[1]) <= step and run_of(save_dir / match[0]) == run_name}


def prune(saved: Path) -> None:
    """Remove the run's checkpoints of the earliest steps beside one that was just saved, which is never removed.

    One that cannot be removed is no reason for a run to end.
    """
    run_name = run_of(saved)
    steps = {path: int(match[1]) for path in saved.parent.iterdir()
             if path != saved and (match := CHECKPOINT_NAME.fullmatch(path.name)) and run_of(path) == run_name}
    for path in sorted(steps, key=lambda path: (steps[path], path.name))[:1 - CHECKPOINTS_KEPT]:
        remove_folder(path)


def _save(run: 'Run', step: int, epoch: int, name: str) -> Path:
    """Write a checkpoint, and once more if somebody removes it meanwhile. Returns its folder."""
    folder = run.save_dir / name
    checkpoint = Checkpoint(run.network.config, run.classes, tensors_of(run.network),
                            optimizer_state(run.optimizer, run.network, run.recipe), step, epoch,
                            dataclasses.asdict(run.recipe), ema=run.ema.arrays() if run.ema else {},
                            seconds=run.seconds, run=run.name)
    try:
        save_checkpoint(folder, checkpoint)
    except FileNotFoundError:
        save_checkpoint(folder, checkpoint)
    return folder
