"""The label format of labelme (https://github.com/wkentaro/labelme): a JSON file for each image."""
import json
import os
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np

from data.annotation_file import MAX_COORDINATE, MAX_PIXELS
from data.images import read_image
from system.errors import UserError
from system.limits import MAX_LABEL_FILE, check_size
from system.messages import one_line, pluralize

VERSION = '5.5.0'  # of labelme, which writes such files
CIRCLE_POINTS = 64  # of the polygon that a circle becomes

LabelledObject = tuple[str, list[np.ndarray]]  # label, and polygons, each float64 [m, 2], x y in pixels


class LabelFile(NamedTuple):
    """What a label file says.

    Attributes:
        image: path of the image.
        size: its height and width in pixels.
        objects: the labelled objects.
        problems: a line for each shape that is left out.
    """
    image: Path
    size: tuple[int, int]
    objects: list[LabelledObject]
    problems: list[str]


class _UnusableShape(Exception):
    """A shape to leave out. The message says why, and becomes part of a line."""


def to_labelme(image: str, size: tuple[int, int], objects: list[LabelledObject]) -> dict[str, Any]:
    """The content of a label file, as JSON takes it.

    Args:
        image: path of the image, relative to the label file's folder.
        size: its height and width in pixels.
        objects: the labelled objects. The polygons of one object become a group.
    """
    shapes = [{'label': label, 'points': polygon.round(2).tolist(), 'group_id': group if len(polygons) > 1 else None,
               'description': '', 'shape_type': 'polygon', 'flags': {}}
              for group, (label, polygons) in enumerate(objects, 1) for polygon in polygons]
    return {'version': VERSION, 'flags': {}, 'shapes': shapes, 'imagePath': Path(image).as_posix(),
            'imageData': None, 'imageHeight': size[0], 'imageWidth': size[1]}


def read_labelme(path: Path) -> LabelFile:
    """Read a label file.

    Raises:
        UserError: it is not a file of labelme, or its image is missing.
        ImageError: the image cannot be read, though its size is not in the file.
    """
    try:
        content = _content(path)
        objects, problems = _objects(path, content['shapes'])
        image = path.parent / PureWindowsPath(content['imagePath']).as_posix()
        size = _size(path, content, image)
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f'{path}: is not a file of labelme ({type(error).__name__}: {_short(error)}); take it out '
                        'of the folder') from None
    return LabelFile(image, size, objects, problems)


def _content(path: Path) -> Any:
    """The file's JSON."""
    if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe might never end
        raise UserError(f'{path}: is a folder, a pipe or a device, not a file of labelme; take it out of the folder')
    check_size(path, MAX_LABEL_FILE)
    return json.loads(path.read_bytes())


def _objects(path: Path, shapes: Any) -> tuple[list[LabelledObject], list[str]]:
    """Objects and problems of a `LabelFile`. Shapes of one label and group are one object."""
    objects: dict[tuple, list[np.ndarray]] = {}
    problems = []
    for number, shape in enumerate(shapes):
        try:
            polygon = _polygon(shape)
        except _UnusableShape as error:
            problems.append(one_line(f'{path}: shape {number + 1} is left out: {error}'))
            continue
        group = shape.get('group_id')
        key = (shape['label'], 'shape', number) if group is None else (shape['label'], 'group', str(group))
        objects.setdefault(key, []).append(polygon)
    return [(str(label), polygons) for (label, *_), polygons in objects.items()], problems


def _size(path: Path, content: dict[str, Any], image: Path) -> tuple[int, int]:
    """The image's height and width, from the label file or else from the image."""
    if not os.path.isfile(image):  # unlike Path.is_file, it takes names that no file can have
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
    """A value for a message, truncated if it is long."""
    text = str(value)
    return text if len(text) <= 300 else f'{text[:300]}…'


def _polygon(shape: dict[str, Any]) -> np.ndarray:
    """A shape as a polygon, float64 [m, 2].

    Raises:
        _UnusableShape: it has no area, goes far beyond any image, or is of a kind that is not supported.
    """
    kind, points = shape.get('shape_type', 'polygon'), _points(shape)
    if kind == 'mask':
        raise _UnusableShape("a shape of labelme's kind 'mask' is not read; convert it to a polygon there")
    if kind == 'rectangle' and len(points) == 2:
        (x0, y0), (x1, y1) = points
        points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    elif kind == 'circle' and len(points) == 2:
        angles = np.linspace(0, 2 * np.pi, CIRCLE_POINTS, endpoint=False)
        radius = np.hypot(*(points[1] - points[0]))
        points = _check_range(points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], 1))
    elif kind not in ('polygon', 'rectangle') or len(points) < 3:
        raise _UnusableShape(f'a {_short(kind)} of {pluralize(len(points), "point")} has no area')
    return points


def _points(shape: dict[str, Any]) -> np.ndarray:
    """A shape's points, float64 [m, 2]."""
    try:
        return _check_range(np.array(shape['points'], np.float64).reshape(-1, 2))
    except OverflowError:
        raise _UnusableShape('it has a point far from any image') from None


def _check_range(points: np.ndarray) -> np.ndarray:
    if not (np.abs(points) <= MAX_COORDINATE).all():  # NaN is not either
        raise _UnusableShape('it has a point far from any image')
    return points


if __name__ == '__main__':
    from system.command import renamed
    renamed('python -m data.labelme', 'python -m tools.convert')
