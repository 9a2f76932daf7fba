"""Timing things that cannot share a process, by turns, so that a busy machine is equally hard on all of them."""
import multiprocessing
import time

PAUSE = 0.5  # seconds before each turn: the threads of the one before it go on waiting for work for a while


def take_turns(contestants, rounds):
    """The best time of each contestant.

    Args:
        contestants: dict of names to tuples of a function, importable by name, and its arguments. Each is called once
            in a process of its own, and returns a callable without arguments, which is timed.
        rounds: how many times, after one time that does not count.
    Returns:
        dict of names to seconds.
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


def alone(function, *arguments):
    """What a function, importable by name, returns in a process of its own, which is then killed: some libraries that
    it may have loaded do not get on when they leave."""
    context = multiprocessing.get_context('spawn')
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, function, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.kill()


def _answer(pipe, function, arguments):
    pipe.send(function(*arguments))
    time.sleep(60)


def _turn(pipe):
    time.sleep(PAUSE)
    pipe.send(None)
    return pipe.recv()


def _take_part(pipe, prepare, arguments):
    work = prepare(*arguments)
    while True:
        pipe.recv()
        began = time.perf_counter()
        work()
        pipe.send(time.perf_counter() - began)
