"""The folder of a run, which holds no other: their checkpoints and logs would be taken for those of one."""
import os
from pathlib import Path

from model.checkpoint import Checkpoint, run_of
from system.errors import UserError
from system.messages import one_line
from training.arguments import DEFAULT_SAVE_DIR
from training.checkpoints import BEST_NAME, CHECKPOINT_NAME

LOG_NAME = 'log.jsonl'


def check_save_dir(save_dir: Path, model_path: str, checkpoint: Checkpoint | None) -> str | None:
    """Make sure that a folder has no run but the one that is resumed.

    Args:
        save_dir: of the run that starts.
        model_path: where the checkpoint comes from.
        checkpoint: `Checkpoint` to resume; None for a new run.
    Returns:
        None, or a line about the run that is there, if this is the default folder.
    Raises:
        UserError: another run is there, and the folder is not the default one.
    """
    traces = traces_of_runs(save_dir)
    if not traces or checkpoint and checkpoint.step is not None and _is_of_folder(model_path, checkpoint, traces):
        return None
    line = f'{one_line(save_dir)}: holds another run ({one_line(traces[0].name)})'
    if save_dir != Path(DEFAULT_SAVE_DIR):
        raise UserError(f'{line}; name another folder: --save_dir')
    return f'{line}, whose checkpoints stay; its log goes on with this run; name a folder for each run: --save_dir'


def traces_of_runs(save_dir: Path) -> list[Path]:
    """What runs have left in a folder: checkpoints, and the log."""
    checkpoints = sorted(path for path in save_dir.iterdir()
                         if CHECKPOINT_NAME.fullmatch(path.name) or BEST_NAME.fullmatch(path.name))
    return checkpoints + [path for path in (save_dir / LOG_NAME,) if os.path.lexists(path)]


def _is_of_folder(model_path: str, checkpoint: Checkpoint, traces: list[Path]) -> bool:
    """Whether a checkpoint lies in the folder, or is of the same run as one that does."""
    if Path(os.path.abspath(model_path)).parent.resolve() == traces[0].parent.resolve():
        return True
    return bool(checkpoint.run) and any(run_of(path) == checkpoint.run for path in traces)
