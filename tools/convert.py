"""Label files of other programs → a COCO-style annotation file.

    python -m tools.convert my/images --out my/annotations.json
"""
import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.images import ImageError
from data.labelme import read_labelme
from system.command import run
from system.errors import UserError
from system.files import check_writable, replacing
from system.messages import one_line, pluralize

OURS = ('{"images": [', '{"annotations": [')  # how the annotations begin that this program and demo.py write


def to_coco(paths, names=None, root=None):
    """COCO-style annotations of labelme's files.

    Args:
        paths: list of Path.
        names: list of str, the classes in order; None for those that occur, by name.
        root: Path that the images' names are told from; None for the folder of the first file.
    Returns:
        dict of images, annotations and categories, and a list of str, a line for each thing that is left out.
    """
    read, problems = [], []
    for path in tqdm(paths, 'reading', unit=' files', disable=None, leave=False):
        try:
            *one, warnings = read_labelme(path)
        except (UserError, ImageError) as error:
            problems.append(str(error))
            continue
        read.append(one)
        problems += warnings
    names = names or sorted({label for _, _, objects in read for label, _ in objects})
    ids = {name: id for id, name in enumerate(names, 1)}
    images, annotations = [], []
    for image, (height, width), objects in read:
        images.append({'id': len(images) + 1, 'file_name': _relative(image, root or paths[0].parent),
                       'width': width, 'height': height})
        for label, parts in objects:
            if label not in ids:
                problems.append(one_line(f'{image}: an object named {label!r} is left out: not one of --classes'))
                continue
            annotations.append(_annotation(len(annotations) + 1, len(images), ids[label], parts))
    categories = [{'id': id, 'name': name} for name, id in ids.items()]
    return {'images': images, 'annotations': annotations, 'categories': categories}, problems


def _relative(image, root):
    image, root = (Path(os.path.realpath(path)) for path in (image, root))
    return (image.relative_to(root) if image.is_relative_to(root) else image).as_posix()


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
        prog='python -m tools.convert', description="COCO-style annotations of a folder of labelme's files. "
        'train.py and eval.py take them, with the folder as that of the images.')
    parser.add_argument('folder', type=Path, help="folder of labelme's .json files and the images")
    parser.add_argument('--out', type=Path, required=True, help='annotation file to write')
    parser.add_argument('--classes', help='names, divided by commas; others are left out (default: all that occur)')
    parser.add_argument('--val', type=Path, help='write every tenth image into this annotation file instead')
    args = parser.parse_args(argv)
    if args.val and os.path.realpath(args.val) == os.path.realpath(args.out):
        parser.error('--out and --val are to be two files')
    names = [name.strip() for name in args.classes.split(',')] if args.classes else None
    outs = [out for out in (args.out, args.val) if out]
    paths = label_files(args.folder, outs)
    for out in outs:
        check_writable(out)
    content, problems = to_coco(paths, names, args.folder)
    for out, part in zip(outs, split(content) if args.val else [content]):
        with replacing(out) as file:
            json.dump(part, file)
        print(f'{one_line(out)}: {pluralize(len(part["images"]), "image")}, '
              f'{pluralize(len(part["annotations"]), "object")}, {pluralize(len(part["categories"]), "class")}')
    print(*problems, sep='\n', end='\n' * bool(problems), file=sys.stderr)
    return 1 if problems else 0


def label_files(folder, outs):
    """The label files of a folder, list of Path by name. Annotations that were written there before are none.

    Raises:
        UserError: there are none, or one would be written over.
    """
    paths = [path for path in sorted(folder.glob('*.json')) if not _is_ours(path)]
    if not paths:
        raise UserError(f'{folder}: has no .json files of labelme; name the folder that has')
    places = {os.path.realpath(path) for path in paths}
    for out in outs:
        if os.path.realpath(out) in places:
            raise UserError(f'{out}: is one of the files to read; name another one to write')
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
    """Most of the images, and every tenth one, from the first on."""
    def part(chosen):
        ids = {image['id'] for image in content['images'] if (image['id'] % 10 == 1) == chosen}
        return {**content, 'images': [image for image in content['images'] if image['id'] in ids],
                'annotations': [one for one in content['annotations'] if one['image_id'] in ids]}
    return part(False), part(True)


if __name__ == '__main__':
    run(main)
