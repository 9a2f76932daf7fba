"""The label files of labelme (https://github.com/wkentaro/labelme)."""
import json
import os
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from data.annotation_file import MAX_COORDINATE, MAX_PIXELS
from data.images import ImageError, read_image
from system.errors import UserError
from system.messages import one_line, pluralize

VERSION = '5.5.0'  # of labelme, whose files these are
POINTS_OF_CIRCLE = 64


class _UselessShape(Exception):
    """The message is the part of a line that says why."""


def describe(image: str, size: tuple[int, int], objects: list[tuple[str, list[np.ndarray]]]) -> dict[str, Any]:
    """The content of a file.

    Args:
        image: str, the image's path from the file's folder.
        size: (height, width) in pixels.
        objects: list of (label, list of polygons, float [m, 2]). Parts of one object get a group of their own.
    Returns:
        dict, as JSON takes it.
    """
    shapes = [{'label': label, 'points': points.round(2).tolist(), 'group_id': group if len(parts) > 1 else None,
               'description': '', 'shape_type': 'polygon', 'flags': {}}
              for group, (label, parts) in enumerate(objects, 1) for points in parts]
    return {'version': VERSION, 'flags': {}, 'shapes': shapes, 'imagePath': Path(image).as_posix(),
            'imageData': None, 'imageHeight': size[0], 'imageWidth': size[1]}


def read_labelme(path: Path) -> tuple[Path, tuple[int, int], list[tuple[str, list[np.ndarray]]], list[str]]:
    """The image and the objects of a file.

    Args:
        path: Path of a JSON file.
    Returns:
        Path of the image, its (height, width), a list of (label, list of polygons, float64 [m, 2]), and a list of
        str, a line for each shape that is left out.
    Raises:
        UserError: it is not a file of labelme, or its image is not there.
        ImageError: the image, which says how large it is where the file does not, cannot be read.
    """
    try:
        content = _content(path)
        objects, problems = _objects(path, content['shapes'])
        image = path.parent / PureWindowsPath(content['imagePath']).as_posix()
        size = _size(path, content, image)
    except (UserError, ImageError):
        raise
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f'{path}: is not a file of labelme ({type(error).__name__}: {_short(error)}); take it out '
                        'of the folder') from None
    return image, size, objects, problems


def _content(path: Path) -> Any:
    if path.exists() and not path.is_file():  # reading a pipe might never end
        raise UserError(f'{path}: is a folder, a pipe or a device, not a file of labelme; take it out of the folder')
    return json.loads(path.read_bytes())


def _objects(path: Path, shapes: Any) -> tuple[list[tuple[str, list[np.ndarray]]], list[str]]:
    """Objects and problems, as `read_labelme` returns them."""
    objects: dict[tuple, list[np.ndarray]] = {}
    problems = []
    for number, shape in enumerate(shapes):
        try:
            outline = _outline(shape)
        except _UselessShape as problem:
            problems.append(one_line(f'{path}: shape {number + 1} is left out: {problem}'))
            continue
        group = shape.get('group_id')
        key = (shape['label'], 'shape', number) if group is None else (shape['label'], 'group', str(group))
        objects.setdefault(key, []).append(outline)
    return [(str(label), parts) for (label, *_), parts in objects.items()], problems


def _size(path: Path, content: dict[str, Any], image: Path) -> tuple[int, int]:
    """The image's (height, width), as the file says or else the image itself."""
    if not os.path.isfile(image):  # which takes names, too, that no file can have
        raise UserError(f'{path}: its image, {_short(image)}, is not there; put it there, or take the file out '
                        'of the folder')
    height, width = content.get('imageHeight'), content.get('imageWidth')
    if not (type(height) is int and type(width) is int and height > 0 and width > 0):
        height, width = read_image(image).shape[:2]
    if height * width >= MAX_PIXELS:
        raise UserError(f'{path}: says that its image has more than {MAX_PIXELS // 10 ** 6} million pixels; '
                        'correct that, or take the file out of the folder')
    return height, width


def _short(value: object) -> str:
    """A value in words, not all of it if it is long."""
    text = str(value)
    return text if len(text) <= 300 else f'{text[:300]}…'


def _outline(shape: dict[str, Any]) -> np.ndarray:
    """A shape as a polygon, float64 [m, 2].

    Raises:
        _UselessShape: it has no area, or goes far beyond any image.
    """
    kind, points = shape.get('shape_type', 'polygon'), _points(shape)
    if kind == 'mask':
        raise _UselessShape("a shape of labelme's kind 'mask' is not read; convert it to a polygon there")
    if kind == 'rectangle' and len(points) == 2:
        (x0, y0), (x1, y1) = points
        points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    elif kind == 'circle' and len(points) == 2:
        angles = np.linspace(0, 2 * np.pi, POINTS_OF_CIRCLE, endpoint=False)
        radius = np.hypot(*(points[1] - points[0]))
        points = _near(points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], 1))
    elif kind not in ('polygon', 'rectangle') or len(points) < 3:
        raise _UselessShape(f'a {_short(kind)} of {pluralize(len(points), "point")} has no area')
    return points


def _points(shape: dict[str, Any]) -> np.ndarray:
    """A shape's points, float64 [m, 2]."""
    try:
        return _near(np.array(shape['points'], np.float64).reshape(-1, 2))
    except OverflowError:
        raise _UselessShape('it has a point far from any image') from None


def _near(points: np.ndarray) -> np.ndarray:
    if not (np.abs(points) <= MAX_COORDINATE).all():  # nor are those that are no number
        raise _UselessShape('it has a point far from any image')
    return points


if __name__ == '__main__':
    from system.command import renamed
    renamed('python -m data.labelme', 'python -m tools.convert')
