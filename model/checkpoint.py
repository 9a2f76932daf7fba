"""Checkpoints: a folder that holds what a network is and what it has learnt. Loading one runs no code.

    step0010000-ep003-loss5.715.pd/
        meta.json               the config, the classes, step, epoch, seed, versions
        model.safetensors       parameters and batch-norm statistics by name
        optimizer.safetensors   the optimizer's velocity of each parameter, if training may go on from here
"""
import dataclasses
import json
import os
import re
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from model.classes import Classes
from model.config import Config

FORMAT = 1
META, MODEL, OPTIMIZER = 'meta.json', 'model.safetensors', 'optimizer.safetensors'
CLASS_LAYERS = re.compile(r'conf_layer|semantic_seg_conv|maskiou_net\.10\.')
_PLAIN = ('step', 'epoch', 'seed', 'recipe', 'backbone_only')  # fields that JSON holds as they are


class CheckpointError(ValueError):
    """A checkpoint that cannot be used. The message is one line for the user."""


@dataclass(frozen=True)
class Checkpoint:
    """What is in a checkpoint.

    Attributes:
        config: `Config` of the network.
        classes: `Classes` that it tells apart; None where there is only a backbone.
        tensors: numpy arrays by parameter name.
        velocity: the optimizer's, by parameter name; empty when training cannot go on exactly from here.
        step: how many steps made it, None when it was converted.
        epoch: of that step.
        seed: of the run that made it.
        recipe: dict, how that run learns, as train.py goes on with it: lr and lr_schedule.
        backbone_only: whether there is nothing but a backbone, to start training from.
    """
    config: Config
    classes: Optional[Classes]
    tensors: dict
    velocity: dict = field(default_factory=dict)
    step: Optional[int] = None
    epoch: Optional[int] = None
    seed: Optional[int] = None
    recipe: Optional[dict] = None
    backbone_only: bool = False


def save_checkpoint(folder, checkpoint):
    """Write a checkpoint beside its place and move it there, so that a kill leaves no half of one.

    Args:
        folder: where; what is there is replaced.
        checkpoint: `Checkpoint`.
    Raises:
        OSError: the disk is full or may not be written to. Nothing has changed then.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f'.{folder.name}.{os.getpid()}.draft')
    try:
        draft.mkdir()
        _write_tensors(draft / MODEL, checkpoint.tensors)
        if checkpoint.velocity:
            _write_tensors(draft / OPTIMIZER, checkpoint.velocity)
        (draft / META).write_text(json.dumps(_describe(checkpoint), indent=1, ensure_ascii=False), 'utf-8')
        for path in (*draft.iterdir(), draft):
            _flush(path)
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def load_checkpoint(folder, optimizer=False):
    """Read a checkpoint.

    Args:
        folder: its folder.
        optimizer: whether the optimizer's velocity is wanted too.
    Returns:
        `Checkpoint`, its tensors float32.
    Raises:
        CheckpointError: it is not there, damaged, or not what this version can read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f'{folder}: no such checkpoint; a checkpoint is a folder with {META} and {MODEL}')
    meta = _read_meta(folder / META)
    try:
        config = Config(**meta['config'])
        classes = meta['classes'] and Classes(**meta['classes'])
        if classes and len(classes) + 1 != config.num_classes:
            raise ValueError(f'{len(classes)} classes and a network of {config.num_classes} with background')
        rest = {key: meta[key] for key in _PLAIN}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f'{folder / META}: does not describe a network: {error}') from None
    velocity = _read_tensors(folder / OPTIMIZER) if optimizer and (folder / OPTIMIZER).exists() else {}
    return Checkpoint(config, classes, _read_tensors(folder / MODEL), velocity, **rest)


def restore(network, checkpoint, folder, other_classes=False):
    """Put a checkpoint's tensors into a network.

    Args:
        network: `Yolact` of the checkpoint's config; of a backbone-only checkpoint the backbone is replaced.
        checkpoint: `Checkpoint`.
        folder: where it came from, for messages.
        other_classes: whether the network may tell other classes apart. The layers that depend on them are left.
    Raises:
        CheckpointError: a tensor is missing, too many, or of another shape. The network is as it was then.
    """
    state = network.state_dict()
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items()
               if not other_classes or not CLASS_LAYERS.search(name)}
    wanted = {name for name in state if (not checkpoint.backbone_only or name.startswith('backbone.'))
              and (not other_classes or not CLASS_LAYERS.search(name))}
    for names, problem in ((wanted - tensors.keys(), 'lacks'), (tensors.keys() - wanted, 'has an unknown')):
        if names:
            raise CheckpointError(f'{folder}: {problem} {sorted(names)[0]} ({len(names)} in all); '
                                  f'is it a checkpoint of {network.config.backbone_name}?')
    for name, tensor in tensors.items():
        if list(tensor.shape) != list(state[name].shape):
            raise CheckpointError(f'{folder}: {name} is {list(tensor.shape)}, the network has '
                                  f'{list(state[name].shape)}; they must have the same classes and backbone')
    for name, tensor in tensors.items():
        state[name].set_value(tensor)


def tensors_of(network):
    """A network's parameters and statistics as numpy arrays by name."""
    return {name: value.numpy() for name, value in network.state_dict().items()}


def halve(checkpoint):
    """A checkpoint for prediction alone, in half precision: a quarter of the size on disk."""
    tensors = {name: tensor.astype(np.float16) for name, tensor in checkpoint.tensors.items()}
    return dataclasses.replace(checkpoint, tensors=tensors, velocity={})


def _describe(checkpoint):
    import paddle
    classes = checkpoint.classes and dataclasses.asdict(checkpoint.classes)
    return {'format': FORMAT, 'config': dataclasses.asdict(checkpoint.config), 'classes': classes,
            **{key: getattr(checkpoint, key) for key in _PLAIN},
            'versions': {'paddle': paddle.__version__, 'numpy': np.__version__}}


def _write_tensors(path, tensors):
    # Not save_file: that makes files that only their owner may read, whatever the umask.
    path.write_bytes(save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))


def _flush(path):
    """Have the disk itself hold a file or folder before the next step relies on it."""
    if path.is_dir() and os.name == 'nt':
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_meta(path):
    try:
        meta = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError) as error:
        raise CheckpointError(f'{path}: cannot be read: {error}') from None
    if not isinstance(meta, dict) or meta.get('format') != FORMAT:
        raise CheckpointError(f'{path}: not a checkpoint of format {FORMAT}; was it made by a newer version?')
    return meta


def _read_tensors(path):
    try:
        with safe_open(path, framework='numpy') as file:
            return {name: file.get_tensor(name).astype(np.float32, copy=False) for name in file.keys()}
    except (OSError, SafetensorError, TypeError, ValueError, struct.error) as error:
        raise CheckpointError(f'{path}: cannot be read: {error}; copy it again or take another checkpoint') from None
