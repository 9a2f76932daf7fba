"""The label format of labelme (https://github.com/wkentaro/labelme): a JSON file for each image."""
import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np

from data.annotation_file import MAX_PIXELS
from data.drawn_shapes import UnusableShape, ellipse, polygon, rectangle
from data.images import ImageError, read_image, read_values
from data.label_set import LabelledImage, LabelledObject, LabelSet, LeftOut, Split, UnusableLabels
from data.masks import RLE, Segmentation, encode_mask, join_parts
from system.errors import UserError
from system.limits import MAX_LABEL_FILE, check_size
from system.messages import pluralize
from system.progress import show_progress

VERSION = '5.5.0'  # of labelme, which writes such files


class LabelFile(NamedTuple):
    """What a label file says.

    Attributes:
        image: path of the image.
        size: its height and width in pixels.
        objects: the labelled objects.
        left_out: the shapes that are left out.
    """
    image: Path
    size: tuple[int, int]
    objects: list[LabelledObject]
    left_out: list[LeftOut]


def read_labelme_files(paths: Sequence[Path], folder: Path, images: Path | None = None) -> LabelSet:
    """Read label files. Those that are wrong as a whole are left out.

    Args:
        paths: the label files.
        folder: where the images should be.
        images: where images are looked for that are not where the label files say; None for nowhere.
    """
    split = Split(images or folder, [])
    labels = LabelSet({'': split}, files=list(paths))
    for path in show_progress(paths, len(paths), 'files', 'reading'):
        try:
            image, size, objects, left_out = read_labelme(path, images)
        except UnusableLabels as error:
            labels.left_out.append(error.left_out)
        except UserError as error:
            labels.left_out.append(LeftOut(str(error), ''))
        else:
            split.images.append(LabelledImage(image, size, objects))
            labels.left_out += left_out
    return labels


def to_labelme(image: str, size: tuple[int, int], objects: list[tuple[str, list[np.ndarray]]]) -> dict[str, Any]:
    """The content of a label file, as JSON takes it.

    Args:
        image: path of the image, relative to the label file's folder.
        size: its height and width in pixels.
        objects: label, and polygons, each float64 [m, 2], x y in pixels. The polygons of one object become a group.
    """
    shapes = [{'label': label, 'points': polygon.round(2).tolist(), 'group_id': group if len(polygons) > 1 else None,
               'description': '', 'shape_type': 'polygon', 'flags': {}}
              for group, (label, polygons) in enumerate(objects, 1) for polygon in polygons]
    return {'version': VERSION, 'flags': {}, 'shapes': shapes, 'imagePath': Path(image).as_posix(),
            'imageData': None, 'imageHeight': size[0], 'imageWidth': size[1]}


def read_labelme(path: Path, images: Path | None = None) -> LabelFile:
    """Read a label file.

    Args:
        path: of the file.
        images: as of `read_labelme_files`.
    Raises:
        UnusableLabels: it is not a file of labelme, or its image is missing.
        ImageError: the image cannot be read, though its size is not in the file.
    """
    try:
        content = _content(path)
        shapes = content['shapes']
        image = _image(path, content['imagePath'], images)
        size = _size(path, content, image)
        objects, left_out = _objects(path, shapes, size)
    except OSError as error:
        raise UnusableLabels(path, f': cannot be read ({error.strerror})') from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UnusableLabels(path, f': is not a file of labelme ({type(error).__name__}: {_short(error)}); take it '
                                   'out of the folder') from None
    return LabelFile(image, size, objects, left_out)


def _content(path: Path) -> Any:
    """The file's JSON."""
    if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe might never end
        raise UnusableLabels(path, ': is a folder, a pipe or a device, not a file of labelme; take it out of the '
                                   'folder')
    check_size(path, MAX_LABEL_FILE)
    return json.loads(path.read_bytes())


