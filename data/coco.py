"""A dataset described by a COCO-style annotation file: its classes, its pictures and their objects."""
import argparse
import json
import math
import os
import reprlib
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools import mask as mask_api

from data.masks import compress, encode
from data.pictures import PictureError, one_line, read_picture
from model.classes import Classes

_KEYS = frozenset((
    'images', 'annotations', 'categories', 'id', 'name', 'file_name', 'width', 'height',
    'image_id', 'category_id', 'iscrowd', 'bbox', 'area', 'segmentation', 'size', 'counts',
))
_THINNEST = 1e-3  # pixels; a thinner box may have no area once it is float32
_FARTHEST = 1e5  # pixels from a picture's corner that a polygon may go
_MOST_PIXELS = 2 ** 29  # in a picture; the compressed run lengths of pycocotools hold no more for sure


class AnnotationError(ValueError):
    """An annotation file or a folder of pictures that is of no use. The message is one line for the user."""

    def __init__(self, message):
        super().__init__(one_line(message))


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as the annotation file lists it.

    Attributes:
        id: int or str.
        path: Path of the picture's file.
        width: int, pixels.
        height: int, pixels.
    """
    id: int | str
    path: Path
    width: int
    height: int

    def read(self):
        """Its pixels, uint8 [height, width, 3], BGR.

        Raises:
            PictureError: the file cannot be read, or is of another size than the annotation file says.
        """
        pixels = read_picture(self.path)
        height, width = pixels.shape[:2]
        if (width, height) != (self.width, self.height):
            raise PictureError(f'{self.path}: is {width}x{height}, but the annotation file says '
                               f'{self.width}x{self.height}; correct the one that is wrong')
        return pixels


@dataclass(frozen=True)
class Objects:
    """The annotated objects of one picture. Crowds stand at the end.

    Attributes:
        labels: int64 [n], the class, from 0.
        boxes: float32 [n, 4], x0 y0 x1 y1 in pixels, within the picture.
        segmentations: list of n, for each object a list of polygons, float64 [m, 2], x y in pixels; or a
            compressed RLE, {'size': [h, w], 'counts': bytes}.
        num_crowds: int, how many at the end are crowds.
    """
    labels: np.ndarray
    boxes: np.ndarray
    segmentations: list
    num_crowds: int

    def __len__(self):
        return len(self.labels)


class CocoDataset:
    """The pictures that an annotation file lists, and the objects in them.

    Annotations that cannot be used are left out, each with a line in `warnings`.

    Attributes:
        classes: Classes, in ascending order of category id.
        images: list of Picture, in the order of the file.
        has_annotations: bool, whether the file has annotations at all. Files of test pictures have none.
        warnings: list of str, a line for each annotation left out.
        annotations_path: Path of the annotation file.
        images_folder: Path of the folder of pictures.
    """

    def __init__(self, annotations_path, images_folder):
        """
        Args:
            annotations_path: str or Path, a JSON file.
            images_folder: str or Path. It is not looked into, see `check_folder`.
        Raises:
            AnnotationError: the file is missing or wrong as a whole.
        """
        self.annotations_path = Path(annotations_path)
        self.images_folder = Path(images_folder)
        self.warnings = []
        try:
            content = _parse(self.annotations_path)
            self.classes = _read_classes(_list(content, 'categories'))
            self.images = _read_pictures(_list(content, 'images'), self.images_folder)
            self.has_annotations = 'annotations' in content
            self._read_annotations(_list(content, 'annotations') if self.has_annotations else [])
        except ValueError as problem:
            raise AnnotationError(f'{self.annotations_path}: {problem}') from None

    def __len__(self):
        """The number of pictures, with or without objects."""
        return len(self.images)

    def objects(self, i):
        """The Objects of picture i. The arrays are the caller's own."""
        rows = slice(*self._starts[[i, i + 1]])
        return Objects(self._labels[rows].copy(), self._boxes[rows].copy(),
                       [_unpack(segmentation) for segmentation in self._segmentations[rows]],
                       int(self._crowds[rows].sum()))

    def annotations(self, i):
        """The annotations of picture i that are kept, in the order of the file, as pycocotools takes them.

        Yields:
            dict with image_id, category_id, iscrowd (0 or 1), bbox (x y width height) and area (pixels), both as the
            file says or else of the segmentation, and segmentation (a compressed RLE).
        """
        picture = self.images[i]
        for row in sorted(range(*self._starts[[i, i + 1]].tolist()), key=self._order.__getitem__):
            *box, area = self._figures[row].tolist()
            segmentation = self._segmentations[row]
            if not isinstance(segmentation, dict):
                segmentation = encode(_unpack(segmentation), (picture.height, picture.width))
            yield {'image_id': picture.id, 'category_id': self.classes.ids[self._labels[row]],
                   'iscrowd': int(self._crowds[row]), 'bbox': box, 'segmentation': segmentation,
                   'area': float(mask_api.area(segmentation)) if math.isnan(area) else area}

    def check_folder(self):
        """Looks whether the folder holds the pictures.

        Raises:
            AnnotationError: there is no such folder, or none of the first few pictures is in it.
        """
        if not os.path.isdir(self.images_folder):
            raise AnnotationError(f'{self.images_folder}: no such folder; '
                                  f'give the one with the pictures of {self.annotations_path}')
        first = [picture.path for picture in self.images[:10]]
        if not any(os.path.isfile(path) for path in first):
            raise AnnotationError(f'{self.images_folder}: the pictures of {self.annotations_path} are not in '
                                  f'this folder, for example {first[0]}; give the folder that has them')

    def _read_annotations(self, records):
        """Columns of all usable annotations, ordered by picture. They take far less room than records."""
        image_index = {picture.id: i for i, picture in enumerate(self.images)}
        labels = {id: label for label, id in enumerate(self.classes.ids)}
        columns = array('q')
        boxes = array('f')
        figures = array('d')
        segmentations = []
        for position, record in enumerate(records):
            try:
                i = _look_up(record, 'image_id', image_index)
                label = _look_up(record, 'category_id', labels)
                segmentation = _read_segmentation(record, self.images[i])
                box = _read_box(record, segmentation)
                boxes.extend(_within(box, self.images[i]))
            except ValueError as problem:
                name = record['id'] if isinstance(record, dict) and 'id' in record else f'no. {position + 1}'
                self.warnings.append(one_line(f'{self.annotations_path}: annotation {_short(name)} is left out: '
                                              f'{problem}'))
                continue
            columns.extend((i, label, bool(record.get('iscrowd'))))
            figures.extend((*box, *_read_area(record)))
            segmentations.append(segmentation)
        images, labels, crowds = np.array(columns, np.int64).reshape(-1, 3).T
        order = np.lexsort((crowds, images))
        self._order = order  # places in the file
        self._figures = np.array(figures).reshape(-1, 5)[order]  # box and area
        self._starts = np.searchsorted(images[order], np.arange(len(self.images) + 1))
        self._labels = labels[order]
        self._boxes = np.array(boxes, np.float32).reshape(-1, 4)[order]
        self._crowds = crowds[order].astype(bool)
        self._segmentations = [segmentations[row] for row in order]


