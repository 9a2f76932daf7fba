"""Splits a dataset into images to train on, to validate and to test with, and keeps near copies together.

    python -m tools.split my/annotations.json my/images --out my/split
"""
import argparse
import contextlib
import functools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.arguments import add_allow_outside
from data.coco import CocoDataset
from data.images import ImageError
from data.near_copies import SIMILARITY, group_near_copies, read_thumbnail
from data.stratification import stratify
from system.arguments import ArgumentParser, fraction, nonempty_path, nonnegative_int
from system.command import run
from system.cpu import default_workers
from system.errors import UserError
from system.files import check_output, replacing
from system.messages import one_line, pluralize
from system.progress import show_progress
from system.worker_pool import parallel_map

SPLITS = ('train', 'val', 'test')
MAX_NAME = 60  # characters of a class's name in the table

Record = dict[str, Any]  # a JSON object of an annotation file


def main(argv: list[str] | None = None) -> int:
    """Splits a dataset. Returns the exit status: 1 if there are images that cannot be read."""
    args = parse_arguments(argv)
    dataset = CocoDataset(args.annotations, args.images, args.allow_outside)
    dataset.check_annotations()
    dataset.check_folder()
    shares = {name: share for name, share in zip(SPLITS, args.shares) if share}
    outs = {name: args.out / f'{name}.json' for name in shares}
    for out in outs.values():
        check_output(out, dataset.files)
    for name in SPLITS:
        if name not in shares and os.path.lexists(args.out / f'{name}.json'):
            raise UserError(f'{args.out / name}.json: is there, but its share is 0; remove it, or name another --out')
    groups, problems = find_groups(dataset, args.similarity)
    splits = split_groups(dataset, groups, list(shares.values()), args.seed)
    write_splits(dataset, splits, list(outs.values()))
    print_table(dataset, groups, splits, list(shares))
    print(f'\nThe annotation files are in {one_line(args.out)}; their folder of images is {one_line(args.images)}')
    if problems:
        print(*problems, f'Images that cannot be read, and whose near copies are known by name only: {len(problems)}; '
              'mend or remove them', sep='\n', file=sys.stderr)
    return 1 if problems else 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog='python -m tools.split',
        description='Split a COCO-style dataset into train.json, val.json and test.json, at random, each with its '
                    'share of the images and of every class. Near copies stay together: images that Roboflow made of '
                    'one image, and images that look alike, mirrored or turned as they may be. The images stay where '
                    'they are. The exit status is 1 if some cannot be read.')
    parser.add_argument('annotations', type=Path, help='annotation file')
    parser.add_argument('images', type=Path, help='folder of its images, and of those of the files to write')
    add_allow_outside(parser)
    parser.add_argument('--out', type=nonempty_path, required=True, help='folder to write the annotation files to')
    parser.add_argument('--shares', type=fraction, nargs=3, default=[0.8, 0.1, 0.1], metavar=('TRAIN', 'VAL', 'TEST'),
                        help='of the images; 0 leaves a split out (default: 0.8 0.1 0.1)')
    parser.add_argument('--similarity', type=fraction, default=SIMILARITY,
                        help='correlation of small grey versions of two images above which they are near copies; lower '
                             'keeps more together, 1 goes by name only (default: %(default)s)')
    parser.add_argument('--seed', type=nonnegative_int, default=0,
                        help='another seed splits otherwise (default: %(default)s)')
    args = parser.parse_args(argv)
    if abs(sum(args.shares) - 1) > 1e-6:
        parser.error(f'--shares: {" + ".join(f"{share:g}" for share in args.shares)} is {sum(args.shares):g}; give '
                     'shares that add up to 1')
    return args


def find_groups(dataset: CocoDataset, similarity: float = SIMILARITY) -> tuple[np.ndarray, list[str]]:
    """The group of near copies that each image is in, and a line for each image that cannot be read.

    Args:
        dataset: its images are read, by several processes, unless `similarity` is 1.
        similarity: as of `data.near_copies.similar_pairs`; 1 to go by names only.
    """
    paths = [image.path for image in dataset.images]
    if similarity >= 1:
        return group_near_copies(paths, [None] * len(paths)), []
    thumbnails: list[np.ndarray | None] = []
    problems = []
    read = parallel_map(functools.partial(_read_thumbnail, dataset), range(len(dataset)), default_workers())
    for thumbnail, error in show_progress(read, len(dataset), 'images', 'comparing'):
        thumbnails.append(thumbnail)
        problems += [error] * bool(error)
    return group_near_copies(paths, thumbnails, similarity), problems


