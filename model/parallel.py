"""One network trained by several processes, one for each device, that Paddle's launcher starts."""
import itertools
import os
import time

import paddle
import paddle.distributed as dist
from paddle.distributed.parallel import core

_meetings = itertools.count()


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
    """Go on when every process is here, however long that takes. On a CPU all others give up after half a minute."""
    if dist.get_world_size() == 1:
        return
    store, number = core.create_or_get_global_tcp_store(), next(_meetings)
    _meet(store, f'arrived {number}')
    if dist.get_rank() == 0:  # who keeps the store, and leaves last
        _meet(store, f'left {number}')
    else:
        store.add(f'left {number}', 1)


def _meet(store, name):
    store.add(name, 1)
    while store.add(name, 0) < dist.get_world_size():
        time.sleep(0.1)
