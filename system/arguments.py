"""Types of flags, for argparse: each raises an error that says what a value may be."""
import argparse
import math
from pathlib import Path

MAX_WHOLE_NUMBER = 10 ** 9  # no flag has a use for more


def nonempty_path(text: str) -> Path:
    """A file or a folder."""
    if not text:  # Path would make it the current folder
        raise argparse.ArgumentTypeError('is empty; name one')
    return Path(text)


def fraction(text: str) -> float:
    """From 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text} is not from 0 to 1')
    return value


def decay(text: str) -> float:
    """From 0 to less than 1."""
    value = fraction(text)
    if value == 1:
        raise argparse.ArgumentTypeError(f'{text} is not less than 1')
    return value


def positive(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'{text} is not a number above 0')
    return value


def positive_int(text: str) -> int:
    """A whole number from 1."""
    return _whole_number(1, text)


def nonnegative_int(text: str) -> int:
    """A whole number from 0."""
    return _whole_number(0, text)


def _whole_number(least: int, text: str) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f'{text} is not {least} or more')
    if value > MAX_WHOLE_NUMBER:
        raise argparse.ArgumentTypeError(f'{text} is more than {MAX_WHOLE_NUMBER}')
    return value


def boolean(text: str) -> bool:
    """true or false."""
    if text.lower() not in ('true', 'false', '1', '0'):
        raise argparse.ArgumentTypeError(f'{text} is not true or false')
    return text.lower() in ('true', '1')
