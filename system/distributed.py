"""One network trained by several processes, one for each device, that Paddle's launcher starts."""
import contextlib
import itertools
import math
import os
import socket
import time
from multiprocessing import connection

import paddle
import paddle.distributed as dist
from paddle.distributed.parallel import core

from system.errors import UserError

PATIENCE = 60  # seconds for others to do what takes them none
_meetings = itertools.count()
_lifelines = []  # connections that say nothing, and end with the processes at their other ends


class DistributedError(UserError):
    """Another process is lost. The message is one line for the user."""

    def __init__(self):
        super().__init__('another process has ended or cannot be reached; its own log may tell why')


def join():
    """Find the other processes, if the launcher started several.

    Returns:
        This process's rank, from 0, and the number of processes.
    Raises:
        DistributedError: one of them is gone already.
    """
    if int(os.environ.get('PADDLE_TRAINERS_NUM', 1)) > 1:
        dist.init_parallel_env()
        with _losses():
            _connect(os.environ['PADDLE_TRAINER_ENDPOINTS'].partition(':')[0])
    return dist.get_rank(), dist.get_world_size()


def _connect(first):
    """Lifelines between the first process, at an address, and each of the others."""
    if hasattr(os, 'register_at_fork'):  # what a worker holds would not end with the process that started it
        os.register_at_fork(after_in_child=_let_go)
    store = core.create_or_get_global_tcp_store()
    if dist.get_rank():
        _lifelines.append(socket.create_connection((first, int(store.get('lifelines'))), PATIENCE))
        return
    with socket.create_server(('', 0), backlog=dist.get_world_size()) as server:
        server.settimeout(PATIENCE)
        store.set('lifelines', str(server.getsockname()[1]))
        _lifelines.extend(server.accept()[0] for _ in range(1, dist.get_world_size()))


def _let_go():
    for lifeline in _lifelines:
        lifeline.close()
    _lifelines.clear()


def peer_lost(seconds=0):
    """Whether another process has ended, or does within some seconds. The first one sees all, the others see it."""
    return bool(connection.wait(_lifelines, seconds))


def all_reduce(tensor):
    """The sum of a tensor over all processes.

    Raises:
        DistributedError: one of them is gone.
    """
    if dist.get_world_size() > 1:
        with _losses():
            dist.all_reduce(tensor)
    return tensor


def all_reduce_gradients(parameters):
    """Give every parameter that is trained the sum of its gradients over all processes, in one message.

    A process whose images have no objects has no gradient for some of them, and counts as zero.
    """
    if dist.get_world_size() == 1:
        return
    trained = [parameter for parameter in parameters if not parameter.stop_gradient]
    gradients = [paddle.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in trained]
    message = all_reduce(paddle.concat([gradient.flatten() for gradient in gradients]))
    for parameter, part in zip(trained, message.split([parameter.size for parameter in trained])):
        parameter.grad = part.reshape(parameter.shape)


def barrier(patience=math.inf):
    """Go on when every process is here. On a CPU a message between them is given up after half a minute.

    Args:
        patience: seconds that the first process waits for the others. They wait for it as long as it lives.
    Raises:
        DistributedError: one of them is gone, or does not come.
    """
    if dist.get_world_size() == 1:
        return
    with _losses():
        store, number = core.create_or_get_global_tcp_store(), next(_meetings)
        first = dist.get_rank() == 0  # who keeps the store, and leaves last
        _meet(store, f'arrived {number}', patience if first else math.inf, peer_lost)
        if first:
            _meet(store, f'left {number}', PATIENCE, time.sleep)  # those who have left may end
        else:
            store.add(f'left {number}', 1)


def _meet(store, name, patience, pause):
    store.add(name, 1)
    until = time.monotonic() + patience
    while store.add(name, 0) < dist.get_world_size():
        lost = pause(0.1) or time.monotonic() > until
        if lost and store.add(name, 0) < dist.get_world_size():
            raise DistributedError


@contextlib.contextmanager
def _losses():
    """What gloo and the store say, and how, when the other end of a connection is gone."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise DistributedError from error