def _parse(path):
    """The file's outermost object, without the keys that nothing here needs."""
    try:
        with open(path, encoding='utf-8-sig') as file:
            content = json.load(file, object_hook=_shrink)
    except OSError as problem:
        raise ValueError(f'cannot be read ({problem.strerror}); check the path') from None
    except (ValueError, RecursionError) as problem:
        raise ValueError(f'is not JSON ({problem}); give a COCO-style annotation file') from None
    if not isinstance(content, dict):
        raise ValueError('is not a JSON object; give a COCO-style annotation file')
    return content


def _shrink(record):
    """Any object of the file, as the parser meets it. A packed number takes 8 bytes instead of 32."""
    kept = {key: value for key, value in record.items() if key in _KEYS}
    if isinstance(kept.get('segmentation'), list):
        kept['segmentation'] = [_pack(polygon) for polygon in kept['segmentation']]
    return kept


def _pack(polygon):
    """A list of numbers as an array of float64, or None where it is something else."""
    try:
        return array('d', polygon)
    except (TypeError, OverflowError):
        return None


def _unpack(segmentation):
    """Packed polygons as float64 [m, 2] each; an RLE stays."""
    if isinstance(segmentation, dict):
        return segmentation
    return [np.array(polygon).reshape(-1, 2) for polygon in segmentation]


def _list(content, key):
    records = content.get(key)
    if not isinstance(records, list):
        raise ValueError(f'has no list of {key}; give a COCO-style annotation file')
    return records


def _check_records(records, what, keys):
    """Every record has the keys, and no id repeats."""
    if not records:
        raise ValueError(f'lists no {what} at all; add them')
    seen = set()
    for position, record in enumerate(records):
        if not isinstance(record, dict):
            raise ValueError(f'no. {position + 1} of the {what} is not a JSON object; correct it')
        for key in keys:
            if record.get(key) is None:
                raise ValueError(f'no. {position + 1} of the {what} has no {key}; add it')
        id = record['id']
        if not isinstance(id, (int, str)):
            raise ValueError(f'no. {position + 1} of the {what} has the id {_short(id)}; give it a number')
        if id in seen:
            raise ValueError(f'two of the {what} have the id {_short(id)}; give each one of its own')
        seen.add(id)


def _read_classes(records):
    _check_records(records, 'categories', ('id', 'name'))
    for record in records:
        if not isinstance(record['id'], int):
            raise ValueError(f'category {_short(record["name"])} has the id {reprlib.repr(record["id"])}; '
                             'give it a whole number')
    records = sorted(records, key=lambda record: record['id'])
    return Classes([one_line(record['name']) for record in records], [record['id'] for record in records])


