"""Timing contestants that cannot share a process, by turns, so that other load on the machine slows all alike."""
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, TypeVar

PAUSE = 0.5  # seconds before each turn, since threads of the contestant before it still wait for work by spinning

Name = TypeVar('Name')
Contestants = dict[Name, tuple[Any, ...]]  # of functions, each followed by its arguments


def take_turns(contestants: Mapping[Name, tuple[Any, ...]], rounds: int) -> dict[Name, float]:
    """The best time of each contestant, in seconds.

    Args:
        contestants: by name a function, importable by name, and its arguments. Each is called once in a process of its
            own, and returns a callable without arguments, which is timed.
        rounds: how many times to time each, after a first time that does not count.
    """
    context = multiprocessing.get_context('spawn')
    pipes, processes = {}, []
    for name, (prepare, *arguments) in contestants.items():
        pipes[name], theirs = context.Pipe()
        processes.append(context.Process(target=_take_part, args=(theirs, prepare, arguments), daemon=True))
        processes[-1].start()
        theirs.close()
    times = {name: [_turn(pipe) for _ in range(2)][1:] for name, pipe in pipes.items()}
    for _ in range(rounds - 1):
        for name, pipe in pipes.items():
            times[name].append(_turn(pipe))
    for process in processes:
        process.kill()
    return {name: min(seconds) for name, seconds in times.items()}


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function, importable by name, returns in a process of its own.

    The process is killed then, since some combinations of libraries crash when they are unloaded.
    """
    context = multiprocessing.get_context('spawn')
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, function, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.kill()


def _answer(pipe: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    pipe.send(function(*arguments))
    time.sleep(60)


def _turn(pipe: Connection) -> float:
    time.sleep(PAUSE)
    pipe.send(None)
    return pipe.recv()


def _take_part(pipe: Connection, prepare: Callable[..., Callable[[], object]], arguments: Sequence[Any]) -> None:
    work = prepare(*arguments)
    while True:
        pipe.recv()
        began = time.perf_counter()
        work()
        pipe.send(time.perf_counter() - began)
