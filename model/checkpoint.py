"""Checkpoints: a folder that holds what a network is and what it has learnt. Loading one runs no code.

    step0010000-ep003-loss5.715.pd/
        meta.json               the config, the classes, step, epoch, recipe, versions
        model.safetensors       parameters and batch-norm statistics by name
        optimizer.safetensors   the optimizer's state of each parameter, to resume training
        averaged.safetensors    EMA of parameters and statistics, if there is one; it predicts
"""
import dataclasses
import json
import math
import os
import reprlib
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from model.classes import Classes
from model.config import Config
from model.parameter_names import depends_on_classes
from system.errors import UserError
from system.files import replacing_folder
from system.limits import MAX_WEIGHTS, check_size

if TYPE_CHECKING:
    from model.yolact import Yolact

FORMAT = 1
META, MODEL = 'meta.json', 'model.safetensors'
OPTIMIZER, EMA = 'optimizer.safetensors', 'averaged.safetensors'
FILES = {META, MODEL, OPTIMIZER, EMA}
MAX_STEP = 10 ** 9
MAX_META_BYTES = 10 ** 7  # ten thousand classes take less than a tenth
_PLAIN = ('step', 'epoch', 'recipe', 'backbone_only')  # fields that JSON holds as they are


@dataclass(frozen=True)
class Checkpoint:
    """What is in a checkpoint.

    Attributes:
        config: `Config` of the network.
        classes: `Classes` that it tells apart; None where there is only a backbone.
        tensors: numpy arrays by parameter name.
        optimizer_state: numpy arrays by parameter name, of AdamW with a suffix such as ':moment1'; empty when training
            cannot go on exactly from here.
        step: how many steps made it, None when it was converted.
        epoch: of that step.
        recipe: dict, how that run learns, as train.py goes on with it (`training.recipe.Recipe`).
        backbone_only: whether there is nothing but a backbone, to start training from.
        ema: numpy arrays by parameter name, the EMA over the run; empty without one.
        seconds: how long the run has trained.
        run: name of the run, made up when it started; empty where it is not known.
    """
    config: Config
    classes: Classes | None
    tensors: dict[str, np.ndarray]
    optimizer_state: dict[str, np.ndarray] = field(default_factory=dict)
    step: int | None = None
    epoch: int | None = None
    recipe: dict[str, Any] | None = None
    backbone_only: bool = False
    ema: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0
    run: str = ''


def check_place(folder: str | Path) -> None:
    """Make sure that saving a checkpoint in a place costs nothing but an earlier checkpoint.

    Args:
        folder: where it is to be saved.
    Raises:
        UserError: there is something else.
    """
    folder = Path(os.path.abspath(folder))  # whose last part is a name, which ".." is not; links stay
    if folder.is_dir():
        alien = sorted({path.name for path in folder.iterdir()} - FILES)
        if alien:
            raise UserError(f'{folder}: holds {alien[0]}, which is of no checkpoint; name another folder')
    elif os.path.lexists(folder):
        raise UserError(f'{folder}: is a file; name a folder')


