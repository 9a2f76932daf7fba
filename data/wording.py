"""Numbers of things, for people."""


def counted(number, noun):
    """A number and what it counts: 0 objects, 1 object, 2 objects, 2 classes."""
    plural = 'es' if noun.endswith('s') else 's'
    return f'{number} {noun}{plural * (number != 1)}'
