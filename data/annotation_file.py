"""Reading and checking a COCO-style annotation file, record by record.

What is wrong is a ValueError, whose message is the part of a line that says what.
"""
import json
import math
import reprlib
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as mask_api

from data.images import ImageError, read_image
from data.masks import compress
from model.classes import Classes
from system.messages import one_line

_KEYS = frozenset((
    'images', 'annotations', 'categories', 'id', 'name', 'file_name', 'width', 'height',
    'image_id', 'category_id', 'iscrowd', 'bbox', 'area', 'segmentation', 'size', 'counts',
))
_MIN_SIDE = 1e-3  # pixels; a thinner box may have no area once it is float32
MAX_COORDINATE = 1e5  # pixels from an image's corner
MAX_PIXELS = 2 ** 29  # in an image; the compressed run lengths of pycocotools hold no more for sure


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image as the annotation file lists it.

    Attributes:
        id: int or str.
        path: Path of the image's file.
        width: int, pixels.
        height: int, pixels.
    """
    id: int | str
    path: Path
    width: int
    height: int

    def read(self) -> np.ndarray:
        """Its pixels, uint8 [height, width, 3], BGR.

        Raises:
            ImageError: the file cannot be read, or is of another size than the annotation file says.
        """
        pixels = read_image(self.path)
        height, width = pixels.shape[:2]
        if (width, height) != (self.width, self.height):
            raise ImageError(f'{self.path}: is {width}x{height}, but the annotation file says '
                             f'{self.width}x{self.height}; correct the one that is wrong')
        return pixels


class Annotation(NamedTuple):
    """An object as the annotation file has it.

    Attributes:
        image: int, which one of the file's.
        label: int, its class, from 0.
        crowd: bool.
        segmentation: list of polygons, each an array of x y x y ... in pixels, or a compressed RLE,
            {'size': [h, w], 'counts': bytes}.
        box: list of x y width height in pixels, as in the file, or else of the segmentation.
        corners: tuple of x0 y0 x1 y1, of the part of the box that is in the image.
        area: pixels, as in the file; NaN where it has none.
    """
    image: int
    label: int
    crowd: bool
    segmentation: Any
    box: list[float]
    corners: tuple[float, float, float, float]
    area: float


def parse(path: Path) -> dict[str, Any]:
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


def _shrink(record: dict[str, Any]) -> dict[str, Any]:
    """Any object of the file, as the parser meets it. A packed number takes 8 bytes instead of 32."""
    kept = {key: value for key, value in record.items() if key in _KEYS}
    if isinstance(kept.get('segmentation'), list):
        kept['segmentation'] = [_pack(polygon) for polygon in kept['segmentation']]
    return kept


def _pack(polygon: Any) -> 'array[float] | None':
    """A list of numbers as an array of float64, or None where it is something else."""
    try:
        return array('d', polygon)
    except (TypeError, OverflowError):
        return None


def unpack(segmentation: Any) -> Any:
    """The polygons of an `Annotation` as float64 [m, 2] each; an RLE stays."""
    if isinstance(segmentation, dict):
        return segmentation
    return [np.array(polygon).reshape(-1, 2) for polygon in segmentation]


def records_of(content: dict[str, Any], key: str) -> list[Any]:
    """The list of that name in the file."""
    records = content.get(key)
    if not isinstance(records, list):
        raise ValueError(f'has no list of {key}; give a COCO-style annotation file')
    return records


def _check_records(records: list[Any], what: str, keys: tuple[str, ...]) -> None:
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


def read_classes(records: list[Any]) -> Classes:
    """`Classes` of the file's categories, in ascending order of their ids."""
    _check_records(records, 'categories', ('id', 'name'))
    for record in records:
        if not isinstance(record['id'], int):
            raise ValueError(f'category {_short(record["name"])} has the id {reprlib.repr(record["id"])}; '
                             'give it a whole number')
    records = sorted(records, key=lambda record: record['id'])
    return Classes(tuple(one_line(record['name']) for record in records),
                   tuple(record['id'] for record in records))


