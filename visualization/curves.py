"""A training run's log → an image of how it goes."""
import errno
import json

import numpy as np

from system.errors import UserError

LOSSES = ('box', 'mask', 'class', 'mask_iou', 'semantic')
SMOOTHING = 0.05  # the part of a curve that each mean is taken over
MOST = 1e30  # larger numbers are none that training gives, and too large to draw
FEW = 3  # points, fewer than which are marked


def read_log(file):
    """What a run's log says of each step that counts.

    Where training went on from an earlier checkpoint, the steps that it went back are those of the later attempt.

    Args:
        file: Path of the log, as `training.log.Log` writes it.
    Returns:
        dict of steps, in order, to dicts of numbers by name.
    Raises:
        UserError: there is nothing to draw.
    """
    try:
        if file.exists() and not file.is_file():  # reading a pipe might never end
            raise OSError(errno.EINVAL, 'not a file')
        lines = file.read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError as error:
        raise UserError(f'{file}: cannot be read: {error.strerror}; name the folder that train.py saves in') from None
    steps = {}
    for numbers in filter(None, map(_numbers, lines)):
        while steps and next(reversed(steps)) > numbers['step']:
            steps.popitem()
        steps.setdefault(numbers['step'], {}).update(numbers)
    if not finite(steps, 'loss')[0].size:
        raise UserError(f'{file}: has no losses in it that are numbers')
    return steps


def _numbers(line):
    """A line's numbers by name; None for one that a kill cut short or that is damaged otherwise."""
    try:
        numbers = {name: float(value) for name, value in json.loads(line).items()}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return numbers if abs(numbers.get('step', np.nan)) < MOST else None


def draw_curves(steps, title):
    """Losses, AP where it was evaluated, learning rate and time, over the steps of a run.

    Args:
        steps: as `read_log` returns it.
        title: str.
    Returns:
        matplotlib Figure.
    """
    from matplotlib.figure import Figure
    panels = [_draw_loss, _draw_parts, _draw_ap, _draw_rate, _draw_time]
    if not finite(steps, 'mask_ap')[0].size:
        panels.remove(_draw_ap)
    columns = (len(panels) + 1) // 2
    figure = Figure(figsize=(6 * columns, 7.5), layout='constrained')
    figure.suptitle(title, parse_math=False)
    for place, draw in enumerate(panels, 1):
        axes = figure.add_subplot(2, columns, place)
        draw(axes, steps)
        axes.set_xlabel('step')
        axes.grid(alpha=0.3)
    return figure


def _draw_loss(axes, steps):
    at, values = finite(steps, 'loss')
    _plot(axes, at, values, color='tab:blue', alpha=0.3, linewidth=0.8)
    _plot(axes, at, smooth(values), color='tab:blue')
    axes.set_title('loss')
    axes.set_ylim(0, 1.1 * np.percentile(values, 99))  # or the first steps would leave no room for the others


def _draw_parts(axes, steps):
    smoothed = False
    for name in LOSSES:
        at, values = finite(steps, name)
        if at.size:
            _plot(axes, at, smooth(values), label=name.replace('_', '-'))
            smoothed |= _reach(values) > 0
    axes.set_title('its parts' + ', smoothed' * smoothed)
    axes.set_yscale('log')
    axes.legend()


def _draw_ap(axes, steps):
    for name in ('box_ap', 'mask_ap'):
        axes.plot(*finite(steps, name), marker='o', markersize=3, label=name.partition('_')[0])
    axes.set_title('AP on the validation images')
    axes.set_ylim(0, 1.1 * axes.dataLim.y1 or None)
    axes.legend()


def _draw_rate(axes, steps):
    _plot(axes, *finite(steps, 'lr'))
    axes.set_title('learning rate')
    axes.set_ylim(bottom=0)


def _draw_time(axes, steps):
    for name, label in (('step_time', 'all of it'), ('data_time', 'waiting for data')):
        _plot(axes, *finite(steps, name), label=label)
    axes.set_title('seconds a step')
    axes.set_ylim(bottom=0)
    axes.legend()


def _plot(axes, at, values, **style):
    """A line; or dots where there are hardly enough for one."""
    axes.plot(at, values, marker='o' if len(at) < FEW else None, **style)


def finite(steps, name):
    """The steps that have a finite number of that name, and the numbers."""
    pairs = [(step, numbers[name]) for step, numbers in steps.items() if abs(numbers.get(name, np.nan)) < MOST]
    return np.array(pairs).reshape(-1, 2).T


def smooth(values):
    """The mean of each value and of those around it, as an array of the same length. Few values stay as they are."""
    reach = _reach(values)
    places = np.arange(len(values))
    first, behind = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    sums = np.concatenate([[0], np.cumsum(values)])
    return (sums[behind] - sums[first]) / (behind - first)


def _reach(values):
    """How many values before each one, and after it, are part of its mean."""
    return int(len(values) * SMOOTHING / 2)
