"""Progress of long work: a bar on a terminal, or a line now and then where standard error goes to a file."""
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

LINE_INTERVAL = 30.0  # seconds between lines
MAX_DESCRIPTION = 1 / 3  # of a terminal's width; a longer one would push the numbers out

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
        size = terminal_size()
        description = shorten(description, int(size.columns * MAX_DESCRIPTION))
        return tqdm(total=total, desc=description or None, unit=f' {unit}', initial=initial, disable=not shown,
                    ncols=size.columns - 1, nrows=size.lines, leave=False)
    return tqdm(total=total, desc=description or None, unit=f' {unit}', initial=initial, disable=not shown,
                file=_Lines(), mininterval=LINE_INTERVAL, delay=LINE_INTERVAL, ncols=0)


def terminal_size() -> os.terminal_size:
    """Columns and lines of the terminal that standard error is; 80 x 24 where it does not say.

    Some say 0, for which tqdm would show nothing. Standard output, which `shutil` asks, may be a file.
    """
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # of a stream without a descriptor
        return shutil.get_terminal_size()
    return size if size.columns and size.lines else shutil.get_terminal_size()


def shorten(text: str, length: int) -> str:
    """A text of at most so many characters, the middle of a longer one left out."""
    if len(text) <= length:
        return text
    start = length // 2
    return f'{text[:start]}…{text[len(text) - (length - start - 1):]}'


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
