"""The device that the network runs on: a CPU or a GPU."""
import importlib.metadata
import re

from system.cpu import keep_memory
from system.errors import UserError


def find_device(device: str | None = None) -> str:
    """The device to use, after checking that it is available.

    Args:
        device: 'cpu', 'gpu' or 'gpu:1'; None for a GPU if there is one, else the CPU.
    Returns:
        'cpu', 'gpu' or 'gpu:1'.
    Raises:
        UserError: there is no such device.
    """
    if device == 'cpu' or device is None and not _may_have_gpu():
        return 'cpu'
    import paddle  # takes seconds
    gpus = paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    if device is None:
        return 'gpu' if gpus else 'cpu'
    match = re.fullmatch('gpu(?::([0-9]+))?', device)
    if not match:
        raise UserError(f"device {device!r} is not 'cpu', 'gpu' or 'gpu:0'")
    if not paddle.device.is_compiled_with_cuda():
        raise UserError('this Paddle has no GPU support; install one that has (docs/gpu.md), or use the cpu')
    if int(match[1] or 0) >= gpus:
        raise UserError(f'{device}: there are {gpus} GPUs here, counted from 0')
    return device


def choose_device(device: str | None = None) -> None:
    """Make a device the one that Paddle uses from now on. Arguments and errors as of `find_device`."""
    import paddle
    device = find_device(device)
    paddle.device.set_device(device)
    if device == 'cpu':
        keep_memory()


def _may_have_gpu() -> bool:
    """Whether the GPU build of Paddle is installed, without importing it."""
    try:
        importlib.metadata.version('paddlepaddle-gpu')
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
