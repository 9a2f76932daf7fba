"""Annotations and annotation files with every kind of error, and unusual ones without.

`BAD_ANNOTATIONS` holds, by name, keys that make a good annotation an invalid one, which is left out, and a pattern of
its warning. `UNUSUAL_ANNOTATIONS` holds keys that make it an unusual one, which is used. `BAD_FILES` holds the contents
of invalid files, and a pattern of their error.
"""
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

TRIANGLE = [10, 10, 30, 10.5, 10, 30.2]
SQUARE = [40, 20, 60, 20, 60, 40, 40, 40]


def annotation(id: object, **keys: Any) -> dict[str, Any]:
    """A good annotation of image 7 and category 3, with other values for some keys."""
    return {'id': id, 'image_id': 7, 'category_id': 3, 'iscrowd': 0, 'area': 200.0, 'caption': 'no use',
            'bbox': [10, 10, 20, 20], 'segmentation': [TRIANGLE], **keys}


def image(id: object, **keys: Any) -> dict[str, Any]:
    """An image of 80x60 pixels, with other values for some keys."""
    return {'id': id, 'file_name': f'{id}.jpg', 'width': 80, 'height': 60, 'license': 1, **keys}


def category(id: object, name: str) -> dict[str, Any]:
    return {'id': id, 'name': name, 'supercategory': 'thing'}


def content(annotations: Iterable[dict[str, Any]] = (), **keys: Any) -> dict[str, Any]:
    """An annotation file of images 7 and 8 and category 3, with other values for some keys."""
    return {'images': [image(7), image(8)], 'annotations': list(annotations),
            'categories': [category(3, 'cat')], 'info': {}, **keys}


def write_json(path: Path, content: object) -> Path:
    """Write a value as JSON, or a str as it is. Returns the path."""
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    """A record without some of its keys."""
    return {key: value for key, value in record.items() if key not in keys}


BAD_ANNOTATIONS = {
    'unknown image': ({'image_id': 99}, 'image_id, 99'),
    'image id of a wrong type': ({'image_id': [7]}, 'image_id'),
    'unknown category': ({'category_id': 99}, 'category_id, 99'),
    'no category': ({'category_id': None}, 'category_id, None'),
    'null segmentation': ({'segmentation': None}, 'no segmentation'),
    'empty segmentation': ({'segmentation': []}, 'no segmentation'),
    'polygon not in a list': ({'segmentation': TRIANGLE}, 'not a list of numbers'),
    'text in a polygon': ({'segmentation': [[1, 2, 'a', 4, 5, 6]]}, 'not a list of numbers'),
    'text': ({'segmentation': 'mask.png'}, 'neither polygons nor an RLE'),
    'two points': ({'segmentation': [[1, 2, 3, 4]]}, 'under 3 points'),
    'no points': ({'segmentation': [TRIANGLE, []]}, 'under 3 points'),
    'odd length': ({'segmentation': [[*TRIANGLE, 5]]}, 'odd length'),
    'nan': ({'segmentation': [[1, 2, float('nan'), 4, 5, 6]]}, 'far from any image'),
    'far': ({'segmentation': [[1, 2, 1e9, 4, 5, 6]]}, 'far from any image'),
    'just too far': ({'segmentation': [[1, 2, 3, 4, 5, -100_001]]}, 'far from any image'),
    'inf': ({'segmentation': [[1, 2, float('inf'), 4, -float('inf'), 6]]}, 'far from any image'),
    'box without height': ({'bbox': [10, 10, 20, 0]}, 'no area'),
    'negative box': ({'bbox': [10, 10, -5, 20]}, 'no area'),
    'box outside': ({'bbox': [80, 10, 20, 20]}, 'no area'),
    'box of three': ({'bbox': [10, 10, 20]}, 'not four finite numbers'),
    'box of nan': ({'bbox': [10, float('nan'), 20, 20]}, 'not four finite numbers'),
    'box of text': ({'bbox': 'none'}, 'not four finite numbers'),
    'other size': ({'segmentation': {'size': [80, 60], 'counts': [4800]}}, r'of size \[80, 60\]'),
    'empty RLE': ({'segmentation': {'size': [60, 80], 'counts': [4800]}, 'bbox': None}, 'no area'),
    'short RLE': ({'segmentation': {'size': [60, 80], 'counts': [100, 10]}}, 'of 110 pixels'),
    'no counts': ({'segmentation': {'size': [60, 80]}}, 'without counts'),
    'lines in a box': ({'bbox': 'a\nb'}, 'not four finite numbers'),
    'a long box': ({'bbox': ['a'] * 10_000}, 'not four finite numbers'),
    'a long id': ({'category_id': list(range(10_000))}, 'category_id'),
    'junk counts': ({'segmentation': {'size': [60, 80], 'counts': '\u0001'}}, 'compressed notation'),
    'negative counts': ({'segmentation': {'size': [60, 80], 'counts': [-10, 4810]}}, 'negative count'),
    'fractions of counts': ({'segmentation': {'size': [60, 80], 'counts': [10.5, 4789.5]}}, 'not whole numbers'),
    # 100, 100, 4500 and 100, the last as a difference of 0 in nine characters, which pycocotools misreads
    'counts padded with zeros': ({'segmentation': {'size': [60, 80], 'counts': 'T3T3T\\4' + 'P' * 8 + '0'}},
                                 'compressed notation'),
    'endless counts': ({'segmentation': {'size': [60, 80], 'counts': 'o' * 1_000_000}}, 'compressed notation'),
}

