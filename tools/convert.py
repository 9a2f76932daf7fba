"""Converts labels of other formats to COCO-style annotation files, one for each split.

    python -m tools.convert my/images my/annotations.json    # labelme's files
    python -m tools.convert my/yolo/data.yaml my/annotations # → train.json, val.json
"""
import argparse
import json
import os
import shlex
import sys
from pathlib import Path

from data.coco_file import Annotations, class_names, make_annotations
from data.label_formats import RECOGNISED, Options, recognise
from data.label_set import LabelSet, summarise
from system.arguments import ArgumentParser, nonempty, nonempty_path
from system.command import run
from system.errors import UserError
from system.files import check_output, check_writable, replacing
from system.messages import one_line, pluralize

VAL_PERIOD = 10  # with --val, one image in so many is for validation
UNSPLIT = 'annotations'  # the name of the file in a folder where there are no splits
TRAINING = 'python train.py --recipe=own_data --minutes=60'

Part = tuple[str, Path, Annotations, Path]  # name of a split, file to write, its content, and the folder of images


def main(argv: list[str] | None = None) -> int:
    """Converts labels. Returns the exit status: 1 if something was left out."""
    args = parse_arguments(argv)
    reader = recognise(args.input)
    files = [out for out in (args.file, args.val) if out]
    for out in files:
        check_writable(out)
    labels = reader(Options(args.images, args.attribute, args.allow_outside))
    parts = convert(labels, args)
    for _, out, *_ in parts:
        check_output(out, labels.inputs)
    for _, out, content, _ in parts:
        with replacing(out) as file:
            json.dump(content, file)
        print(f'{one_line(out)}: {pluralize(len(content["images"]), "image")}, '
              f'{pluralize(len(content["annotations"]), "object")}, {pluralize(len(content["categories"]), "class")}')
    if command := training_command(parts):
        print(one_line(f'to train: {command}'))
    for line in summarise(labels.left_out):
        print(line, file=sys.stderr)
    return 1 if labels.left_out else 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog='python -m tools.convert',
        description='Convert labels of other formats to COCO-style annotation files for train.py and eval.py. '
                    f'Recognised are {RECOGNISED}.')
    parser.add_argument('input', type=nonempty_path, metavar='IN', help='file or folder of labels')
    parser.add_argument('output', type=nonempty_path, metavar='OUT', nargs='?',
                        help='annotation file to write, NAME.json, or a folder for one of each split')
    parser.add_argument('--out', type=nonempty_path, metavar='FILE', help='annotation file to write, whatever its name')
    parser.add_argument('--classes', type=_class_names,
                        help='class names, separated by commas; objects of other classes are left out '
                             '(default: all classes)')
    parser.add_argument('--val', type=nonempty_path, metavar='FILE',
                        help='write every tenth image to this annotation file instead')
    parser.add_argument('--images', type=nonempty_path, metavar='DIR',
                        help="folder of the images, where they are not with the labels (labelme, VGG Image Annotator)")
    parser.add_argument('--attribute', type=nonempty,
                        help="attribute of VGG Image Annotator's regions that is the class (default: the one that most "
                             'regions have)')
    parser.add_argument('--allow_outside', action='store_true',
                        help='read images that the labels name by a path out of their folder (default: off)')
    args = parser.parse_args(argv)
    if bool(args.output) == bool(args.out):
        parser.error('name what to write, OUT')
    args.file = args.out or (args.output if args.output.suffix.lower() == '.json' else None)
    if args.val and os.path.realpath(args.val) == os.path.realpath(args.file or args.output / f'{UNSPLIT}.json'):
        parser.error('--out and --val must be two different files')
    return args


def _class_names(text: str) -> list[str]:
    return [name.strip() for name in text.split(',')] if text else []


def convert(labels: LabelSet, args: argparse.Namespace) -> list[Part]:
    """The annotation files to write. What is left out of them is added to the labels.

    Raises:
        UserError: there are several splits, and one file to write; or no image.
    """
    splits = {name: split for name, split in labels.splits.items() if split.images}
    if not splits and len(labels.splits) != 1:
        reason = f' ({next(summarise(labels.left_out))})' if labels.left_out else ''
        raise UserError(f'{args.input}: has no images that can be used{reason}')
    splits = splits or labels.splits
    if len(splits) > 1 and (args.file or args.val):
        raise UserError(f'{args.input}: has the splits {", ".join(splits)} already; name a folder to write a file of '
                        'each to, without --val')
    names = args.classes or class_names(labels)
    parts: list[Part] = []
    for name, split in splits.items():
        out = args.file or args.output / f'{name or UNSPLIT}.json'
        content, folder = make_annotations(split, names, labels.left_out, args.allow_outside)
        if args.val:
            train, val = divide(content)
            parts += [('train', out, train, folder), ('val', args.val, val, folder)]
        else:
            parts.append((name or 'train', out, content, folder))
    return parts


def divide(annotations: Annotations) -> tuple[Annotations, Annotations]:
    """Annotations for training and for validation: every tenth image, from the first on, is for validation."""
    def select(val: bool) -> Annotations:
        images = [image for image in annotations['images'] if (image['id'] % VAL_PERIOD == 1) == val]
        ids = {image['id'] for image in images}
        return {**annotations, 'images': images,
                'annotations': [record for record in annotations['annotations'] if record['image_id'] in ids]}
    return select(val=False), select(val=True)


def training_command(parts: list[Part]) -> str:
    """How to train on the files that were written; nothing if none of them is to train on."""
    flags = {}
    for name, out, content, folder in parts:
        if name in ('train', 'val', 'valid') and content['annotations']:
            which = 'train' if name == 'train' else 'valid'
            flags[which] = (f' --{which}_images_path={shlex.quote(str(folder))}'
                            f' --{which}_anno_path={shlex.quote(str(out))}')
    if 'train' not in flags:
        return ''
    return TRAINING + flags['train'] + (flags['valid'] + ' --eval' if 'valid' in flags else '')


if __name__ == '__main__':
    run(main)