def _image(path: Path, name: str, images: Path | None) -> Path:
    """The path of a label file's image.

    Raises:
        UnusableLabels: it is not there.
    """
    name = PureWindowsPath(name).as_posix()
    image = path.parent / name
    candidates = [image, *([images / PurePosixPath(name).name] if images else [])]
    for candidate in candidates:
        if os.path.isfile(candidate):  # unlike Path.is_file, it takes names that no file can have
            return candidate
    raise UnusableLabels(f'{path}: its image, {_short(image)},', ' is not there; put it there, name its folder with '
                                                                 '--images, or take the file out of the folder')


def _objects(path: Path, shapes: Any, size: tuple[int, int]) -> tuple[list[LabelledObject], list[LeftOut]]:
    """Objects and what is left out, as of a `LabelFile`. Shapes of one label and group are one object."""
    objects: dict[tuple, list[Segmentation]] = {}
    left_out = []
    for number, shape in enumerate(shapes):
        try:
            part = _segmentation(shape, size)
        except UnusableShape as error:
            left_out.append(LeftOut(f'{path}: shape {number + 1}', f' is left out: {error}'))
            continue
        group = shape.get('group_id')
        key = (shape['label'], 'shape', number) if group is None else (shape['label'], 'group', str(group))
        objects.setdefault(key, []).append(part)
    return [(str(label), join_parts(parts, size)) for (label, *_), parts in objects.items()], left_out


def _size(path: Path, content: dict[str, Any], image: Path) -> tuple[int, int]:
    """The image's height and width, from the label file or else from the image."""
    height, width = content.get('imageHeight'), content.get('imageWidth')
    if not (type(height) is int and type(width) is int and height > 0 and width > 0):
        height, width = read_image(image).shape[:2]
    if height * width >= MAX_PIXELS:
        raise UnusableLabels(path, f': says that its image has more than {MAX_PIXELS // 10 ** 6} million pixels; '
                                   'correct that, or take the file out of the folder')
    return height, width


def _short(value: object) -> str:
    """A value for a message, truncated if it is long."""
    text = str(value)
    return text if len(text) <= 300 else f'{text[:300]}…'


def _segmentation(shape: dict[str, Any], size: tuple[int, int]) -> Segmentation:
    """A shape as a polygon, or as the RLE of a mask for an image of that height and width.

    Raises:
        UnusableShape: it has no area, goes far beyond any image, or is of a kind that is not supported.
    """
    kind, points = shape.get('shape_type', 'polygon'), polygon(shape['points'])
    if kind == 'mask':
        return _mask(shape.get('mask'), points, size)
    if kind == 'rectangle' and len(points) == 2:
        return [rectangle(*points.ravel())]
    if kind == 'circle' and len(points) == 2:
        radius = np.hypot(*(points[1] - points[0]))
        return [ellipse(points[0], (radius, radius))]
    if kind not in ('polygon', 'rectangle', 'oriented_rectangle') or len(points) < 3:
        raise UnusableShape(f'a {_short(kind)} of {pluralize(len(points), "point")} has no area')
    return [points]


def _mask(encoded: Any, corners: np.ndarray, size: tuple[int, int]) -> RLE:
    """The mask of a box of pixels.

    Args:
        encoded: PNG in base64, not zero within the object.
        corners: float64 [2, 2], x y of the box's first and last pixel.
        size: height and width of the image.
    """
    try:
        values, _ = read_values(base64.b64decode(encoded))
    except (TypeError, ValueError, ImageError):
        raise UnusableShape('its mask is not a PNG in base64') from None
    values = np.any(values.reshape(*values.shape[:2], -1), axis=2, keepdims=True)[..., 0]
    box = corners.round().astype(int)
    if len(box) != 2 or values.shape != tuple((box[1] - box[0] + 1)[::-1]):
        raise UnusableShape('its mask is not as large as its box')
    whole = np.zeros(size, bool)
    x, y = box[0]
    part = values[max(-y, 0):max(size[0] - y, 0), max(-x, 0):max(size[1] - x, 0)]
    whole[max(y, 0):max(y, 0) + part.shape[0], max(x, 0):max(x, 0) + part.shape[1]] = part
    if not part.any():
        raise UnusableShape('its mask is empty')
    return encode_mask(whole)


if __name__ == '__main__':
    from system.command import renamed
    renamed('python -m data.labelme', 'python -m tools.convert')