def save_checkpoint(folder: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint beside its place and move it there, so that a kill leaves no half of one.

    Args:
        folder: where; a checkpoint that is there is replaced.
        checkpoint: `Checkpoint`.
    Raises:
        UserError: there is something else in its place.
        OSError: the disk is full or may not be written to. Nothing has changed then.
    """
    check_place(folder)
    with replacing_folder(folder) as part:
        _write_tensors(part / MODEL, checkpoint.tensors)
        for name, tensors in ((OPTIMIZER, checkpoint.optimizer_state), (EMA, checkpoint.ema)):
            if tensors:
                _write_tensors(part / name, tensors)
        (part / META).write_text(json.dumps(_describe(checkpoint), indent=1, ensure_ascii=False), 'utf-8')


def load_checkpoint(folder: str | Path, training: bool = False) -> Checkpoint:
    """Read a checkpoint.

    Args:
        folder: its folder.
        training: whether to go on with training, which takes all that there is. Otherwise there is no optimizer
            state, and the EMA, where there is one, is the weights.
    Returns:
        `Checkpoint`, its tensors float32.
    Raises:
        UserError: it is not there, damaged, or not what this version can read.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise UserError(f'{folder}: no such checkpoint; a checkpoint is a folder with {META} and {MODEL}')
    if not os.path.lexists(folder / META):
        raise UserError(f'{folder}: is no checkpoint, which is a folder with {META} and {MODEL}; name one')
    _check_files(folder)
    meta = _read_meta(folder / META)
    try:
        config = Config(**meta['config'])
        rest = {key: meta[key] for key in _PLAIN} | {'seconds': meta.get('seconds', 0), 'run': meta.get('run', '')}
        classes = _read_classes(meta['classes'], config, rest['backbone_only'])
        _check_plain(**rest)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        # A value may be as long as the file.
        problem = f'{error} is missing' if isinstance(error, KeyError) else str(error)[:200]
        raise UserError(f'{folder / META}: does not describe a network: {problem}; take the file that was saved '
                        'with the weights') from None
    ema = _read_tensors(folder / EMA) if (folder / EMA).exists() else {}
    if ema and not training:
        _check_size(folder / EMA, config, ema)
        return Checkpoint(config, classes, ema, **rest)
    tensors = _read_tensors(folder / MODEL)
    if not rest['backbone_only']:
        _check_size(folder / MODEL, config, tensors)
    optimizer_state = _read_tensors(folder / OPTIMIZER) if training and (folder / OPTIMIZER).exists() else {}
    for file, values in ((OPTIMIZER, optimizer_state), (EMA, ema)):
        for name, value in values.items():
            parameter, _, suffix = name.partition(':')
            scalar = suffix.endswith('_pow') and value.size == 1
            if parameter not in tensors or value.shape != tensors[parameter].shape and not scalar:
                raise UserError(f'{folder / file}: its {name} belongs to other weights than {MODEL}; take the '
                                'one that was saved with it, or remove it to go on without it')
    return Checkpoint(config, classes, tensors, optimizer_state, ema=ema, **rest)


def run_of(folder: Path) -> str:
    """Name of the run that saved a checkpoint; empty where that cannot be known."""
    try:
        _check_files(folder)
        run = _read_meta(folder / META).get('run')
    except UserError:
        return ''
    return run if isinstance(run, str) else ''


def _check_files(folder: Path) -> None:
    """A checkpoint has plain files of known names. Others may be links to what is none of its business, or pipes."""
    try:
        files = [path for path in folder.iterdir() if not path.name.startswith('.')]
        for path in files:
            if path.name not in FILES:
                raise UserError(f'{folder}: holds {path.name}, which is of no checkpoint; remove it')
            if not stat.S_ISREG(path.lstat().st_mode):
                raise UserError(f'{path}: is a link, a folder or a device, not a file; copy the checkpoint again')
    except OSError as error:
        raise UserError(f'{folder}: cannot be read ({error.strerror}); check its permissions') from None


def _read_classes(described: dict[str, Any] | None, config: Config, backbone_only: bool) -> Classes | None:
    if described is None:
        if not backbone_only:
            raise ValueError('no classes')
        return None
    classes = Classes(**described)
    if len(classes) + 1 != config.num_classes:
        raise ValueError(f'{len(classes)} classes and a network of {config.num_classes} with background')
    return classes


def _check_plain(step: object, epoch: object, recipe: object, backbone_only: object, seconds: object,
                 run: object) -> None:
    for name, value in (('step', step), ('epoch', epoch)):
        if value is not None and not (type(value) is int and 0 <= value <= MAX_STEP):
            raise ValueError(f'{name} is {reprlib.repr(value)}')
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 <= seconds < math.inf:
        raise ValueError(f'seconds is {seconds!r}')
    if not isinstance(run, str):
        raise ValueError(f'run is {reprlib.repr(run)}')
    if type(backbone_only) is not bool:
        raise ValueError(f'backbone_only is {backbone_only!r}')
    if recipe is not None and type(recipe) is not dict:
        raise ValueError(f'recipe is {recipe!r}')


def restore(network: 'Yolact', checkpoint: Checkpoint, folder: str | Path, other_classes: bool = False) -> None:
    """Put a checkpoint's tensors into a network.

    Args:
        network: `Yolact` of the checkpoint's config; of a backbone-only checkpoint the backbone is replaced.
        checkpoint: `Checkpoint`.
        folder: where it came from, for messages.
        other_classes: whether the network may tell other classes apart. The layers that depend on them are left.
    Raises:
        UserError: a tensor is missing, too many, or of another shape. The network is as it was then.
    """
    state = network.state_dict()
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items()
               if not other_classes or not depends_on_classes(name)}
    wanted = {name for name in state if (not checkpoint.backbone_only or name.startswith('backbone.'))
              and (not other_classes or not depends_on_classes(name))}
    for names, problem in ((wanted - tensors.keys(), 'lacks'), (tensors.keys() - wanted, 'has an unknown')):
        if names:
            raise UserError(f'{folder}: {problem} {sorted(names)[0]} ({len(names)} in all); '
                            f'is it a checkpoint of {network.config.backbone_name}?')
    for name, tensor in tensors.items():
        if list(tensor.shape) != list(state[name].shape):
            raise UserError(f'{folder}: {name} is {list(tensor.shape)}, the network has '
                            f'{list(state[name].shape)}; they must have the same classes and backbone')
    for name, tensor in tensors.items():
        state[name].set_value(tensor)


