"""Asking a run to stop."""
import os
import signal

from training.log import say


class Interruption:
    """Ctrl-C or a request to terminate, as a wish to stop that the training loop grants after a step.

    Attributes:
        signal: number of the signal that came, 0 before.
    """

    def __enter__(self):
        import paddle  # noqa: F401  sets a handler of its own, which would replace these
        self.signal = 0
        self._parent = os.getppid()
        self._earlier = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def wanted(self):
        """Whether to stop: a signal came, or the launcher that started this process is gone."""
        if 'PADDLE_TRAINER_ID' in os.environ and os.getppid() != self._parent:
            self.signal = self.signal or signal.SIGTERM
        return self.signal != 0

    def _note(self, number, _):
        # Not both of them: the launcher answers Ctrl-C, which everyone hears, by a request to terminate.
        signal.signal(number, self._stop)
        first, self.signal = not self.signal, number
        if first:
            say('stopping after this step, with a checkpoint; once more stops at once')

    def _stop(self, *_):
        raise KeyboardInterrupt
