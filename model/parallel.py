"""One network trained by several processes, one for each device, that Paddle's launcher starts."""
import os

import paddle
import paddle.distributed as dist


def join():
    """Find the other processes, if the launcher started several.

    Returns:
        This process's rank, from 0, and the number of processes.
    """
    if int(os.environ.get('PADDLE_TRAINERS_NUM', 1)) > 1:
        dist.init_parallel_env()
    return dist.get_rank(), dist.get_world_size()


def add_up(tensor):
    """The sum of a tensor over all processes."""
    if dist.get_world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def add_up_gradients(parameters):
    """Give every parameter that is trained the sum of its gradients over all processes, in one message.

    A process whose pictures have no objects has no gradient for some of them, and counts as zero.
    """
    if dist.get_world_size() == 1:
        return
    trained = [parameter for parameter in parameters if not parameter.stop_gradient]
    gradients = [paddle.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in trained]
    message = add_up(paddle.concat([gradient.flatten() for gradient in gradients]))
    for parameter, part in zip(trained, message.split([parameter.size for parameter in trained])):
        parameter.grad = part.reshape(parameter.shape)


def wait_for_all():
    """Go on when every process is here."""
    add_up(paddle.zeros([1])).numpy()
