"""What a checkpoint is as ONNX, worked out once and kept beside it."""
import contextlib
import hashlib
import os
import zipfile
from pathlib import Path

from engines.export import to_onnx
from model.checkpoint import EMA, META, MODEL, Checkpoint
from system.files import replacing

VERSION = 3  # to be raised when other files are exported of the same checkpoints
KEY, NETWORK, MASK_IOU_NET = 'key', 'network.onnx', 'mask_iou.onnx'


def cached_onnx(checkpoint: Checkpoint, folder: str | Path, precision: str) -> tuple[bytes, bytes | None]:
    """A checkpoint as ONNX, in the form that suits this machine.

    Args:
        checkpoint: `Checkpoint`.
        folder: where it came from, beside which the cache is.
        precision: 'fp32' or 'bf16'.
    Returns:
        as `to_onnx` does.
    Raises:
        UserError, EngineError, EngineError: it is not in the cache, and cannot be made.
    """
    folder = Path(os.path.abspath(folder))
    cache = folder.with_name(f'.{folder.name}.{precision}.zip')
    key = _key(folder)
    try:
        return _read(cache, key, checkpoint.config.rescore_masks)
    except Exception:  # none, or of other weights, or damaged, of which zipfile says what comes up
        files = to_onnx(checkpoint, folder, winograd=precision == 'fp32')
    with contextlib.suppress(OSError):  # it may be a folder that nobody writes to
        _write(cache, key, files)
    return files


def _key(folder: Path) -> bytes:
    """Changes with the weights that predict."""
    digest = hashlib.sha256(f'{VERSION}'.encode())
    for name in (META, EMA if (folder / EMA).exists() else MODEL):
        digest.update((folder / name).read_bytes())
    return digest.digest()


def _read(cache: Path, key: bytes, with_mask_iou_net: bool) -> tuple[bytes, bytes | None]:
    if not cache.is_file():  # reading a pipe would wait
        raise FileNotFoundError
    with zipfile.ZipFile(cache) as archive:  # which checks sums
        if archive.read(KEY) != key:
            raise ValueError('made of other weights')
        return archive.read(NETWORK), archive.read(MASK_IOU_NET) if with_mask_iou_net else None


def _write(cache: Path, key: bytes, files: tuple[bytes, bytes | None]) -> None:
    with replacing(cache, 'wb') as file, zipfile.ZipFile(file, 'w') as archive:
        for name, content in zip((KEY, NETWORK, MASK_IOU_NET), (key, *files)):
            if content is not None:
                archive.writestr(name, content)
