"""Choosing an engine: ONNX Runtime or OpenVINO on a CPU; Paddle on a GPU, or where the user asks for it."""
from pathlib import Path

from engines.engine import Engine
from engines.errors import EngineError
from engines.onnx_cache import cached_onnx
from engines.onnx_engine import OnnxEngine, OnnxFiles
from model.checkpoint import FILES, Checkpoint, load_checkpoint, restore
from system.device import choose_device, find_device
from system.errors import UserError
from system.limits import MAX_ONNX, check_size

ENGINES = ('onnx', 'paddle')


def open_engine(model_path: str | Path, device: str | None = None, engine: str | None = None,
                precision: str = 'fp32') -> Engine:
    """Open a network in the fastest engine that is available, unless the user asks for one.

    Args:
        model_path: a checkpoint's folder, or an .onnx file that export.py wrote.
        device: 'cpu', 'gpu' or 'gpu:1'; None for a GPU if there is one, else the CPU.
        engine: 'onnx', 'paddle', or None for the fastest.
        precision: 'fp32'; 'bf16', on a CPU that has it; or 'amp', half precision on a GPU where that is safe.
    Returns:
        `OnnxEngine`, `OpenVinoEngine` or `PaddleEngine`.
    Raises:
        UserError: the weights cannot be used, or there is no such device, engine or precision.
    """
    path, is_onnx_file = Path(model_path), str(model_path).endswith('.onnx')
    if is_onnx_file and engine == 'paddle':
        raise UserError(f'{path}: is for ONNX Runtime; leave --engine out')
    device = 'cpu' if is_onnx_file and device is None else find_device(device)
    _check_combination(device, 'onnx' if is_onnx_file else engine, precision)
    if is_onnx_file:
        return _open_onnx_file(path, precision)
    checkpoint = load_checkpoint(path)
    if checkpoint.backbone_only:
        raise UserError(f'{path}: only a backbone, to start training from; it finds nothing yet')
    if device == 'cpu' and engine != 'paddle':
        try:
            return _open_onnx(cached_onnx(checkpoint, path, precision), path, precision)
        except EngineError as error:
            if engine == 'onnx' or precision == 'bf16':  # Paddle would not be what the user asked for
                raise UserError(f'{path}: cannot be made ready for the CPU: {error}') from None
    return _open_paddle(checkpoint, path, device, precision)


def model_files(model_path: str | Path) -> list[Path]:
    """The files that a network is read from."""
    path = Path(model_path)
    if path.is_dir():
        return [path / name for name in sorted(FILES) if (path / name).exists()]
    return [file for file in (path, mask_iou_net_path(path)) if file.exists()]


def mask_iou_net_path(path: Path) -> Path:
    """The path of the mask-IoU net of a network in ONNX: X_mask_iou.onnx beside X.onnx."""
    return path.with_name(f'{path.stem}_mask_iou.onnx')


def _check_combination(device: str, engine: str | None, precision: str) -> None:
    """Raises a UserError for an engine or a precision that the device does not have."""
    if device != 'cpu' and engine == 'onnx':
        raise UserError('ONNX Runtime is for the CPU here; use --device cpu, or --engine paddle with a checkpoint')
    if device == 'cpu' and precision == 'amp':
        raise UserError('--amp=O1 needs a GPU; leave it out')
    if device != 'cpu' and precision == 'bf16':
        raise UserError('--precision bf16 is for a CPU; a GPU takes --amp=O1')
    if engine == 'paddle' and precision == 'bf16':
        raise UserError('Paddle computes in single precision on a CPU; leave --engine or --precision out')


def _open_onnx_file(path: Path, precision: str) -> Engine:
    """An .onnx file that export.py wrote, and the mask-IoU net beside it."""
    try:
        return _open_onnx(_read_onnx_files(path), path, precision)
    except EngineError as error:
        raise UserError(f'{path}: {error}') from None


def _read_onnx_files(path: Path) -> OnnxFiles:
    mask_iou_net = mask_iou_net_path(path)
    for file in (path, mask_iou_net):
        if file.exists() and not file.is_file():  # reading a pipe would wait
            raise UserError(f'{file}: is no file; check the name')
    try:
        for file in model_files(path):
            check_size(file, MAX_ONNX)
        return OnnxFiles(path.read_bytes(), mask_iou_net.read_bytes() if mask_iou_net.exists() else None)
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); check the name') from None


def _open_onnx(files: OnnxFiles, path: Path, precision: str) -> Engine:
    """A network in ONNX, in OpenVINO if it is to compute in bfloat16."""
    if precision == 'bf16':
        from engines.openvino_engine import OpenVinoEngine
        return OpenVinoEngine(files, path)
    return OnnxEngine(files, path)


def _open_paddle(checkpoint: Checkpoint, path: Path, device: str, precision: str) -> Engine:
    from engines.paddle_engine import PaddleEngine  # importing Paddle takes seconds
    from model.mixed_precision import half_precision
    from model.yolact import Yolact
    choose_device(device)
    network = Yolact(checkpoint.config)
    restore(network, checkpoint, path)
    assert checkpoint.classes is not None  # since it is not only a backbone
    return PaddleEngine(network, checkpoint.classes, compiled=device != 'cpu',
                        dtype=half_precision() if precision == 'amp' else 'float32')
