"""The log of a run: a progress bar or lines on standard error, and log.jsonl."""
import contextlib
import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TextIO, TypeVar, cast

from tqdm import tqdm

from system.messages import print_lines
from system.progress import LINE_INTERVAL, terminal_size
from training.step_line import join_parts, loss_parts, progress_parts

MEAN_LOSS_STEPS = 100  # the loss in a checkpoint's name is the mean over so many steps

T = TypeVar('T')


class ScalarWriter(Protocol):
    """VisualDL's LogWriter, as far as it is used here."""

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        ...

    def close(self) -> None:
        ...


class Log:
    """Draws a line of progress on a terminal, or else prints one now and then; and writes log.jsonl.

    Only the main process logs steps. Every process prints which of its images and steps were skipped.

    Args:
        file: Path of log.jsonl, which is appended to. Each line is an object: of a step, time (seconds since 1970),
            step, epoch, lr, loss, each loss by its name, gradient_norm, data_time and step_time (seconds per step,
            means since the line before); of an evaluation, time, step, box_ap and mask_ap; of a step that was
            skipped, time, step, not_finite (names of losses) and image_ids.
        start: number of steps done before the run.
        steps: number of the run's last step; None where only its minutes are known.
        interval: steps between lines of the file. Where there is no terminal, each is printed too, as is the first
            step of the run, and one every half a minute if that is more often.
        main_process: whether this is the main process.
        scalars: also gets every number of the file; None for none.
        minutes: of the whole run; 0 where its steps are known.
    Attributes:
        skipped: number of steps skipped so far.
        skipped_in_a_row: number of steps skipped since the last one that was not.
    """

    def __init__(self, file: Path, start: int, steps: int | None, interval: int, main_process: bool = True,
                 scalars: ScalarWriter | None = None, minutes: float = 0.0) -> None:
        self.file, self.start, self.steps, self.minutes, self.interval = file, start, steps, minutes, interval
        self.main_process, self.scalars = main_process, scalars
        self.skipped = self.skipped_in_a_row = 0
        self._start_time = self._line_time = time.time()
        self._start_progress: float | None = None
        self._line_step, self._data_time = start, 0.0
        self._printed_time = -math.inf
        self._total_losses: deque[float] = deque(maxlen=MEAN_LOSS_STEPS)
        self._problems: set[str] = set()
        self._bar = tqdm(total=steps, initial=start, bar_format='{desc}',
                         nrows=terminal_size().lines,
                         disable=not main_process or not sys.stderr.isatty())

    def waiting_for(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches, while the time that is spent waiting for them is measured."""
        asked = time.time()
        for batch in batches:
            self._data_time += time.time() - asked
            yield batch
            asked = time.time()

    def step(self, step: int, epoch: int, lr: float, losses: Mapping[str, float], gradient_norm: float,
             progress: float) -> None:
        """Log a step.

        Args:
            step: its number, from 1.
            epoch, lr: of the step.
            losses: weighted, by name.
            gradient_norm: before clipping.
            progress: share of the run that is done.
        """
        self.skipped_in_a_row = 0
        self._total_losses.append(sum(losses.values()))
        parts = [*progress_parts(step, self.steps, self.minutes, progress, self._seconds_left(progress)),
                 *loss_parts(losses), f'epoch {epoch}', f'lr {lr:.2e}', f'gradient {gradient_norm:.1f}']
        self._draw(parts)
        if not self.main_process:
            return
        now, count = time.time(), step - self._line_step
        data_time, step_time = self._data_time / count, (now - self._line_time) / count
        ends_interval = step % self.interval == 0 or progress >= 1
        if ends_interval:
            self.write(step, epoch=epoch, lr=lr, loss=self._total_losses[-1], **losses, gradient_norm=gradient_norm,
                       data_time=data_time, step_time=step_time)
            self._line_time, self._line_step, self._data_time = now, step, 0.0
        if self._bar.disable and (ends_interval or now - self._printed_time >= LINE_INTERVAL):
            print_lines(join_parts([*parts, f'{step_time:.2f} s/step ({data_time:.2f} s waiting for data)']))
            self._printed_time = now

    def _draw(self, parts: Iterable[str]) -> None:
        """Draw what fits the terminal, as wide as it is now."""
        if not self._bar.disable:
            self._bar.ncols = terminal_size().columns - 1
            self._bar.set_description_str(join_parts(parts, self._bar.ncols), refresh=False)
        self._bar.update()

    def _seconds_left(self, progress: float) -> float | None:
        """The time left at the speed since the first step of this run; None in that one."""
        now = time.time()
        if self._start_progress is None:
            self._start_time, self._start_progress = now, progress
        done = progress - self._start_progress
        return (now - self._start_time) / done * max(1 - progress, 0) if done > 0 else None

    def write(self, step: int, **values: float | Sequence[int | str]) -> None:
        """Write a line about a step to the file. Its folder is made again if somebody has removed it."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(self.file, 'a', encoding='utf-8', opener=_open_own) as file:
                file.write(json.dumps({'time': round(time.time(), 3), 'step': step, **values}) + '\n')
        except OSError as error:
            error.filename = str(self.file)  # that of a full disk has none
            raise
        if self.scalars:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self.scalars.add_scalar(name, value, step)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of other work than steps out of step_time."""
        start = time.time()
        yield
        seconds = time.time() - start
        self._start_time += seconds
        self._line_time += seconds

    def skip(self, step: int, losses: Mapping[str, float], image_ids: Sequence[int | str]) -> None:
        """Log a step that was skipped because a loss or a gradient is not finite."""
        self.skipped += 1
        self.skipped_in_a_row += 1
        names = [name for name, value in losses.items() if not math.isfinite(value)] or ['gradient']
        if self.main_process:
            self.write(step, not_finite=names, image_ids=image_ids)
        print_lines(f'step {step} is skipped: {", ".join(names)} not finite; images {", ".join(map(str, image_ids))}')
        self._bar.update()

    def problems(self, problems: Iterable[str]) -> None:
        """Print a line about each image that cannot be read, once per image."""
        for problem in sorted(set(problems) - self._problems):
            print_lines(f'skipped: {problem}')
        self._problems.update(problems)

    def mean_loss(self) -> float | None:
        """The total loss, as a mean over the last 100 steps that were not skipped; None before the first one."""
        return sum(self._total_losses) / len(self._total_losses) if self._total_losses else None

    def close(self) -> None:
        """Close the files and print how much was skipped."""
        self._bar.close()
        if self.scalars:
            self.scalars.close()
        if self._problems:
            print_lines(f'images that were skipped: {len(self._problems)}')
        if self.skipped:
            print_lines(f'steps that were skipped: {self.skipped}')


def _open_own(path: str, flags: int) -> int:
    """Open a file to append to, but neither what a link there leads to, nor a pipe, which might wait for ever."""
    special = getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_NONBLOCK', 0)  # Windows has neither
    return os.open(path, flags | special, 0o666)


def lossy(stream: TextIO) -> TextIO:
    """A stream whose reader may go away, as when a terminal is closed. What is written then is lost."""
    return cast(TextIO, _LossyStream(stream))  # it has every attribute of the stream


class _LossyStream:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()
