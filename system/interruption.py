"""Ctrl-C, a request to terminate and a closed terminal, as something that a program can ask about."""
import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from system.messages import print_lines

SIGNALS = [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)]  # of this system


class Stopped(KeyboardInterrupt):
    """A signal stopped the work at once.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int, message: str = '') -> None:
        super().__init__(message)
        self.signal = number


class StopRequest:
    """Turns signals into a stop request honoured after the current step. A second signal stops at once.

    Under nohup a closed terminal is no such request. Paddle's launcher asks, twice within a second and then by force,
    when one of its processes has ended. No step can be finished then: it becomes a `DistributedError` at once.

    Args:
        message: what to print when the first signal comes.
    Attributes:
        signal: number of the signal that came, 0 before.
    """

    def __init__(self, message: str = '') -> None:
        self.message, self.signal, self._immediately = message, 0, False
        self._launched, self._parent = 'PADDLE_TRAINER_ID' in os.environ, os.getppid()

    def __enter__(self) -> 'StopRequest':
        if self._launched:
            import system.distributed  # noqa: F401  imports Paddle, whose own handler would replace these
        self._earlier = {number: signal.signal(number, self._note) for number in SIGNALS
                         if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGINT}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        if self._launched:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's, which would hide the exit status

    @property
    def requested(self) -> bool:
        """Whether to stop: a signal came, or the launcher that started this process is gone."""
        if self._launched and os.getppid() != self._parent:
            self.signal = self.signal or signal.SIGTERM
        return self.signal != 0

    @contextlib.contextmanager
    def immediately(self) -> Iterator[None]:
        """While something goes on that may be left in the middle: a stop request raises `Stopped` there."""
        if self.signal:
            raise Stopped(self.signal)
        self._immediately = True
        try:
            yield
        finally:
            self._immediately = False

    def _note(self, number: int, _: FrameType | None) -> None:
        # Not both of them: the launcher answers Ctrl-C, which everyone hears, by requests to terminate.
        signal.signal(number, signal.SIG_IGN if self._launched and number == signal.SIGTERM else self._stop)
        if self._launched and not self.signal:
            from system.distributed import DistributedError, peer_lost
            if peer_lost():
                raise DistributedError
        first, self.signal = not self.signal, number
        if first and self.message:
            print_lines(self.message)
        if first and self._immediately:
            raise Stopped(number)

    def _stop(self, number: int, _: FrameType | None) -> None:
        raise Stopped(number)
