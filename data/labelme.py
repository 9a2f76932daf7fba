"""labelme's files (https://github.com/wkentaro/labelme), and as a program: a folder of them → COCO-style annotations.

    python -m data.labelme my/pictures --out my/annotations.json
"""
import argparse
import json
import os
import sys
from pathlib import Path, PureWindowsPath

import numpy as np
from tqdm import tqdm

from data.annotation_file import FARTHEST, MOST_PIXELS
from data.images import PictureError, read_picture
from system.files import check_writable, replacing
from system.messages import counted, one_line

VERSION = '5.5.0'  # of labelme, whose files these are
POINTS_OF_CIRCLE = 64
OURS = ('{"images": [', '{"annotations": [')  # how the annotations begin that this program and demo.py write


class LabelmeError(ValueError):
    """A file of labelme that is of no use. The message is one line for the user."""

    def __init__(self, message):
        super().__init__(one_line(message))


class ShapeError(Exception):
    """A shape that is of no use. The message is the part of a line that tells why."""


def describe(picture, size, objects):
    """The content of a file.

    Args:
        picture: str, the picture's path from the file's folder.
        size: (height, width) in pixels.
        objects: list of (label, list of polygons, float [m, 2]). Parts of one object get a group of their own.
    Returns:
        dict, as JSON takes it.
    """
    shapes = [{'label': label, 'points': points.round(2).tolist(), 'group_id': group if len(parts) > 1 else None,
               'description': '', 'shape_type': 'polygon', 'flags': {}}
              for group, (label, parts) in enumerate(objects, 1) for points in parts]
    return {'version': VERSION, 'flags': {}, 'shapes': shapes, 'imagePath': Path(picture).as_posix(),
            'imageData': None, 'imageHeight': size[0], 'imageWidth': size[1]}


def read_labelme(path):
    """The picture and the objects of a file.

    Args:
        path: Path of a JSON file.
    Returns:
        Path of the picture, its (height, width), a list of (label, list of polygons, float64 [m, 2]), and a list of
        str, a line for each shape that is left out.
    Raises:
        LabelmeError: it is not a file of labelme, or its picture is not there.
        PictureError: the picture, which says how large it is where the file does not, cannot be read.
    """
    try:
        content = _content(path)
        objects, problems = _objects(path, content['shapes'])
        picture = path.parent / PureWindowsPath(content['imagePath']).as_posix()
        size = _size(path, content, picture)
    except (LabelmeError, PictureError):
        raise
    except OSError as error:
        raise LabelmeError(f'{path}: cannot be read ({error.strerror})') from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise LabelmeError(f'{path}: is not a file of labelme ({type(error).__name__}: {_short(error)}); take it out '
                           'of the folder') from None
    return picture, size, objects, problems


def _content(path):
    if path.exists() and not path.is_file():  # reading a pipe might never end
        raise LabelmeError(f'{path}: is a folder, a pipe or a device, not a file of labelme; take it out of the folder')
    return json.loads(path.read_bytes())


def _objects(path, shapes):
    """Objects and problems, as `read_labelme` returns them."""
    objects, problems = {}, []
    for number, shape in enumerate(shapes):
        try:
            outline = _outline(shape)
        except ShapeError as problem:
            problems.append(one_line(f'{path}: shape {number + 1} is left out: {problem}'))
            continue
        group = shape.get('group_id')
        key = (shape['label'], 'shape', number) if group is None else (shape['label'], 'group', str(group))
        objects.setdefault(key, []).append(outline)
    return [(str(label), parts) for (label, *_), parts in objects.items()], problems


def _size(path, content, picture):
    """The picture's (height, width), as the file says or else the picture itself."""
    if not os.path.isfile(picture):  # which takes names, too, that no file can have
        raise LabelmeError(f'{path}: its picture, {_short(picture)}, is not there; put it there, or take the file out '
                           'of the folder')
    size = content.get('imageHeight'), content.get('imageWidth')
    if not all(type(side) is int and side > 0 for side in size):
        return read_picture(picture).shape[:2]
    if size[0] * size[1] >= MOST_PIXELS:
        raise LabelmeError(f'{path}: says that its picture has more than {MOST_PIXELS // 10 ** 6} million pixels; '
                           'correct that, or take the file out of the folder')
    return size


def _short(value):
    """A value in words, not all of it if it is long."""
    text = str(value)
    return text if len(text) <= 300 else f'{text[:300]}…'


def _outline(shape):
    """A shape as a polygon, float64 [m, 2].

    Raises:
        ShapeError: it has no area, or goes far beyond any picture.
    """
    kind, points = shape.get('shape_type', 'polygon'), _points(shape)
    if kind == 'mask':
        raise ShapeError("a shape of labelme's kind 'mask' is not read; convert it to a polygon there")
    if kind == 'rectangle' and len(points) == 2:
        (x0, y0), (x1, y1) = points
        points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    elif kind == 'circle' and len(points) == 2:
        angles = np.linspace(0, 2 * np.pi, POINTS_OF_CIRCLE, endpoint=False)
        radius = np.hypot(*(points[1] - points[0]))
        points = _near(points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], 1))
    elif kind not in ('polygon', 'rectangle') or len(points) < 3:
        raise ShapeError(f'a {_short(kind)} of {counted(len(points), "point")} has no area')
    return points


def _points(shape):
    """A shape's points, float64 [m, 2]."""
    try:
        return _near(np.array(shape['points'], np.float64).reshape(-1, 2))
    except OverflowError:
        raise ShapeError('it has a point far from any picture') from None


