"""Worker processes that compute results ahead of time. Killing one at any moment loses no result."""
import gc
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import cv2
from tqdm import tqdm

from system.cpu import keep_memory
from system.errors import UserError

if TYPE_CHECKING:
    from multiprocessing.context import ForkContext, SpawnContext  # Windows has no ForkContext

MAX_RESTARTS = 3  # of workers that are killed one after another over the same item

Item = TypeVar('Item')
Result = TypeVar('Result')


def parallel_map(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """The results of a function for each item, in order, computed by worker processes ahead of the caller.

    Each worker has a pipe of its own. In `concurrent.futures` and `multiprocessing.Pool` they share one, and a worker
    that is killed while it sends a result leaves the caller waiting for the rest of it.

    Args:
        function: what to call with each item. Workers share its memory where the system can fork.
        items: they are consumed at most 2 * `workers` ahead of the results.
        workers: number of processes; 0 computes each result in this process when it is asked for.
    Raises:
        UserError: workers are killed again and again, as when memory runs out.
        Exception: the function raised it.
    """
    if not workers:
        yield from map(function, items)
        return
    pool = WorkerPool(function, workers)
    threads = ThreadPoolExecutor(workers)
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(threads.submit(pool.run, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.terminate()
        threads.shutdown(cancel_futures=True)
        pool.close()


class Worker(NamedTuple):
    """A process, and this end of the pipe to it."""
    process: BaseProcess
    pipe: Connection


class WorkerPool(Generic[Item, Result]):
    """Processes that wait for items. A worker that was killed is replaced.

    Args:
        function: what a worker calls with each item.
        workers: number of processes.
    """

    def __init__(self, function: Callable[[Item], Result], workers: int) -> None:
        self.function, self.terminated = function, False
        self.forks = 'fork' in multiprocessing.get_all_start_methods()
        self.context: ForkContext | SpawnContext = (
            multiprocessing.get_context('fork') if self.forks else multiprocessing.get_context('spawn'))
        self.lock = threading.Lock()  # a process that is forked while another one starts would inherit its pipe
        self.idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self.workers: set[Worker] = set()
        for _ in range(workers):
            self.idle.put(self._start())

    def run(self, item: Item) -> Result:
        """The result for an item, from the next idle worker, and from another one if that is killed meanwhile.

        Raises:
            UserError: `MAX_RESTARTS` workers were killed over it.
            CancelledError: the pool was terminated meanwhile.
            Exception: the function raised it.
        """
        for _ in range(MAX_RESTARTS):
            worker = self.idle.get()
            try:
                worker.pipe.send(item)
                result = worker.pipe.recv()
                break
            except (EOFError, OSError):
                worker = self._restart(worker)
            finally:
                self.idle.put(worker)
        else:
            raise UserError('worker processes were killed again and again; is there enough memory? Fewer '
                            '--num_workers need less')
        if isinstance(result, Exception):
            raise result
        return result

    def terminate(self) -> None:
        """End all workers, whatever they are doing."""
        with self.lock:
            self.terminated = True
            for process, _ in self.workers:
                process.kill()
            for process, _ in self.workers:
                process.join()

    def close(self) -> None:
        """Close the pipes when no thread uses them any more. An exception's traceback would keep them open."""
        for process, pipe in self.workers:
            pipe.close()
            process.close()

    def _restart(self, killed: Worker) -> Worker:
        with self.lock:
            if self.terminated:
                raise CancelledError
            self.workers.discard(killed)
            worker = self._start()
        tqdm.write('a worker process was killed; work goes on with a new one', file=sys.stderr)
        return worker

    def _start(self) -> Worker:
        ours, theirs = self.context.Pipe()
        inherited = [ours, *(worker.pipe for worker in self.workers)] if self.forks else []
        process = self.context.Process(target=_work, args=(self.function, theirs, inherited), daemon=True)
        process.start()
        theirs.close()
        worker = Worker(process, ours)
        self.workers.add(worker)
        return worker


def _work(function: Callable[[Item], Result], pipe: Connection, inherited: Iterable[Connection]) -> None:
    """The main loop of a worker. It ends when its pipe does, and so with its parent process, however that ends."""
    gc.freeze()  # collecting inherited objects, such as an ONNX Runtime session, would wait for threads not forked
    for connection in inherited:  # a pipe does not end while anybody else holds its other end
        connection.close()
    # Ctrl-C and a kill of the process group are for the parent process, which needs its workers to finish the step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(os, 'setpgrp'):
        os.setpgrp()
    cv2.setNumThreads(0)
    keep_memory()
    while True:
        try:
            item = pipe.recv()
            result: Result | Exception
            try:
                result = function(item)
            except Exception as error:
                result = error
            pipe.send(result)
        except (EOFError, OSError):
            os._exit(0)
