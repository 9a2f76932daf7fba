"""Processes that do work ahead of time, and may be killed at any moment without harm."""
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import cv2
from tqdm import tqdm

from system.cpu import keep_memory
from system.errors import UserError

DEATHS = 3  # of processes, one after another over the same piece of work, before it is given up


def parallel_map(function, items, workers):
    """What a function makes of each item, in order, made by several processes while the caller does other things.

    Each process has a pipe of its own. In `concurrent.futures` and `multiprocessing.Pool` they share one, and a
    process that is killed while it hands over a batch leaves everyone waiting for the rest of it.

    Args:
        function: callable of an item. Its memory is shared with the processes where the system can fork.
        items: iterable.
        workers: number of processes; 0 does everything here, each item when it is asked for.
    Yields:
        Its results.
    Raises:
        UserError: processes die again and again, as when memory runs out.
        Exception: what the function raised.
    """
    if not workers:
        yield from map(function, items)
        return
    pool = WorkerPool(function, workers)
    threads = ThreadPoolExecutor(workers)
    waiting = deque()
    try:
        for item in items:
            waiting.append(threads.submit(pool.do, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.dismiss()
        threads.shutdown(cancel_futures=True)
        pool.close()


class WorkerPool:
    """Processes that wait for work."""

    def __init__(self, function, workers):
        self.function, self.over = function, False
        self.context = multiprocessing.get_context(
            'fork' if 'fork' in multiprocessing.get_all_start_methods() else 'spawn')
        self.changing = threading.Lock()  # a process forked while another is hired would hold on to its pipe
        self.idle = queue.SimpleQueue()
        self.everyone = set()
        for _ in range(workers):
            self.idle.put(self._hire())

    def do(self, item):
        """Have the next process that is free do the work, and another one if it dies over it."""
        for _ in range(DEATHS):
            process, pipe = worker = self.idle.get()
            try:
                pipe.send(item)
                result = pipe.recv()
                break
            except (EOFError, OSError):
                with self.changing:
                    if self.over:
                        return None
                    self.everyone.discard(worker)
                    worker = self._hire()
                tqdm.write('a worker process was killed; work goes on with a new one', file=sys.stderr)
            finally:
                self.idle.put(worker)
        else:
            raise UserError('worker processes were killed again and again; is there enough memory? Fewer '
                              '--num_workers need less')
        if isinstance(result, Exception):
            raise result
        return result

    def dismiss(self):
        """End all processes, whatever they are doing."""
        with self.changing:
            self.over = True
            for process, _ in self.everyone:
                process.kill()
            for process, _ in self.everyone:
                process.join()

    def close(self):
        """Close what was open to them, when nobody talks with them any more. An error would hold on to it."""
        for process, pipe in self.everyone:
            pipe.close()
            process.close()

    def _hire(self):
        ours, theirs = self.context.Pipe()
        forked = self.context.get_start_method() == 'fork'
        inherited = [ours, *(pipe for _, pipe in self.everyone)] if forked else []
        process = self.context.Process(target=_work, args=(self.function, theirs, inherited), daemon=True)
        process.start()
        theirs.close()
        self.everyone.add((process, ours))
        return process, ours


def _work(function, pipe, inherited):
    """The life of a worker. It ends with the pipe, and so with the process that hired it, however that ends."""
    for end in inherited:  # whoever holds the other end of a pipe keeps it from ending
        end.close()
    # Ctrl-C and a kill of the process group are for that process, which needs its workers to stop well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(os, 'setpgrp'):
        os.setpgrp()
    cv2.setNumThreads(0)
    keep_memory()
    while True:
        try:
            item = pipe.recv()
            try:
                result = function(item)
            except Exception as error:
                result = error
            pipe.send(result)
        except (EOFError, OSError):
            os._exit(0)