def read_images(records: list[Any], folder: Path) -> list[ImageRecord]:
    """List of `ImageRecord` of the file's images, whose files are in a folder."""
    _check_records(records, 'images', ('id', 'file_name', 'width', 'height'))
    images = []
    for record in records:
        sides = record['width'], record['height']
        if not all(isinstance(side, (int, float)) and 1 <= side < 10 ** 12 and side % 1 == 0 for side in sides):
            raise ValueError(f'image {_short(record["id"])} is {_short(sides[0])} wide and {_short(sides[1])} high; '
                             'give whole numbers of pixels')
        if sides[0] * sides[1] >= MAX_PIXELS:
            raise ValueError(f'image {_short(record["id"])} is {_short(sides[0])} wide and {_short(sides[1])} high; '
                             'correct that, or cut it into tiles')
        images.append(ImageRecord(record['id'], folder / str(record['file_name']), *map(int, sides)))
    return images


def read_annotation(record: Any, images: list[ImageRecord], places: dict[Any, int],
                    labels: dict[Any, int]) -> Annotation:
    """An `Annotation` from a record of the file.

    Args:
        record: dict, or whatever else is in its place.
        images: list of `ImageRecord`.
        places: dict of their ids to their places in that list.
        labels: dict of category ids to classes, from 0.
    """
    i = _look_up(record, 'image_id', places)
    label = _look_up(record, 'category_id', labels)
    segmentation = _read_segmentation(record, images[i])
    box = _read_box(record, segmentation)
    return Annotation(i, label, bool(record.get('iscrowd')), segmentation, box, _within(box, images[i]),
                      _read_area(record))


def name_of(record: Any, position: int) -> str:
    """What to call a record of the file that is at a position, from 0."""
    return _short(record['id']) if isinstance(record, dict) and 'id' in record else f'no. {position + 1}'


def _look_up(record: Any, key: str, table: dict[Any, int]) -> int:
    if not isinstance(record, dict):
        raise ValueError('not a JSON object')
    value = record.get(key)
    if not isinstance(value, (int, str)) or value not in table:
        raise ValueError(f'its {key}, {reprlib.repr(value)}, is not in the file')
    return table[value]


def _read_segmentation(record: dict[str, Any], image: ImageRecord) -> Any:
    """Packed polygons, or a compressed RLE."""
    segmentation = record.get('segmentation')
    if not segmentation:
        raise ValueError('no segmentation')
    if isinstance(segmentation, dict):
        size = [image.height, image.width]
        if segmentation.get('size') != size:
            raise ValueError(f'an RLE of size {reprlib.repr(segmentation.get("size"))} for an image of size {size}')
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
        if not (math.isfinite(sum(polygon)) and -MAX_COORDINATE <= min(polygon) and max(polygon) <= MAX_COORDINATE):
            raise ValueError('a polygon with a coordinate far from any image')
    return segmentation


def _read_box(record: dict[str, Any], segmentation: Any) -> list[float]:
    """x y width height, as in the file."""
    box = record.get('bbox') or _enclosing_box(segmentation)
    packed = _pack(box)
    if packed is None or len(packed) != 4 or not math.isfinite(sum(packed)):
        raise ValueError(f'its bbox, {reprlib.repr(box)}, is not four finite numbers')
    return packed.tolist()


def _within(box: list[float], image: ImageRecord) -> tuple[float, float, float, float]:
    """x0 y0 x1 y1 of the part of a box that is in the image."""
    x, y, width, height = box
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + width, image.width), min(y + height, image.height)
    if min(x1 - x0, y1 - y0) < _MIN_SIDE:
        raise ValueError(f'its box, {box}, has no area within the image')
    return x0, y0, x1, y1


def _read_area(record: dict[str, Any]) -> float:
    """NaN where the file has none."""
    return (_pack([record.get('area')]) or [math.nan])[0]


def _short(value: Any) -> str:
    """A value of the file in words, not all of it if it is long."""
    return value if isinstance(value, str) and len(value) <= 60 else reprlib.repr(value)


def _enclosing_box(segmentation: Any) -> list[float]:
    """x y width height, as in the file."""
    if isinstance(segmentation, dict):
        rle: Any = segmentation
        return list(mask_api.toBbox(rle))
    xs, ys = np.concatenate(unpack(segmentation)).T
    return [xs.min(), ys.min(), np.ptp(xs), np.ptp(ys)]
