"""Converts a folder of labelme's label files to a COCO-style annotation file.

    python -m tools.convert my/images --out my/annotations.json
"""
import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.labelme import read_labelme
from system.arguments import ArgumentParser
from system.command import run
from system.errors import UserError
from system.files import check_writable, replacing
from system.messages import one_line, pluralize
from system.progress import show_progress

COCO_STARTS = ('{"images": [', '{"annotations": [')  # how the files begin that this tool and demo.py write
VAL_PERIOD = 10  # with --val, one image in so many is for validation

Record = dict[str, Any]  # a JSON object of an annotation file
Annotations = dict[str, list[Record]]  # an annotation file: its images, annotations and categories


def main(argv: list[str] | None = None) -> int:
    """Converts a folder. Returns the exit status: 1 if something was left out."""
    args = parse_arguments(argv)
    outs = [out for out in (args.out, args.val) if out]
    paths = label_files(args.folder, outs)
    for out in outs:
        check_writable(out)
    annotations, problems = convert_labelme(paths, args.folder, args.classes)
    for out, part in zip(outs, split(annotations) if args.val else [annotations]):
        with replacing(out) as file:
            json.dump(part, file)
        print(f'{one_line(out)}: {pluralize(len(part["images"]), "image")}, '
              f'{pluralize(len(part["annotations"]), "object")}, {pluralize(len(part["categories"]), "class")}')
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog='python -m tools.convert',
        description="Convert a folder of labelme's label files to a COCO-style annotation file for train.py and "
                    'eval.py. The folder is then also the folder of images.')
    parser.add_argument('folder', type=Path, help="folder of labelme's .json files and the images")
    parser.add_argument('--out', type=Path, required=True, help='annotation file to write')
    parser.add_argument('--classes', type=_class_names,
                        help='class names, separated by commas; objects of other classes are left out '
                             '(default: all classes that occur)')
    parser.add_argument('--val', type=Path, help='write every tenth image to this annotation file instead')
    args = parser.parse_args(argv)
    if args.val and os.path.realpath(args.val) == os.path.realpath(args.out):
        parser.error('--out and --val must be two different files')
    return args


def _class_names(text: str) -> list[str]:
    return [name.strip() for name in text.split(',')] if text else []


def label_files(folder: Path, outs: Sequence[Path]) -> list[Path]:
    """The label files of a folder, sorted by name. COCO-style files that this tool or demo.py wrote there are skipped.

    Args:
        folder: where to look.
        outs: files to be written.
    Raises:
        UserError: the folder has no label files, or one of them would be overwritten.
    """
    paths = [path for path in sorted(folder.glob('*.json')) if not _is_coco(path)]
    if not paths:
        raise UserError(f'{folder}: has no .json files of labelme; name the folder that has')
    inputs = {os.path.realpath(path) for path in paths}
    for out in outs:
        if os.path.realpath(out) in inputs:
            raise UserError(f'{out}: is one of the label files to convert; name another file to write')
    return paths


def _is_coco(path: Path) -> bool:
    """Whether a file begins as the annotation files that this tool and demo.py write."""
    if not os.path.isfile(path):
        return False
    try:
        with path.open(encoding='ascii', errors='replace') as file:
            return file.read(max(map(len, COCO_STARTS))).startswith(COCO_STARTS)
    except OSError:  # reported when it is read as a label file
        return False


def convert_labelme(paths: Sequence[Path], folder: Path,
                    names: Sequence[str] | None = None) -> tuple[Annotations, list[str]]:
    """COCO-style annotations of label files.

    Args:
        paths: the label files.
        folder: images in it are named by their path relative to it, others by their absolute path.
        names: the class names, in order; None for those that occur, sorted.
    Returns:
        The annotations, and a line for each thing that was left out.
    """
    converted, problems = [], []
    for path in show_progress(paths, len(paths), 'files', 'reading'):
        try:
            image, size, objects, warnings = read_labelme(path)
        except UserError as error:
            problems.append(str(error))
            continue
        converted.append((image, size, objects))
        problems += warnings
    names = names or sorted({name for _, _, objects in converted for name, _ in objects})
    category_ids = {name: id for id, name in enumerate(names, 1)}
    images: list[Record] = []
    annotations: list[Record] = []
    for image, (height, width), objects in converted:
        images.append({'id': len(images) + 1, 'file_name': _file_name(image, folder), 'width': width,
                       'height': height})
        for name, polygons in objects:
            if name not in category_ids:
                problems.append(one_line(f'{image}: an object of class {name!r} is left out: not one of --classes'))
                continue
            annotations.append(_annotation(len(annotations) + 1, len(images), category_ids[name], polygons))
    categories = [{'id': id, 'name': name} for name, id in category_ids.items()]
    return {'images': images, 'annotations': annotations, 'categories': categories}, problems


def _file_name(image: Path, folder: Path) -> str:
    """An image's path, relative to the folder if it is in it, with forward slashes."""
    image, folder = Path(os.path.realpath(image)), Path(os.path.realpath(folder))
    return (image.relative_to(folder) if image.is_relative_to(folder) else image).as_posix()


def _annotation(id: int, image_id: int, category_id: int, polygons: Sequence[np.ndarray]) -> Record:
    """A COCO annotation of one object. The polygons are float64 [m, 2], x y in pixels."""
    points = np.concatenate(polygons)
    low, high = points.min(0), points.max(0)
    return {'id': id, 'image_id': image_id, 'category_id': category_id, 'iscrowd': 0,
            'bbox': [*low.tolist(), *(high - low).tolist()], 'area': sum(map(_area, polygons)),
            'segmentation': [polygon.ravel().tolist() for polygon in polygons]}


def _area(polygon: np.ndarray) -> float:
    """Square pixels (the shoelace formula)."""
    x, y = polygon.T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def split(annotations: Annotations) -> tuple[Annotations, Annotations]:
    """Annotations for training and for validation: every tenth image, from the first on, is for validation."""
    def select(val: bool) -> Annotations:
        images = [image for image in annotations['images'] if (image['id'] % VAL_PERIOD == 1) == val]
        ids = {image['id'] for image in images}
        return {**annotations, 'images': images,
                'annotations': [record for record in annotations['annotations'] if record['image_id'] in ids]}
    return select(val=False), select(val=True)


if __name__ == '__main__':
    run(main)
