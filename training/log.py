"""What a run says while it goes on."""
import contextlib
import json
import math
import sys
import time
from collections import deque

from tqdm import tqdm

MEAN_OF = 100  # steps that the loss in a checkpoint's name is the mean of


class Log:
    """A bar on a terminal, else a line now and then; and a JSON object a line in a file.

    Of several processes only the first one tells of steps, and each one of the images that it skipped.

    Args:
        file: Path of the file, which is appended to. Each line holds time (seconds since 1970), step, epoch, lr,
            loss, each loss by its name, data_time and step_time (seconds, means since the line before); or, after an
            evaluation, time, step, box_ap and mask_ap; or, of a step that was skipped, time, step, not_finite (names
            of losses) and image_ids.
        start, steps: of the run.
        interval: steps between lines.
        leader: whether this is the first process.
        scalars: VisualDL LogWriter that also gets every number of the file; None for none.
    Attributes:
        in_a_row: how many steps were skipped, the last one among them.
    """

    def __init__(self, file, start, steps, interval, leader=True, scalars=None):
        self.file, self.start, self.steps, self.interval = file, start, steps, interval
        self.leader, self.scalars = leader, scalars
        self.began = self.last = time.time()
        self.waited, self.told = 0.0, start
        self.totals = deque(maxlen=MEAN_OF)
        self.skipped = self.in_a_row = 0
        self.named = set()
        self.bar = tqdm(total=steps, initial=start, unit='step', dynamic_ncols=True,
                        disable=not leader or not sys.stderr.isatty())

    def waiting(self, seconds):
        """Take account of time that was spent waiting for a batch."""
        self.waited += seconds

    def step(self, step, epoch, rate, losses):
        """Tell of a step: its epoch, learning rate and losses by name."""
        self.in_a_row = 0
        self.totals.append(sum(losses.values()))
        shown = f'loss {self.totals[-1]:.3f} ' + ' '.join(f'{name} {value:.3f}' for name, value in losses.items())
        self.bar.set_description_str(f'epoch {epoch} lr {rate:.2e} {shown}', refresh=False)
        self.bar.update()
        if self.leader and (step % self.interval == 0 or step == self.steps):
            self._line(step, epoch, rate, losses, shown)

    def _line(self, step, epoch, rate, losses, shown):
        now, count = time.time(), step - self.told
        data_time, step_time = self.waited / count, (now - self.last) / count
        self.write(step, epoch=epoch, lr=rate, loss=self.totals[-1], **losses, data_time=data_time,
                   step_time=step_time)
        self.last, self.told, self.waited = now, step, 0.0
        if self.bar.disable:
            left = tqdm.format_interval((now - self.began) / (step - self.start) * (self.steps - step))
            say(f'step {step}/{self.steps} epoch {epoch} lr {rate:.2e} {shown} {step_time:.2f} s/step '
                f'({data_time:.2f} of them waiting for data), {left} left')
        else:
            self.bar.set_postfix_str(f'{data_time:.2f} s of a step waiting for data', refresh=False)

    def write(self, step, **told):
        """Put what there is to tell about a step into the file. Its folder is made where somebody has removed it."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file, 'a', encoding='utf-8') as file:
            file.write(json.dumps({'time': round(time.time(), 3), 'step': step, **told}) + '\n')
        if self.scalars:
            for name, value in told.items():
                if not isinstance(value, list):
                    self.scalars.add_scalar(name, value, step)

    def pause(self, seconds):
        """Leave time that went into other things than steps out of what a step takes."""
        self.began += seconds
        self.last += seconds

    def skip(self, step, losses, image_ids):
        """Tell of a step that was not taken, because a loss or a gradient is not finite."""
        self.skipped += 1
        self.in_a_row += 1
        names = [name for name, value in losses.items() if not math.isfinite(value)] or ['gradient']
        if self.leader:
            self.write(step, not_finite=names, image_ids=image_ids)
        say(f'step {step} is skipped: {", ".join(names)} not finite; images {", ".join(map(str, image_ids))}')
        self.bar.update()

    def problems(self, lines):
        """Name each damaged image once."""
        for line in sorted(set(lines) - self.named):
            say(f'skipped: {line}')
        self.named.update(lines)

    def mean(self):
        """The total loss, over the last 100 steps that were taken; None before the first one."""
        return sum(self.totals) / len(self.totals) if self.totals else None

    def close(self):
        """Sum up."""
        self.bar.close()
        if self.scalars:
            self.scalars.close()
        if self.named:
            say(f'images that were skipped: {len(self.named)}')
        if self.skipped:
            say(f'steps that were skipped: {self.skipped}')


class Listener:
    """A stream that somebody may stop reading, who closes a terminal or ends a pipe. What is said then is lost.

    Args:
        stream: such as sys.stderr.
    """

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self):
        with contextlib.suppress(OSError):
            self._stream.flush()


def say(*lines):
    """Lines for the user, above the bar."""
    for line in lines:
        tqdm.write(line, file=sys.stderr)
