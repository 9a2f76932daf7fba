"""The shapes that label editors draw, as polygons: float64 [m, 2], x y in pixels."""
import numpy as np

from data.annotation_file import MAX_COORDINATE

ELLIPSE_POINTS = 64


class UnusableShape(Exception):
    """A shape to leave out. The message says why, and becomes part of a line."""


def rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """The rectangle between two opposite corners."""
    return polygon([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def ellipse(center: np.ndarray, radii: tuple[float, float], angle: float = 0) -> np.ndarray:
    """An ellipse.

    Args:
        center: float [2], x y.
        radii: along its own axes.
        angle: of the first axis, in radians from x to y.
    """
    turns = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS, endpoint=False)
    x, y = radii[0] * np.cos(turns), radii[1] * np.sin(turns)
    return polygon(center + np.stack([x * np.cos(angle) - y * np.sin(angle),
                                      x * np.sin(angle) + y * np.cos(angle)], 1))


def polygon(points: object) -> np.ndarray:
    """Points as an array.

    Raises:
        UnusableShape: one is far from any image.
        TypeError, ValueError: they are not pairs of numbers.
    """
    try:
        array = np.array(points, np.float64).reshape(-1, 2)
    except OverflowError:
        raise UnusableShape('it has a point far from any image') from None
    if not (np.abs(array) <= MAX_COORDINATE).all():  # NaN is not either
        raise UnusableShape('it has a point far from any image')
    return array
