"""Reading and checking a COCO-style annotation file, record by record.

Errors are ValueErrors, whose messages become part of a line that names the file.
"""
import json
import math
import reprlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.images import ImageError, read_image
from data.masks import RLE, Segmentation, bounding_box, compress
from model.classes import Classes
from system.files import is_inside
from system.limits import MAX_JSON, check_size
from system.messages import one_line

_USED_KEYS = frozenset((
    'images', 'annotations', 'categories', 'id', 'name', 'file_name', 'width', 'height',
    'image_id', 'category_id', 'iscrowd', 'bbox', 'area', 'segmentation', 'size', 'counts',
))
_MIN_BOX_SIDE = 1e-3  # pixels; a thinner box may have no area once it is float32
MAX_COORDINATE = 1e5  # pixels from an image's corner
MAX_PIXELS = 2 ** 29  # in an image; run lengths above it may overflow when pycocotools compresses them

PackedSegmentation = list['array[float]'] | RLE  # polygons, each x y x y ... in pixels; or a compressed RLE


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image as the annotation file lists it. Width and height are in pixels."""
    id: int | str
    path: Path
    width: int
    height: int

    def read(self) -> np.ndarray:
        """Its pixels, uint8 [height, width, 3], BGR.

        Raises:
            ImageError: the file cannot be read, or its size is not the one in the annotation file.
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
        image: index of its image, from 0.
        label: its class, from 0.
        crowd: whether it is a crowd.
        segmentation: polygons or a compressed RLE.
        box: x y width height in pixels, as in the file, or else of the segmentation.
        clipped_box: x0 y0 x1 y1 in pixels of the part of the box within the image.
        area: pixels, as in the file; NaN where it has none.
    """
    image: int
    label: int
    crowd: bool
    segmentation: PackedSegmentation
    box: list[float]
    clipped_box: tuple[float, float, float, float]
    area: float


def parse(path: Path) -> dict[str, Any]:
    """The file's top-level object, with only the keys that are used, and with packed polygons.

    Raises:
        ValueError: the file cannot be read, or is not a JSON object.
    """
    try:
        check_size(path, MAX_JSON)
        with open(path, encoding='utf-8-sig') as file:
            content = json.load(file, object_hook=_shrink)
    except OSError as error:
        raise ValueError(f'cannot be read ({error.strerror}); check the path') from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f'is not JSON ({error}); give a COCO-style annotation file') from None
    if not isinstance(content, dict):
        raise ValueError('is not a JSON object; give a COCO-style annotation file')
    return content


def _shrink(record: dict[str, Any]) -> dict[str, Any]:
    """An object of the file with only the keys that are used. A packed number takes 8 bytes instead of 32."""
    kept = {key: value for key, value in record.items() if key in _USED_KEYS}
    if isinstance(kept.get('segmentation'), list):
        kept['segmentation'] = [_pack(polygon) for polygon in kept['segmentation']]
    return kept


def _pack(polygon: Any) -> 'array[float] | None':
    """A list of numbers as an array of float64; None for anything else."""
    try:
        return array('d', polygon)
    except (TypeError, OverflowError):
        return None


def unpack(segmentation: PackedSegmentation) -> Segmentation:
    """The segmentation of an `Annotation` with its polygons as float64 [m, 2] each."""
    if isinstance(segmentation, dict):
        return segmentation
    return [np.array(polygon).reshape(-1, 2) for polygon in segmentation]


def records_of(content: dict[str, Any], key: str) -> list[Any]:
    """The file's list of that name, such as 'images'.

    Raises:
        ValueError: there is none.
    """
    records = content.get(key)
    if not isinstance(records, list):
        raise ValueError(f'has no list of {key}; give a COCO-style annotation file')
    return records


def _check_records(records: list[Any], what: str, keys: tuple[str, ...]) -> None:
    """Check that there are records, that each has the keys, and that no id repeats."""
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
    """`Classes` of the file's categories, in ascending order of their ids.

    Raises:
        ValueError: a category is wrong.
    """
    _check_records(records, 'categories', ('id', 'name'))
    for record in records:
        if not isinstance(record['id'], int):
            raise ValueError(f'category {_short(record["name"])} has the id {reprlib.repr(record["id"])}; '
                             'give it a whole number')
    records = sorted(records, key=lambda record: record['id'])
    return Classes(tuple(one_line(record['name']) for record in records),
                   tuple(record['id'] for record in records))


def read_images(records: list[Any], folder: Path, outside: bool = False) -> list[ImageRecord]:
    """The file's images, whose files are in a folder; if `outside`, also elsewhere.

    Raises:
        ValueError: an image is wrong.
    """
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
        path = folder / str(record['file_name'])
        if not outside and not is_inside(path, folder):
            raise ValueError(f'image {_short(record["id"])} is outside the folder of images: '
                             f'{_short(record["file_name"])}; correct its file_name, or allow it with --allow_outside')
        images.append(ImageRecord(record['id'], path, *map(int, sides)))
    return images


def read_annotation(record: Any, images: list[ImageRecord], image_indices: dict[int | str, int],
                    labels: dict[int, int]) -> Annotation:
    """An `Annotation` from a record of the file.

    Args:
        record: dict, or anything else that the file has in its place.
        images: the file's images.
        image_indices: indices in `images` by image id.
        labels: classes, from 0, by category id.
    Raises:
        ValueError: the record is wrong.
    """
    if not isinstance(record, dict):
        raise ValueError('not a JSON object')
    i = _look_up(record, 'image_id', image_indices)
    label = _look_up(record, 'category_id', labels)
    segmentation = _read_segmentation(record, images[i])
    box = _read_box(record, segmentation)
    return Annotation(i, label, bool(record.get('iscrowd')), segmentation, box, _clip(box, images[i]),
                      _read_area(record))


def record_name(record: Any, position: int) -> str:
    """How messages name a record of the file: by its id, or else by its position, which is from 0."""
    return _short(record['id']) if isinstance(record, dict) and 'id' in record else f'no. {position + 1}'


def _look_up(record: dict[str, Any], key: str, table: Mapping[Any, int]) -> int:
    """The index that belongs to the id under a key."""
    value = record.get(key)
    if not isinstance(value, (int, str)) or value not in table:
        raise ValueError(f'its {key}, {reprlib.repr(value)}, is not in the file')
    return table[value]


def _read_segmentation(record: dict[str, Any], image: ImageRecord) -> PackedSegmentation:
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


def _read_box(record: dict[str, Any], segmentation: PackedSegmentation) -> list[float]:
    """x y width height, as in the file, or else of the segmentation."""
    box = record.get('bbox') or _enclosing_box(segmentation)
    packed = _pack(box)
    if packed is None or len(packed) != 4 or not math.isfinite(sum(packed)):
        raise ValueError(f'its bbox, {reprlib.repr(box)}, is not four finite numbers')
    return packed.tolist()


def _clip(box: list[float], image: ImageRecord) -> tuple[float, float, float, float]:
    """x0 y0 x1 y1 of the part within the image of a box of x y width height."""
    x, y, width, height = box
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + width, image.width), min(y + height, image.height)
    if min(x1 - x0, y1 - y0) < _MIN_BOX_SIDE:
        raise ValueError(f'its box, {box}, has no area within the image')
    return x0, y0, x1, y1


def _read_area(record: dict[str, Any]) -> float:
    """Pixels, as in the file; NaN where it has none."""
    return (_pack([record.get('area')]) or [math.nan])[0]


def _short(value: Any) -> str:
    """A value of the file for a message, abbreviated if it is long."""
    return value if isinstance(value, str) and len(value) <= 60 else reprlib.repr(value)


def _enclosing_box(segmentation: PackedSegmentation) -> list[float]:
    """The tight box around a segmentation: x y width height in pixels."""
    if isinstance(segmentation, dict):
        return bounding_box(segmentation)
    xs, ys = np.concatenate([np.array(polygon).reshape(-1, 2) for polygon in segmentation]).T
    return [xs.min(), ys.min(), np.ptp(xs), np.ptp(ys)]
