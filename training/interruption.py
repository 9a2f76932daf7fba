"""Asking a run to stop."""
import os
import signal

from training.log import say


class Interruption:
    """Ctrl-C or a request to terminate, as a wish to stop that the training loop grants after a step.

    The launcher asks, twice within a second and then by force, when one of its processes has ended. No step can be
    finished then: it becomes a `ParallelError` at once.

    Attributes:
        signal: number of the signal that came, 0 before.
    """

    def __enter__(self):
        from model.parallel import others_end  # imports Paddle, whose own handler would replace these
        self.signal = 0
        self._others_end, self._launched = others_end, 'PADDLE_TRAINER_ID' in os.environ
        self._parent = os.getppid()
        self._earlier = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
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

    def _note(self, number, _):
        # Not both of them: the launcher answers Ctrl-C, which everyone hears, by requests to terminate.
        signal.signal(number, signal.SIG_IGN if self._launched and number == signal.SIGTERM else self._stop)
        if self._others_end() and not self.signal:
            from model.parallel import ParallelError
            raise ParallelError
        first, self.signal = not self.signal, number
        if first:
            say('stopping after this step, with a checkpoint; once more stops at once')

    def _stop(self, *_):
        raise KeyboardInterrupt
