"""What computes the network: ONNX Runtime on a CPU, Paddle on a GPU or where one asks for it."""
from pathlib import Path

from engines.engine import Engine
from engines.errors import EngineError
from engines.onnx_cache import cached_onnx
from engines.onnx_engine import OnnxEngine
from model.checkpoint import FILES, Checkpoint, load_checkpoint, restore
from system.device import choose_device, find_device
from system.errors import UserError

ENGINES = ('onnx', 'paddle')


def open_engine(model_path: str | Path, device: str | None = None, engine: str | None = None,
                precision: str = 'fp32') -> Engine:
    """What computes a network: the fastest at hand, unless one is asked for.

    Args:
        model_path: a checkpoint's folder, or an .onnx file that export.py wrote.
        device: 'cpu', 'gpu' or 'gpu:1'; by default a GPU if there is one.
        engine: 'onnx', 'paddle' or None.
        precision: 'fp32'; 'bf16', of a CPU that has it; or 'amp', half precision of a GPU where that is safe.
    Returns:
        `PaddleEngine`, `OnnxEngine` or `OpenVinoEngine`.
    Raises:
        UserError: the weights cannot be used.
        UserError: there is no such device, or it has no such engine or precision.
    """
    path, is_onnx = Path(model_path), str(model_path).endswith('.onnx')
    if is_onnx and engine == 'paddle':
        raise UserError(f'{path}: is for ONNX Runtime; leave --engine out')
    device = 'cpu' if is_onnx and device is None else find_device(device)
    if device != 'cpu' and (is_onnx or engine == 'onnx'):
        raise UserError('ONNX Runtime is for the CPU here; use --device cpu, or --engine paddle with a checkpoint')
    if precision == ('amp' if device == 'cpu' else 'bf16'):
        raise UserError('--amp=O1 needs a GPU; leave it out' if device == 'cpu' else
                        '--precision bf16 is for a CPU; a GPU takes --amp=O1')
    if precision == 'bf16' and engine == 'paddle':
        raise UserError('Paddle computes in single precision on a CPU; leave --engine or --precision out')
    if is_onnx:
        try:
            return _on_cpu(precision)(*_read_onnx(path), path)
        except EngineError as error:
            raise UserError(f'{path}: {error}') from None
    checkpoint = load_checkpoint(path)
    if checkpoint.backbone_only:
        raise UserError(f'{path}: only a backbone, to start training from; it finds nothing yet')
    if device == 'cpu' and engine != 'paddle':
        try:
            return _on_cpu(precision)(*cached_onnx(checkpoint, path, precision), path)
        except EngineError as error:
            if engine == 'onnx' or precision == 'bf16':
                raise UserError(f'{path}: cannot be made ready for the CPU: {error}') from None
    return _open_paddle(checkpoint, path, device, precision)


def _on_cpu(precision: str) -> type[OnnxEngine]:
    if precision == 'fp32':
        return OnnxEngine
    from engines.openvino_engine import OpenVinoEngine
    return OpenVinoEngine


def _open_paddle(checkpoint: Checkpoint, path: Path, device: str, precision: str) -> Engine:
    from engines.paddle_engine import PaddleEngine
    from model.mixed_precision import UserError, half_precision  # imports Paddle, which takes seconds
    from model.yolact import Yolact
    choose_device(device)
    network = Yolact(checkpoint.config)
    restore(network, checkpoint, path)
    try:
        dtype = half_precision() if precision == 'amp' else 'float32'
    except UserError as error:
        raise UserError(error) from None
    assert checkpoint.classes is not None  # of a whole network
    return PaddleEngine(network, checkpoint.classes, device != 'cpu', dtype)


def _read_onnx(path: Path) -> tuple[bytes, bytes | None]:
    """The network, and the net that re-scores its masks if there is one beside it."""
    mask_iou_net = mask_iou_net_path(path)
    for file in (path, mask_iou_net):
        if file.exists() and not file.is_file():  # reading a pipe would wait
            raise UserError(f'{file}: is no file; check the name')
    try:
        return path.read_bytes(), mask_iou_net.read_bytes() if mask_iou_net.exists() else None
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); check the name') from None


def model_files(model_path: str | Path) -> list[Path]:
    """What a network is read from: list of Path."""
    path = Path(model_path)
    if path.is_dir():
        return [path / name for name in sorted(FILES) if (path / name).exists()]
    return [file for file in (path, mask_iou_net_path(path)) if file.exists()]


def mask_iou_net_path(path: Path) -> Path:
    """Where the net is that re-scores the masks of a network: Path, of X.onnx X_mask_iou.onnx."""
    return path.with_name(f'{path.stem}_mask_iou.onnx')
