"""Stop requests: Ctrl-C, SIGTERM and a closed terminal, as something that a program can ask about."""
import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from system.messages import print_lines

SIGNALS = [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)]  # of this system


class Stopped(KeyboardInterrupt):
    """A signal stopped the program at once.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int, message: str = '') -> None:
        super().__init__(message)
        self.signal = number


class StopRequest:
    """Turns signals into a stop request honoured after the current step. The same signal again stops at once.

    Enter it after Paddle is imported, whose handler of SIGTERM would replace this one. A closed terminal (SIGHUP)
    is ignored under nohup.

    Under Paddle's launcher, Ctrl-C reaches each process twice: from the terminal, and as a SIGTERM from the launcher.
    So another signal than the first one is not a second request. When one of the processes has ended, the launcher
    sends SIGTERM to the others, twice within a second, and then kills them. No step can be finished then, and a
    `DistributedError` is raised at once.

    Args:
        message: what to print when the first signal comes.
    Attributes:
        signal: number of the last signal that came, 0 before the first.
    """

    def __init__(self, message: str = '') -> None:
        self.message, self.signal, self._immediately = message, 0, False
        self._launched, self._parent = 'PADDLE_TRAINER_ID' in os.environ, os.getppid()

    def __enter__(self) -> 'StopRequest':
        if self._launched:
            import system.distributed  # noqa: F401  imports Paddle
        self._earlier = {number: signal.signal(number, self._request) for number in SIGNALS
                         if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGINT}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        if self._launched:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's, which would hide the exit status

    @property
    def requested(self) -> bool:
        """Whether to stop: a signal came, or the launcher that started this process has ended."""
        if self._launched and os.getppid() != self._parent:
            self.signal = self.signal or signal.SIGTERM
        return self.signal != 0

    @contextlib.contextmanager
    def immediately(self) -> Iterator[None]:
        """A block that a stop request ends at once.

        Raises:
            Stopped: a stop is requested, before the block or within it.
        """
        self._immediately = True
        try:
            if self.signal:
                raise Stopped(self.signal)
            yield
        finally:
            self._immediately = False

    def _request(self, number: int, _: FrameType | None) -> None:
        # The launcher sends SIGTERM twice.
        signal.signal(number, signal.SIG_IGN if self._launched and number == signal.SIGTERM else self._stop)
        if self._launched and not self.signal:
            from system.distributed import DistributedError, peer_lost
            if peer_lost():
                raise DistributedError
        first, self.signal = not self.signal, number
        if first and self.message:
            with contextlib.suppress(OSError):  # the terminal was closed
                print_lines(self.message)
        if first and self._immediately:
            raise Stopped(number)

    def _stop(self, number: int, _: FrameType | None) -> None:
        raise Stopped(number)
