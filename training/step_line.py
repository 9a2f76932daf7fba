"""What a step came to, in a line that fits a terminal: how far the run is first, then the loss, then its parts."""
from collections.abc import Iterable, Mapping

from tqdm import tqdm

SEPARATOR = '  '


def progress_parts(step: int, steps: int | None, minutes: float, progress: float,
                   seconds_left: float | None) -> list[str]:
    """Step of steps, percentage, and the time left; in a run of minutes, how much of the time is used instead.

    Args:
        step: number of the step, from 1.
        steps: number of the run's last step; None where only its minutes are known.
        minutes: of the run; 0 where its steps are known.
        progress: share of the run that is done.
        seconds_left: as far as that is known.
    """
    parts = [f'step {step}' + (f'/{steps}' if steps else ''), f'{min(progress, 1):.0%}']
    if minutes:
        used, budget = (tqdm.format_interval(60 * minutes * share) for share in (progress, 1))
        return [*parts, f'{used} of {budget}']
    return parts if seconds_left is None else [*parts, f'{tqdm.format_interval(seconds_left)} left']


def loss_parts(losses: Mapping[str, float]) -> list[str]:
    """The total loss, and each loss that it consists of."""
    return [f'loss {sum(losses.values()):.3f}', *(f'{name} {value:.3f}' for name, value in losses.items())]


def join_parts(parts: Iterable[str], length: int | None = None) -> str:
    """The parts as a text; where they are longer than `length`, only the first ones, as many as fit whole."""
    text = ''
    for part in parts:
        longer = text + SEPARATOR * bool(text) + part
        if length is not None and len(longer) > length:
            return text or part[:length]
        text = longer
    return text