def tensors_of(network: 'Yolact') -> dict[str, np.ndarray]:
    """A network's parameters and statistics as numpy arrays by name."""
    return {name: value.numpy() for name, value in network.state_dict().items()}


def halve(checkpoint: Checkpoint) -> Checkpoint:
    """The weights of a checkpoint alone, in half precision. Who starts from them takes nothing else of their run."""
    largest = np.finfo(np.float16).max  # beyond which a tensor stays as it is
    tensors = {name: tensor.astype(np.float16) if np.abs(tensor).max(initial=0) <= largest else tensor
               for name, tensor in checkpoint.tensors.items()}
    return dataclasses.replace(checkpoint, tensors=tensors, optimizer_state={}, recipe=None, run='')


def _describe(checkpoint: Checkpoint) -> dict[str, Any]:
    import paddle
    classes = checkpoint.classes and dataclasses.asdict(checkpoint.classes)
    return {'format': FORMAT, 'config': dataclasses.asdict(checkpoint.config), 'classes': classes,
            **{key: getattr(checkpoint, key) for key in (*_PLAIN, 'seconds', 'run')},
            'versions': {'paddle': paddle.__version__, 'numpy': np.__version__}}


def _write_tensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    # Not save_file: that makes files that only their owner may read, whatever the umask.
    path.write_bytes(save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_META_BYTES:
            raise ValueError('larger than any description of a network')
        meta = json.loads(path.read_text('utf-8'))
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); copy the checkpoint again or take another '
                        'one') from None
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path}: is not the JSON of a checkpoint ({error}); copy it again') from None
    if not isinstance(meta, dict) or meta.get('format') != FORMAT:
        raise UserError(f'{path}: not a checkpoint of format {FORMAT}; was it made by a newer version?')
    return meta


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    try:
        check_size(path, MAX_WEIGHTS)
        with safe_open(path, framework='numpy') as file:
            return {name: _as_float32(name, file.get_tensor(name)) for name in file.keys()}
    except (AttributeError, OSError, SafetensorError, TypeError, ValueError, struct.error) as error:
        # An AttributeError is of a type that NumPy has not.
        raise UserError(f'{path}: cannot be read: {error}; copy it again or take another checkpoint') from None


def _as_float32(name: str, tensor: np.ndarray) -> np.ndarray:
    if tensor.dtype.kind != 'f':
        raise ValueError(f'{name} holds {tensor.dtype}, which no network learns')
    tensor = tensor.astype(np.float32, copy=False)
    if not np.isfinite(tensor).all():
        raise ValueError(f'{name} holds numbers that are not finite')
    return tensor


def _check_size(path: Path, config: Config, tensors: dict[str, np.ndarray]) -> None:
    """The description could ask for a network that takes all memory, which is seen before it is built."""
    if sum(tensor.size for tensor in tensors.values()) < config.min_parameters:
        raise UserError(f'{path}: holds too little for the network of {META}; copy both again')
    outputs = config.anchors_per_cell * config.num_classes
    weights = tensors.get('prediction_layers.0.conf_layer.weight')
    if weights is None or weights.shape[:1] != (outputs,):
        raise UserError(f'{path}: is not of the network of {META}, which has {config.anchors_per_cell} anchors a '
                        f'cell and {config.num_classes} classes with background; copy both again')
