"""Messages for the user."""
import re


def one_line(text):
    """A message without what would break its line or command a terminal, such as a file's name may hold."""
    return re.sub(r'[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]', lambda found: repr(found[0])[1:-1], str(text))


def counted(number, noun):
    """A number and what it counts: 0 objects, 1 object, 2 objects, 2 classes."""
    plural = 'es' if noun.endswith('s') else 's'
    return f'{number} {noun}{plural * (number != 1)}'
