"""Types of command-line flags for argparse, whose errors say which values are allowed; and flags with a new name."""
import argparse
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from system.messages import one_line

MAX_INT = 10 ** 9  # no flag has a use for more
MAX_BATCH_SIZE, MAX_WORKERS = 4096, 256


def nonempty_path(text: str) -> Path:
    """A file or a folder."""
    if not text:  # Path('') is the current folder
        raise argparse.ArgumentTypeError('is empty; name one')
    return Path(text)


def nonempty(text: str) -> str:
    """A text of at least one character."""
    if not text:
        raise argparse.ArgumentTypeError('is empty; leave the flag out, or name something')
    return text


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    value = _float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text} is not from 0 to 1')
    return value


def decay(text: str) -> float:
    """A number from 0 to less than 1, as the decay of an EMA."""
    value = fraction(text)
    if value == 1:
        raise argparse.ArgumentTypeError(f'{text} is not less than 1')
    return value


def positive_float(text: str) -> float:
    """A finite number above 0."""
    value = _float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'{text} is not a number above 0')
    return value


def nonnegative_float(text: str) -> float:
    """A finite number from 0."""
    value = _float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f'{text} is not a number from 0')
    return value


def positive_int(text: str) -> int:
    """A whole number from 1."""
    return _int(text, minimum=1)


def nonnegative_int(text: str) -> int:
    """A whole number from 0."""
    return _int(text, minimum=0)


def int_in_range(minimum: int, maximum: int) -> Callable[[str], int]:
    """The type of whole numbers from minimum to maximum, both included."""
    return functools.partial(_int, minimum=minimum, maximum=maximum)


def boolean(text: str) -> bool:
    """true or false, 1 or 0, in upper or lower case."""
    if text.lower() not in ('true', 'false', '1', '0'):
        raise argparse.ArgumentTypeError(f'{text} is not true or false')
    return text.lower() in ('true', '1')


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number') from None


def _int(text: str, minimum: int, maximum: int = MAX_INT) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number') from None
    if value < minimum:
        raise argparse.ArgumentTypeError(f'{text} is not {minimum} or more')
    if value > maximum:
        raise argparse.ArgumentTypeError(f'{text} is more than {maximum}')
    return value


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose errors are one line, not ten lines of usage first."""

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and arg_strings == ['--']:  # which argparse takes for no value at all
            raise argparse.ArgumentError(action, '-- is no value')
        return super()._get_values(action, arg_strings)  # private to argparse

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'{self.prog}: error: {one_line(message)}\n')


class Renamed(argparse.Action):
    """A flag that has another name now, in `const`: an error that says which. Help does not list it."""

    def __init__(self, option_strings: list[str], dest: str, const: str) -> None:
        super().__init__(option_strings, dest, nargs='?', const=const, help=argparse.SUPPRESS)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object,
                 option_string: str | None = None) -> None:
        parser.error(f'{option_string} is now {self.const}')
