"""Progress of long work: a bar on a terminal, or a line now and then where standard error goes to a file."""
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

LINE_INTERVAL = 30.0  # seconds between lines

Item = TypeVar('Item')


def progress_bar(total: int | None, unit: str, description: str = '', initial: int = 0, shown: bool = True) -> tqdm:
    """A tqdm progress bar on standard error, to use in a `with` statement.

    Where that is no terminal, it prints lines instead, without carriage returns: none for work of a few seconds.

    Args:
        total: number of things to do; None if it is not known.
        unit: what they are, such as 'images'.
        description: of the work.
        initial: how many are done already.
        shown: whether to show anything.
    """
    if sys.stderr and sys.stderr.isatty():
        size = shutil.get_terminal_size()  # where a terminal says 0, as some do, tqdm would show nothing
        return tqdm(total=total, desc=description or None, unit=f' {unit}', initial=initial, disable=not shown,
                    ncols=size.columns - 1, nrows=size.lines, leave=False)
    return tqdm(total=total, desc=description or None, unit=f' {unit}', initial=initial, disable=not shown,
                file=_Lines(), mininterval=LINE_INTERVAL, delay=LINE_INTERVAL, ncols=0)


class _Lines:
    """A stream for tqdm that turns each state of its bar into a line on standard error."""

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


def show_progress(items: Iterable[Item], total: int, unit: str, description: str = '') -> Iterator[Item]:
    """The same items, while a progress bar counts them. Arguments as of `progress_bar`."""
    with progress_bar(total, unit, description) as bar:
        for item in items:
            yield item
            bar.update()
