"""A cache beside a checkpoint: the checkpoint as ONNX, so that it is converted only once."""
import contextlib
import hashlib
import os
import zipfile
from pathlib import Path

from engines.export import to_onnx
from engines.onnx_engine import OnnxFiles
from model.checkpoint import EMA, META, MODEL, Checkpoint
from system.files import replacing

VERSION = 4  # raise it when the same checkpoint is exported differently
KEY, NETWORK, MASK_IOU_NET = 'key', 'network.onnx', 'mask_iou.onnx'  # entries of the zip file


def cached_onnx(checkpoint: Checkpoint, folder: str | Path, precision: str) -> OnnxFiles:
    """A checkpoint as ONNX, in the form that is fastest on this machine.

    If the cache cannot be written, the checkpoint is converted again the next time.

    Args:
        checkpoint: `Checkpoint`.
        folder: its folder, beside which the cache is.
        precision: 'fp32' or 'bf16'.
    Raises:
        UserError, EngineError: as of `to_onnx`, if the cache is missing, damaged or of other weights.
    """
    folder = Path(os.path.abspath(folder))
    cache = folder.with_name(f'.{folder.name}.{precision}.zip')
    key = _key(folder)
    files = _read(cache, key, checkpoint.config.rescore_masks)
    if files is None:
        files = to_onnx(checkpoint, folder, winograd=precision == 'fp32')
        with contextlib.suppress(OSError):
            _write(cache, key, files)
    return files


def _key(folder: Path) -> bytes:
    """A hash of `VERSION` and of the weights that predict."""
    digest = hashlib.sha256(f'{VERSION}'.encode())
    for name in (META, EMA if (folder / EMA).exists() else MODEL):
        digest.update((folder / name).read_bytes())
    return digest.digest()


def _read(cache: Path, key: bytes, with_mask_iou_net: bool) -> OnnxFiles | None:
    """The files in a cache; None if it is missing, damaged or has another key."""
    try:
        if not cache.is_file():  # reading a pipe would wait
            return None
        with zipfile.ZipFile(cache) as archive:  # which checks checksums
            if archive.read(KEY) != key:
                return None
            return OnnxFiles(archive.read(NETWORK), archive.read(MASK_IOU_NET) if with_mask_iou_net else None)
    except Exception:  # of a damaged file zipfile raises many kinds
        return None


def _write(cache: Path, key: bytes, files: OnnxFiles) -> None:
    with replacing(cache, 'wb') as file, zipfile.ZipFile(file, 'w') as archive:
        for name, content in zip((KEY, NETWORK, MASK_IOU_NET), (key, *files)):
            if content is not None:
                archive.writestr(name, content)
