"""Reads the log of a training run, and gives what curves are drawn of: series of numbers over the steps."""
import json
from pathlib import Path

import numpy as np

from system.errors import UserError
from system.limits import MAX_LOG, check_size

LOSSES = ('box', 'mask', 'class', 'mask_iou', 'semantic')  # their names in the log
SMOOTHING_FRACTION = 0.05  # of a series, that each moving average is taken over
MAX_ABSOLUTE = 1e30  # training gives no larger numbers, and they cannot be drawn

TrainingLog = dict[float, dict[str, float]]  # numbers by name, by step, in ascending order of steps


def read_training_log(file: Path) -> TrainingLog:
    """The numbers that a training run logged.

    Where training was resumed from an earlier checkpoint, the repeated steps are those of the later attempt.
    Damaged lines are left out.

    Args:
        file: the log, as `training.log` writes it.
    Raises:
        UserError: it cannot be read, or has no losses in it.
    """
    try:
        check_size(file, MAX_LOG)
        lines = file.read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError as error:
        raise UserError(f'{file}: cannot be read: {error.strerror}; name the folder that train.py saves in') from None
    log: TrainingLog = {}
    for numbers in filter(None, map(_parse, lines)):
        while log and next(reversed(log)) > numbers['step']:
            log.popitem()
        log.setdefault(numbers['step'], {}).update(numbers)
    if not series(log, 'loss')[0].size:
        raise UserError(f'{file}: has no losses in it that are numbers; train some steps first')
    return log


def _parse(line: str) -> dict[str, float] | None:
    """A line's numbers by name; None for one that a kill cut short or that is damaged otherwise."""
    try:
        numbers = {name: float(value) for name, value in json.loads(line).items()}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return numbers if abs(numbers.get('step', np.nan)) < MAX_ABSOLUTE else None


def series(log: TrainingLog, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps that logged a finite number of that name, float64 [n], and the numbers, float64 [n]."""
    pairs = [(step, numbers[name]) for step, numbers in log.items() if abs(numbers.get(name, np.nan)) < MAX_ABSOLUTE]
    steps, values = np.array(pairs).reshape(-1, 2).T
    return steps, values


def moving_average(values: np.ndarray) -> np.ndarray:
    """The mean of each value and its neighbours, `SMOOTHING_FRACTION` of all of them, float64 [n] as the values.

    At the ends the window is cut. Few values stay as they are.
    """
    radius = smoothing_radius(len(values))
    places = np.arange(len(values))
    start, stop = np.maximum(places - radius, 0), np.minimum(places + radius + 1, len(values))
    sums = np.concatenate([[0], np.cumsum(values)])
    return (sums[stop] - sums[start]) / (stop - start)


def smoothing_radius(number: int) -> int:
    """How many neighbours on each side are part of a moving average over so many values."""
    return int(number * SMOOTHING_FRACTION / 2)
