"""The log of a run: a progress bar or lines on standard error, and log.jsonl."""
import contextlib
import json
import math
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TextIO, TypeVar, cast

from tqdm import tqdm

from system.messages import print_lines

MEAN_LOSS_STEPS = 100  # the loss in a checkpoint's name is the mean over so many steps

T = TypeVar('T')


class ScalarWriter(Protocol):
    """VisualDL's LogWriter, as far as it is used here."""

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        ...

    def close(self) -> None:
        ...


class Log:
    """Draws a progress bar on a terminal, or else prints a line every few steps; and writes log.jsonl.

    Only the main process logs steps. Every process prints which of its images and steps were skipped.

    Args:
        file: Path of log.jsonl, which is appended to. Each line is an object: of a step, time (seconds since 1970),
            step, epoch, lr, loss, each loss by its name, gradient_norm, data_time and step_time (seconds per step,
            means since the line before); of an evaluation, time, step, box_ap and mask_ap; of a step that was
            skipped, time, step, not_finite (names of losses) and image_ids.
        start: number of steps done before the run.
        steps: number of the run's last step; None where only its minutes are known.
        interval: steps between lines.
        main_process: whether this is the main process.
        scalars: also gets every number of the file; None for none.
    Attributes:
        skipped: number of steps skipped so far.
        skipped_in_a_row: number of steps skipped since the last one that was not.
    """

    def __init__(self, file: Path, start: int, steps: int | None, interval: int, main_process: bool = True,
                 scalars: ScalarWriter | None = None) -> None:
        self.file, self.start, self.steps, self.interval = file, start, steps, interval
        self.main_process, self.scalars = main_process, scalars
        self.skipped = self.skipped_in_a_row = 0
        self._start_time = self._line_time = time.time()
        self._start_progress: float | None = None
        self._line_step, self._data_time = start, 0.0
        self._total_losses: deque[float] = deque(maxlen=MEAN_LOSS_STEPS)
        self._problems: set[str] = set()
        self._bar = tqdm(total=steps, initial=start, bar_format='{desc}',
                         nrows=shutil.get_terminal_size().lines,
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
        # By importance, since what does not fit a terminal is cut.
        text = (f'{self._progress_text(step, progress)}  loss {self._total_losses[-1]:.3f}  epoch {epoch}  '
                + ' '.join(f'{name} {value:.3f}' for name, value in losses.items())
                + f'  lr {lr:.2e}  gradient {gradient_norm:.1f}')
        if not self._bar.disable:
            self._bar.set_description_str(text[:shutil.get_terminal_size().columns - 1], refresh=False)
        self._bar.update()
        if self.main_process and (step % self.interval == 0 or progress >= 1):
            now, count = time.time(), step - self._line_step
            data_time, step_time = self._data_time / count, (now - self._line_time) / count
            self.write(step, epoch=epoch, lr=lr, loss=self._total_losses[-1], **losses, gradient_norm=gradient_norm,
                       data_time=data_time, step_time=step_time)
            self._line_time, self._line_step, self._data_time = now, step, 0.0
            if self._bar.disable:
                print_lines(f'{text}  {step_time:.2f} s/step ({data_time:.2f} s waiting for data)')

    def _progress_text(self, step: int, progress: float) -> str:
        """Step, percentage, and the time left at the speed since the first step of this run."""
        now = time.time()
        if self._start_progress is None:
            self._start_time, self._start_progress = now, progress
        done = progress - self._start_progress
        left = (now - self._start_time) / done * max(1 - progress, 0) if done > 0 else None
        return (f'step {step}' + (f'/{self.steps}' if self.steps else '') + f'  {min(progress, 1):.0%}'
                + (f'  {tqdm.format_interval(left)} left' if left is not None else ''))

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
