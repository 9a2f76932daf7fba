"""What the network computes on."""
import importlib.metadata

from system.cpu import keep_memory
from system.errors import UserError


def find_device(device=None):
    """A device, after a look whether it is there.

    Args:
        device: 'cpu', 'gpu' or 'gpu:1'; None takes a GPU if there is one.
    Returns:
        str of the same kind.
    Raises:
        UserError: there is no such device.
    """
    if device == 'cpu' or device is None and not _may_have_gpu():
        return 'cpu'
    import paddle  # takes seconds
    gpus = paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    if device is None:
        return 'gpu' if gpus else 'cpu'
    kind, _, number = device.partition(':')
    if kind != 'gpu' or (number and not number.isdigit()):
        raise UserError(f"device {device!r} is not 'cpu', 'gpu' or 'gpu:0'")
    if kind == 'gpu' and not paddle.device.is_compiled_with_cuda():
        raise UserError('this Paddle has no GPU support; install requirements-gpu.txt, or use the cpu')
    if kind == 'gpu' and int(number or 0) >= gpus:
        raise UserError(f'{device}: there are {gpus} GPUs here, counted from 0')
    return device


def choose_device(device=None):
    """Have Paddle work on a device from now on. Arguments and errors as of `find_device`."""
    import paddle
    device = find_device(device)
    paddle.device.set_device(device)
    if device == 'cpu':
        keep_memory()


def _may_have_gpu():
    """Whether this Paddle may be one for GPUs, without importing it."""
    try:
        return importlib.metadata.version('paddlepaddle-gpu') != ''
    except importlib.metadata.PackageNotFoundError:
        return False
