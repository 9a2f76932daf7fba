"""Asking a run to stop."""
import contextlib
import os
import signal

from system.messages import print_lines

SIGNALS = [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)]  # of this system


class LeftOut(KeyboardInterrupt):
    """A wish to stop came while something went on that may be left in the middle."""


class Interruption:
    """Ctrl-C, a request to terminate or a terminal that is closed, as a wish to stop that is granted after a step.

    Under nohup a closed terminal is no such wish. The launcher asks, twice within a second and then by force, when one
    of its processes has ended. No step can be finished then: it becomes a `DistributedError` at once.

    Attributes:
        signal: number of the signal that came, 0 before.
    """

    def __enter__(self):
        from system.distributed import peer_lost  # imports Paddle, whose own handler would replace these
        self.signal, self._may_be_left = 0, False
        self._others_end, self._launched = peer_lost, 'PADDLE_TRAINER_ID' in os.environ
        self._parent = os.getppid()
        self._earlier = {number: signal.signal(number, self._note) for number in SIGNALS
                         if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGINT}
        return self

    def __exit__(self, *_):
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        if self._launched:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's, which would hide the exit status

    def wanted(self):
        """Whether to stop: a signal came, or the launcher that started this process is gone."""
        if self._launched and os.getppid() != self._parent:
            self.signal = self.signal or signal.SIGTERM
        return self.signal != 0

    @contextlib.contextmanager
    def at_once(self):
        """While something goes on that may be left in the middle: a wish to stop raises `LeftOut` there."""
        if self.signal:
            raise LeftOut
        self._may_be_left = True
        try:
            yield
        finally:
            self._may_be_left = False

    def _note(self, number, _):
        # Not both of them: the launcher answers Ctrl-C, which everyone hears, by requests to terminate.
        signal.signal(number, signal.SIG_IGN if self._launched and number == signal.SIGTERM else self._stop)
        if self._others_end() and not self.signal:
            from system.distributed import DistributedError
            raise DistributedError
        first, self.signal = not self.signal, number
        if first:
            print_lines('stopping after this step, with a checkpoint; once more stops at once')
            if self._may_be_left:
                raise LeftOut

    def _stop(self, *_):
        raise KeyboardInterrupt
