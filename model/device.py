"""What the network computes on."""
from model.cpu import keep_memory


class DeviceError(ValueError):
    """A device that is not there. The message is one line for the user."""


def choose_device(device=None):
    """Have Paddle work on a device from now on.

    Args:
        device: 'cpu', 'gpu' or 'gpu:1'; None takes a GPU if there is one.
    Raises:
        DeviceError: there is no such device.
    """
    import paddle  # takes seconds, which those who only want the error need not

    gpus = paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    if device is None:
        device = 'gpu' if gpus else 'cpu'
    kind, _, number = device.partition(':')
    if kind not in ('cpu', 'gpu') or (number and not number.isdigit()):
        raise DeviceError(f"device {device!r} is not 'cpu', 'gpu' or 'gpu:0'")
    if kind == 'gpu' and not paddle.device.is_compiled_with_cuda():
        raise DeviceError('this Paddle has no GPU support; install requirements-gpu.txt, or use the cpu')
    if kind == 'gpu' and int(number or 0) >= gpus:
        raise DeviceError(f'{device}: there are {gpus} GPUs here, counted from 0')
    paddle.device.set_device(device)
    if kind == 'cpu':
        keep_memory()