def _near(points):
    if not (np.abs(points) <= FARTHEST).all():  # nor are those that are no number
        raise ShapeError('it has a point far from any picture')
    return points


def to_coco(paths, names=None, root=None):
    """COCO-style annotations of labelme's files.

    Args:
        paths: list of Path.
        names: list of str, the classes in order; None for those that occur, by name.
        root: Path that the pictures' names are told from; None for the folder of the first file.
    Returns:
        dict of images, annotations and categories, and a list of str, a line for each thing that is left out.
    """
    read, problems = [], []
    for path in tqdm(paths, 'reading', unit=' files', disable=None, leave=False):
        try:
            *one, warnings = read_labelme(path)
        except (LabelmeError, PictureError) as error:
            problems.append(str(error))
            continue
        read.append(one)
        problems += warnings
    names = names or sorted({label for _, _, objects in read for label, _ in objects})
    ids = {name: id for id, name in enumerate(names, 1)}
    images, annotations = [], []
    for picture, (height, width), objects in read:
        images.append({'id': len(images) + 1, 'file_name': _relative(picture, root or paths[0].parent),
                       'width': width, 'height': height})
        for label, parts in objects:
            if label not in ids:
                problems.append(one_line(f'{picture}: an object named {label!r} is left out: not one of --classes'))
                continue
            annotations.append(_annotation(len(annotations) + 1, len(images), ids[label], parts))
    categories = [{'id': id, 'name': name} for name, id in ids.items()]
    return {'images': images, 'annotations': annotations, 'categories': categories}, problems


def _relative(picture, root):
    picture, root = (Path(os.path.realpath(path)) for path in (picture, root))
    return (picture.relative_to(root) if picture.is_relative_to(root) else picture).as_posix()


def _annotation(id, image_id, category_id, parts):
    corners = np.concatenate(parts)
    low, high = corners.min(0), corners.max(0)
    return {'id': id, 'image_id': image_id, 'category_id': category_id, 'iscrowd': 0,
            'bbox': [*low.tolist(), *(high - low).tolist()], 'area': sum(map(_area, parts)),
            'segmentation': [part.ravel().tolist() for part in parts]}


def _area(points):
    """Of a polygon, in square pixels (the shoelace formula)."""
    x, y = points.T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def main(argv=None):
    """Convert a folder. Returns the exit status: 1 if something was left out."""
    parser = argparse.ArgumentParser(
        prog='python -m data.labelme', description="COCO-style annotations of a folder of labelme's files. "
        'train.py and eval.py take them, with the folder as that of the pictures.')
    parser.add_argument('folder', type=Path, help="folder of labelme's .json files and the pictures")
    parser.add_argument('--out', type=Path, required=True, help='annotation file to write')
    parser.add_argument('--classes', help='names, divided by commas; others are left out (default: all that occur)')
    parser.add_argument('--val', type=Path, help='write every tenth picture into this annotation file instead')
    args = parser.parse_args(argv)
    if args.val and os.path.realpath(args.val) == os.path.realpath(args.out):
        parser.error('--out and --val are to be two files')
    names = [name.strip() for name in args.classes.split(',')] if args.classes else None
    outs = [out for out in (args.out, args.val) if out]
    try:
        paths = label_files(args.folder, outs)
        for out in outs:
            check_writable(out)
        content, problems = to_coco(paths, names, args.folder)
        for out, part in zip(outs, split(content) if args.val else [content]):
            with replacing(out) as file:
                json.dump(part, file)
            print(f'{one_line(out)}: {counted(len(part["images"]), "picture")}, '
                  f'{counted(len(part["annotations"]), "object")}, {counted(len(part["categories"]), "class")}')
    except LabelmeError as error:
        print(f'data.labelme: error: {error}', file=sys.stderr)
        return 2
    except BrokenPipeError:  # of whoever reads what is printed
        raise
    except OSError as error:
        print(f'data.labelme: error: {one_line(error.filename or args.out)}: cannot be written ({error.strerror})',
              file=sys.stderr)
        return 2
    print(*problems, sep='\n', end='\n' * bool(problems), file=sys.stderr)
    return 1 if problems else 0


def label_files(folder, outs):
    """The label files of a folder, list of Path by name. Annotations that were written there before are none.

    Raises:
        LabelmeError: there are none, or one would be written over.
    """
    paths = [path for path in sorted(folder.glob('*.json')) if not _is_ours(path)]
    if not paths:
        raise LabelmeError(f'{folder}: has no .json files of labelme; name the folder that has')
    places = {os.path.realpath(path) for path in paths}
    for out in outs:
        if os.path.realpath(out) in places:
            raise LabelmeError(f'{out}: is one of the files to read; name another one to write')
    return paths


def _is_ours(path):
    if not path.is_file():
        return False
    try:
        with path.open(encoding='ascii', errors='replace') as file:
            return file.read(max(map(len, OURS))).startswith(OURS)
    except OSError:  # which reading it tells
        return False


def split(content):
    """Most of the pictures, and every tenth one, from the first on."""
    def part(chosen):
        ids = {image['id'] for image in content['images'] if (image['id'] % 10 == 1) == chosen}
        return {**content, 'images': [image for image in content['images'] if image['id'] in ids],
                'annotations': [one for one in content['annotations'] if one['image_id'] in ids]}
    return part(False), part(True)


if __name__ == '__main__':
    from command_line import run
    run(main)