def _read_pictures(records, folder):
    _check_records(records, 'images', ('id', 'file_name', 'width', 'height'))
    pictures = []
    for record in records:
        sides = record['width'], record['height']
        if not all(isinstance(side, (int, float)) and side >= 1 and side % 1 == 0 for side in sides):
            raise ValueError(f'image {_short(record["id"])} is {_short(sides[0])} wide and {_short(sides[1])} high; '
                             'give whole numbers of pixels')
        if sides[0] * sides[1] >= _MOST_PIXELS:
            raise ValueError(f'image {_short(record["id"])} is {_short(sides[0])} wide and {_short(sides[1])} high; '
                             'correct that, or cut it into tiles')
        pictures.append(Picture(record['id'], folder / str(record['file_name']), *map(int, sides)))
    return pictures


def _look_up(record, key, table):
    if not isinstance(record, dict):
        raise ValueError('not a JSON object')
    value = record.get(key)
    if not isinstance(value, (int, str)) or value not in table:
        raise ValueError(f'its {key}, {reprlib.repr(value)}, is not in the file')
    return table[value]


def _read_segmentation(record, picture):
    """Packed polygons, or a compressed RLE."""
    segmentation = record.get('segmentation')
    if not segmentation:
        raise ValueError('no segmentation')
    if isinstance(segmentation, dict):
        size = [picture.height, picture.width]
        if segmentation.get('size') != size:
            raise ValueError(f'an RLE of size {reprlib.repr(segmentation.get("size"))} for a picture of size {size}')
        return compress(segmentation.get('counts'), size)
    if not isinstance(segmentation, list):
        raise ValueError('a segmentation that is neither polygons nor an RLE')
    for polygon in segmentation:
        if polygon is None:
            raise ValueError('a polygon that is not a list of numbers')
        if len(polygon) % 2:
            raise ValueError('a polygon of odd length')
        if len(polygon) < 6:
            raise ValueError('a polygon of under 3 points')
        # A sum that is not finite has a NaN in it, which min and max may overlook.
        if not (math.isfinite(sum(polygon)) and -_FARTHEST <= min(polygon) and max(polygon) <= _FARTHEST):
            raise ValueError('a polygon with a coordinate far from any picture')
    return segmentation


def _read_box(record, segmentation):
    """x y width height, as in the file."""
    box = record.get('bbox') or _enclosing_box(segmentation)
    packed = _pack(box)
    if packed is None or len(packed) != 4 or not math.isfinite(sum(packed)):
        raise ValueError(f'its bbox, {reprlib.repr(box)}, is not four finite numbers')
    return packed.tolist()


def _within(box, picture):
    """x0 y0 x1 y1 of the part of a box that is in the picture."""
    x, y, width, height = box
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + width, picture.width), min(y + height, picture.height)
    if min(x1 - x0, y1 - y0) < _THINNEST:
        raise ValueError(f'its box, {box}, has no area within the picture')
    return x0, y0, x1, y1


def _read_area(record):
    """A list of one number, NaN where the file has none."""
    return _pack([record.get('area')]) or [math.nan]


def _short(value):
    """A value of the file in words, not all of it if it is long."""
    return value if isinstance(value, str) and len(value) <= 60 else reprlib.repr(value)


def _enclosing_box(segmentation):
    """x y width height, as in the file."""
    if isinstance(segmentation, dict):
        return list(mask_api.toBbox(segmentation))
    xs, ys = np.concatenate(_unpack(segmentation)).T
    return [xs.min(), ys.min(), np.ptp(xs), np.ptp(ys)]


def main(argv=None):
    """Look at a dataset. Returns the exit status: 1 if something is wrong with it."""
    from data.check import check  # which is made of this
    parser = argparse.ArgumentParser(prog='python -m data.coco', description='COCO-style datasets.')
    commands = parser.add_subparsers(dest='command', required=True, metavar='{check}')
    looking = commands.add_parser(
        'check', help='what is in a dataset, and what is wrong with it',
        description='Tell what is in a dataset, and what is wrong with it: annotations that are left out, pictures '
                    'that are missing, damaged or of another size than annotated, objects without pixels, annotated '
                    'twice, too thin to be learnt, or with boxes that do not fit. The exit status is 1 if there is '
                    'something.')
    looking.add_argument('annotations', type=Path, help='annotation file')
    looking.add_argument('images', type=Path, help='folder of its pictures')
    looking.add_argument('--samples', type=Path, default='results/samples.jpg',
                         help='picture to write, of some pictures with their objects (default: %(default)s)')
    looking.add_argument('--all', action='store_true', help='print all problems (default: 20 of each kind)')
    args = parser.parse_args(argv)
    try:
        dataset = CocoDataset(args.annotations, args.images)
        dataset.check_folder()
        args.samples.parent.mkdir(parents=True, exist_ok=True)
        return 1 if check(dataset, args.samples, sys.maxsize if args.all else 20) else 0
    except (AnnotationError, PictureError) as error:
        print(f'data.coco: error: {error}', file=sys.stderr)
    except OSError as error:
        print(f'data.coco: error: {error.filename}: cannot be written ({error.strerror})', file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main())
