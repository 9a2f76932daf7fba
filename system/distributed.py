"""Data-parallel training: one process per device, started by Paddle's launcher. Rank 0 is the main process."""
import contextlib
import itertools
import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection
from typing import Protocol

import paddle
import paddle.distributed as dist

from system.errors import UserError
from system.gpu_errors import as_gpu_error

TIMEOUT = 60  # seconds, for what takes the other processes no time
POLL_INTERVAL = 0.1  # seconds
NCCL_GRACE = 1  # seconds until a process that caused an error of NCCL has ended
PEER_LOST = 'another process has ended or cannot be reached; its own log may tell why'
_barriers = itertools.count()
_peers: list[socket.socket] = []  # nothing is sent; each one reaches its end when the process at the other end does


class DistributedError(UserError):
    """Another process has ended or cannot be reached."""

    def __init__(self, message: str = PEER_LOST) -> None:
        super().__init__(message)


class _TCPStore(Protocol):
    """Counters and values that all processes share. The main process holds them."""

    def add(self, key: str, amount: int) -> int: ...

    def set(self, key: str, value: str) -> None: ...

    def get(self, key: str) -> bytes: ...


def init_process_group() -> tuple[int, int]:
    """Connect to the other processes, if the launcher started several.

    Returns:
        The rank of this process and the world size.
    Raises:
        DistributedError: one of them has ended already.
    """
    if int(os.environ.get('PADDLE_TRAINERS_NUM', 1)) > 1:
        dist.init_parallel_env()
        with _distributed_errors():
            _connect_peers(os.environ['PADDLE_TRAINER_ENDPOINTS'].partition(':')[0])
    return dist.get_rank(), dist.get_world_size()


def peer_lost(timeout: float = 0) -> bool:
    """Whether another process has ended, or does so within a timeout in seconds.

    The main process notices any other one, the others notice the main process.
    """
    return bool(connection.wait(_peers, timeout))


def all_reduce(tensor: paddle.Tensor) -> paddle.Tensor:
    """The sum of a tensor over all processes, written to the tensor itself.

    Raises:
        DistributedError: one of them has ended.
    """
    if dist.get_world_size() > 1:
        with _distributed_errors():
            dist.all_reduce(tensor)
    return tensor


def all_reduce_gradients(parameters: Iterable[paddle.Tensor]) -> None:
    """Replace the gradient of each trained parameter by its sum over all processes, with a single all-reduce.

    A process whose images have no objects has no gradient for some parameters. It counts as zero.

    Raises:
        DistributedError: one of them has ended.
    """
    if dist.get_world_size() == 1:
        return
    trained = [parameter for parameter in parameters if not parameter.stop_gradient]
    gradients = [paddle.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in trained]
    summed = all_reduce(paddle.concat([gradient.flatten() for gradient in gradients]))
    for parameter, gradient in zip(trained, summed.split([parameter.size for parameter in trained])):
        parameter.grad = gradient.reshape(parameter.shape)


def barrier(timeout: float = math.inf) -> None:
    """Wait until every process is here.

    It goes through the TCP store, for a collective operation of gloo fails after half a minute.

    Args:
        timeout: seconds that the main process waits for the others. These wait as long as the main process lives.
    Raises:
        DistributedError: one of them has ended, or the timeout is over.
    """
    if dist.get_world_size() == 1:
        return
    with _distributed_errors():
        store, number = _tcp_store(), next(_barriers)
        main_process = dist.get_rank() == 0
        store.add(f'arrived {number}', 1)
        _wait_for_all(store, f'arrived {number}', timeout if main_process else math.inf, peer_lost)
        store.add(f'left {number}', 1)
        if main_process:  # it holds the store, and so leaves last; the others may end meanwhile
            _wait_for_all(store, f'left {number}', TIMEOUT, _never_lost)


def _wait_for_all(store: _TCPStore, counter: str, timeout: float, lost: Callable[[float], bool]) -> None:
    """Wait until a counter has reached the world size, as long as `lost`, which sleeps, returns False."""
    deadline = time.monotonic() + timeout
    while store.add(counter, 0) < dist.get_world_size():
        failed = lost(POLL_INTERVAL) or time.monotonic() > deadline
        if failed and store.add(counter, 0) < dist.get_world_size():
            raise DistributedError


def _never_lost(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _connect_peers(main_address: str) -> None:
    """Connect the main process, at an address, with each of the others, so that either notices when the other ends."""
    if hasattr(os, 'register_at_fork'):  # a worker's copy of the socket would outlive the process that started it
        os.register_at_fork(after_in_child=_close_peers)
    store = _tcp_store()
    if dist.get_rank():
        _peers.append(socket.create_connection((main_address, int(store.get('peer port'))), TIMEOUT))
        return
    with socket.create_server(('', 0), backlog=dist.get_world_size()) as server:
        server.settimeout(TIMEOUT)
        store.set('peer port', str(server.getsockname()[1]))
        _peers.extend(server.accept()[0] for _ in range(1, dist.get_world_size()))


def _close_peers() -> None:
    for peer in _peers:
        peer.close()
    _peers.clear()


def _tcp_store() -> _TCPStore:
    """The TCP store of the process group.

    This is private to Paddle. Its public API has nothing to wait for others longer than a collective operation may
    take, nor to tell them a port.
    """
    from paddle.distributed.parallel import core
    return core.create_or_get_global_tcp_store()


@contextlib.contextmanager
def _distributed_errors() -> Iterator[None]:
    """Turn the errors of gloo, the TCP store and sockets, when the other end is gone, into `DistributedError`.

    An error of this process's own GPU is none of them. One of NCCL may be either.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        of_gpu = as_gpu_error(error)
        if of_gpu and not ('NCCL' in str(of_gpu) and peer_lost(NCCL_GRACE)):
            raise of_gpu from error
        raise DistributedError from error