UNUSUAL_ANNOTATIONS = {
    'negative coordinates': {'segmentation': [[-50, -40, 30, 10.5, 10, 30.2]]},
    'beyond the image': {'segmentation': [[10, 10, 900, 10, 900, 700]], 'bbox': [10, 10, 890, 690]},
    'outside the image': {'segmentation': [[200, 10, 900, 10, 900, 700]]},
    'a line': {'segmentation': [[10, 10, 20, 20, 30, 30]]},
    'one point': {'segmentation': [[10, 10] * 9]},
    'back and forth': {'segmentation': [[-1e5, 0, 1e5, 60] * 2000]},
    'a crowd': {'iscrowd': 1},
    'no area': {'area': 0},
    'odd area': {'area': 'large'},
    'a large box': {'bbox': [0, 0, 1e300, 1e300]},
}


def many_objects(number: int, **keys: Any) -> Iterator[dict[str, Any]]:
    """Squares all over image 7, with ids from 0."""
    for id in range(number):
        x, y = id * 7919 % 7000 / 100, id * 104729 % 5000 / 100
        yield annotation(id, bbox=[x, y, 10, 10], area=100, **keys,
                         segmentation=[[x, y, x + 10, y, x + 10, y + 10, x, y + 10]])


BAD_FILES = {
    'empty file': ('', 'is not JSON'),
    'cut short': ('{"images": [', 'is not JSON'),
    'cut near its end': (json.dumps(content([annotation(1)]))[:-20], 'is not JSON'),
    'not text': ('\0\x01\x02', 'is not JSON'),
    'a list': ([], 'not a JSON object'),
    'no images': (without(content(), 'images'), 'no list of images'),
    'images is an object': (content(images={}), 'no list of images'),
    'empty images': (content(images=[]), 'no images at all'),
    'no categories': (without(content(), 'categories'), 'no list of categories'),
    'empty categories': (content(categories=[]), 'no categories at all'),
    'null annotations': ({**content(), 'annotations': None}, 'no list of annotations'),
    'image without id': (content(images=[without(image(7), 'id')]), 'no. 1 of the images has no id'),
    'image without file': (content(images=[image(7), without(image(8), 'file_name')]),
                           'no. 2 of the images has no file_name'),
    'image without width': (content(images=[without(image(7), 'width')]), 'no width'),
    'image without height': (content(images=[image(7, height=None)]), 'no height'),
    'image of no width': (content(images=[image(7, width=0)]), 'image 7 is 0 wide'),
    'image of odd height': (content(images=[image(7, height='60')]), 'image 7 is 80 wide and 60 high'),
    'image too large to count its pixels': (content(images=[image(7, height=2 ** 32)]), 'cut it into tiles'),
    'image larger than runs can be': (content(images=[image(7, width=2 ** 15, height=2 ** 14)]), 'cut it into tiles'),
    'image of endless width': (content(images=[image(7, width=10 ** 400)]), 'image 7 is 1000.+ wide'),
    'image of two lines': (content(images=[image(7, width='a\nb')]), r"image 7 is a\\nb wide"),
    'image that is no object': (content(images=[3]), 'no. 1 of the images is not a JSON object'),
    'image id repeats': (content(images=[image(7), image(8), image(7)]), 'two of the images have the id 7'),
    'image id is a list': (content(images=[image([7])]), r'the id \[7\]'),
    'category id repeats': (content(categories=[category(3, 'a'), category(3, 'b')]),
                            'two of the categories have the id 3'),
    'category id is text': (content(categories=[category('3', 'a')]), "category a has the id '3'"),
    'category without name': (content(categories=[{'id': 3}]), 'has no name'),
}
