"""Draws the curves of a training run from its log."""
from typing import TYPE_CHECKING, Any

import numpy as np

from visualization.training_log import LOSSES, TrainingLog, moving_average, series, smoothing_radius

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIN_LINE_POINTS = 3  # fewer are drawn as dots


def draw_curves(log: TrainingLog, title: str) -> 'Figure':
    """Losses, AP where it was evaluated, learning rate and time, over the steps of a run."""
    from matplotlib.figure import Figure
    panels = [_draw_loss, _draw_loss_terms, _draw_ap, _draw_learning_rate, _draw_time]
    if not series(log, 'mask_ap')[0].size:
        panels.remove(_draw_ap)
    columns = (len(panels) + 1) // 2
    figure = Figure(figsize=(6 * columns, 7.5), layout='constrained')
    figure.suptitle(title, parse_math=False)
    for place, draw in enumerate(panels, 1):
        axes = figure.add_subplot(2, columns, place)
        draw(axes, log)
        axes.set_xlabel('step')
        axes.grid(alpha=0.3)
    return figure


def _draw_loss(axes: 'Axes', log: TrainingLog) -> None:
    steps, values = series(log, 'loss')
    _plot(axes, steps, values, color='tab:blue', alpha=0.3, linewidth=0.8)
    _plot(axes, steps, moving_average(values), color='tab:blue')
    axes.set_title('loss')
    axes.set_ylim(0, 1.1 * np.percentile(values, 99))  # or the first steps would leave no room for the others


def _draw_loss_terms(axes: 'Axes', log: TrainingLog) -> None:
    smoothed = False
    for name in LOSSES:
        steps, values = series(log, name)
        if steps.size:
            _plot(axes, steps, moving_average(values), label=name.replace('_', '-'))
            smoothed |= smoothing_radius(len(values)) > 0
    axes.set_title('loss terms' + ', smoothed' * smoothed)
    axes.set_yscale('log')
    axes.legend()


def _draw_ap(axes: 'Axes', log: TrainingLog) -> None:
    for name in ('box_ap', 'mask_ap'):
        axes.plot(*series(log, name), marker='o', markersize=3, label=name.partition('_')[0])
    axes.set_title('AP on the validation images')
    axes.set_ylim(0, 1.1 * axes.dataLim.y1 or None)
    axes.legend()


def _draw_learning_rate(axes: 'Axes', log: TrainingLog) -> None:
    _plot(axes, *series(log, 'lr'))
    axes.set_title('learning rate')
    axes.set_ylim(bottom=0)


def _draw_time(axes: 'Axes', log: TrainingLog) -> None:
    for name, label in (('step_time', 'step'), ('data_time', 'waiting for data')):
        _plot(axes, *series(log, name), label=label)
    axes.set_title('seconds per step')
    axes.set_ylim(bottom=0)
    axes.legend()


def _plot(axes: 'Axes', steps: np.ndarray, values: np.ndarray, **style: Any) -> None:
    """A line, or dots where there are hardly enough for one."""
    axes.plot(steps, values, marker='o' if len(steps) < MIN_LINE_POINTS else None, **style)
