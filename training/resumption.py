"""The command that goes on with a run that was stopped."""
import argparse
import os
import shlex
import shutil
import sys
from pathlib import Path

from training.arguments import training_arguments

# The checkpoint remembers all else: network, classes, recipe.
NOT_IN_CHECKPOINT = ('use_gpu', 'amp', 'num_workers', 'save_interval', 'log_interval', 'visualdl', 'train_images_path',
                     'train_anno_path', 'valid_images_path', 'valid_anno_path', 'allow_outside', 'freeze', 'eval',
                     'patience')


def command_to_go_on(args: argparse.Namespace, checkpoint: Path) -> str:
    """A line for a shell that resumes a checkpoint as the flags of its run say.

    Args:
        args: of train.py.
        checkpoint: its folder.
    """
    defaults = training_arguments([])
    flags = ['--pattern=1', f'--model_path={checkpoint}', f'--save_dir={args.save_dir}']
    for name in NOT_IN_CHECKPOINT:
        value = getattr(args, name)
        if value != getattr(defaults, name):
            flags += _flag(name, value)
    return shlex.join([*_python(), sys.argv[0], *flags])


def _flag(name: str, value: object) -> list[str]:
    if isinstance(value, list):
        return [f'--{name}', *map(str, value)]
    if value is True and name != 'use_gpu':
        return [f'--{name}']
    return [f'--{name}={str(value).lower() if isinstance(value, bool) else value}']


def _python() -> list[str]:
    """The interpreter that runs this, by its short name if a shell finds it so; and Paddle's launcher if that started
    it, whose own flags are not known here."""
    names = [name for name in ('python', 'python3') if shutil.which(name) == sys.executable]
    launcher = ['-m', 'paddle.distributed.launch'] if int(os.environ.get('PADDLE_TRAINERS_NUM', 1)) > 1 else []
    return [(names or [sys.executable])[0], *launcher]
