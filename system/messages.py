"""Messages for the user."""
import re
import sys

from tqdm import tqdm

_UNPRINTABLE = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]')


def one_line(text: object, max_length: int = 1000) -> str:
    """A text with line breaks, control characters and lone surrogates escaped, which a file's name may contain.

    The middle of a text of more than `max_length` characters is left out.
    """
    text = str(text)
    if len(text) > max_length:
        text = f'{text[:2 * max_length // 3]} … {text[-max_length // 3:]}'
    return _UNPRINTABLE.sub(lambda match: repr(match[0])[1:-1], text)


def pluralize(number: int, noun: str) -> str:
    """A number and what it counts: 0 objects, 1 object, 2 objects, 2 classes."""
    plural = 'es' if noun.endswith('s') else 's'
    return f'{number} {noun}{plural * (number != 1)}'


def print_lines(*lines: object) -> None:
    """Print lines on standard error, above a progress bar if there is one."""
    for line in lines:
        tqdm.write(str(line), file=sys.stderr)