def _read_thumbnail(dataset: CocoDataset, i: int) -> tuple[np.ndarray | None, str]:
    """The thumbnail of image i and an empty text, or None and what is wrong with the image."""
    try:
        return read_thumbnail(dataset.images[i].path), ''
    except ImageError as error:
        return None, str(error)


def split_groups(dataset: CocoDataset, groups: np.ndarray, shares: Sequence[float], seed: int = 0) -> np.ndarray:
    """The split of each image, int64 [images], so that groups stay together and classes are spread by the shares.

    Raises:
        UserError: there are fewer groups than splits.
    """
    number = int(groups.max()) + 1
    if number < len(shares):
        raise UserError(f'{dataset.annotations_path}: has {pluralize(number, "group")} of near copies, too few for '
                        f'{len(shares)} splits; add images, set a share to 0, or raise --similarity')
    counts = np.zeros((number, len(dataset.classes)), np.int64)
    for i, group in enumerate(groups.tolist()):
        counts[group, np.unique(dataset.objects(i).labels)] += 1
    return stratify(counts, np.bincount(groups), shares, seed)[groups]


def write_splits(dataset: CocoDataset, splits: np.ndarray, outs: Sequence[Path]) -> None:
    """Writes an annotation file for each split, with the records as they are in the dataset's file: all or none."""
    with open(dataset.annotations_path, encoding='utf-8-sig') as file:
        content: Record = json.load(file)
    split_of = {image.id: split for image, split in zip(dataset.images, splits.tolist())}
    rest = {key: value for key, value in content.items() if key not in ('images', 'annotations')}
    parts: list[dict[str, list[Record]]] = [{'images': [], 'annotations': []} for _ in outs]
    for image in content['images']:
        parts[split_of[image['id']]]['images'].append(image)
    for record in content['annotations']:
        image_id = record.get('image_id') if isinstance(record, dict) else None
        if isinstance(image_id, (int, str)) and image_id in split_of:
            parts[split_of[image_id]]['annotations'].append(record)
    with contextlib.ExitStack() as stack:
        for out, part in zip(outs, parts):
            json.dump({**part, **rest}, stack.enter_context(replacing(out)))


def print_table(dataset: CocoDataset, groups: np.ndarray, splits: np.ndarray, names: Sequence[str]) -> None:
    """Prints what is in each split: images, groups of near copies and objects by class."""
    objects = np.zeros((len(names), len(dataset.classes)), np.int64)
    for i, split in enumerate(splits.tolist()):
        objects[split] += np.bincount(dataset.objects(i).labels, minlength=len(dataset.classes))
    sizes = np.bincount(groups)
    copied = {name: np.unique(groups[(splits == split) & (sizes[groups] > 1)]) for split, name in enumerate(names)}
    rows = {'images': [str((splits == split).sum()) for split in range(len(names))],
            'share': [f'{(splits == split).mean():.1%}' for split in range(len(names))],
            'groups of near copies': [str(len(found)) for found in copied.values()],
            'images in them': [str(sizes[found].sum()) for found in copied.values()]}
    classes = [(one_line(name, MAX_NAME), list(map(str, objects[:, label])))
               for label, name in enumerate(dataset.classes.names)]
    width = max(len(name) for name, _ in [*rows.items(), *classes])
    for name, cells in [('', list(names)), *rows.items(), ('', []), ('objects', list(names)), *classes]:
        print(f'{name:<{width}}' + ''.join(f'{cell:>10}' for cell in cells) if cells else '')
    missing = [one_line(name) for label, name in enumerate(dataset.classes.names)
               if objects[:, label].any() and not objects[:, label].all()]
    if missing:
        print(f'\nNot in every split: {", ".join(missing)}; annotate more images with them')
    if len(sizes) > 1 and sizes.max() > len(groups) / 2:
        print(f'\nOne group of near copies has {sizes.max()} of {len(groups)} images; if these are not copies, raise '
              '--similarity')


if __name__ == '__main__':
    run(main)
