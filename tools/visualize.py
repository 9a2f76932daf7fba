"""Draws what is better looked at than read: training curves, augmented samples, anchors, prototypes.

    python -m tools.visualize curves weights
"""
import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.arguments import add_allow_outside, add_augmentation_changes
from data.augmentation import AUGMENTATIONS, choose_augmentation
from data.coco import CocoDataset
from data.images import read_image, write_image
from data.loader import Batches
from engines.selection import model_files
from model.config import PRESETS, Config, preset
from system.arguments import ArgumentParser, int_in_range, nonnegative_int
from system.command import run
from system.errors import UserError
from system.files import check_output, replacing
from system.messages import one_line
from visualization.curves import draw_curves
from visualization.plots import draw_anchors, draw_prototypes, draw_samples
from visualization.training_log import read_training_log

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg')
FIGURE_SUFFIXES = (*IMAGE_SUFFIXES, '.pdf', '.svg')
MAX_SAMPLES = 1000
LOG_NAME = 'log.jsonl'  # in the folder that train.py saves in


def main(argv: list[str] | None = None) -> int:
    """Draws what the command line asks for. Returns the exit status: 1 if something was left out."""
    args = parse_arguments(argv)
    check_suffix(args.out, args.suffixes)
    drawn, problems = args.draw(args)
    save(args.out, drawn)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(one_line(args.out))
    return 1 if problems else 0


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags, with two more attributes: the function that draws, and the suffixes that it can write."""
    parser = ArgumentParser(
        prog='python -m tools.visualize',
        description='Draw training curves, augmented samples, anchors or prototypes to an image.')
    commands = parser.add_subparsers(required=True, metavar='{curves,samples,anchors,prototypes}')
    curves = commands.add_parser(
        'curves', help='the curves of a training run',
        description='Draw the losses, AP, learning rate and time of a training run, from the log that train.py '
                    'writes, while it runs or afterwards.')
    curves.add_argument('run', type=Path, help='folder that train.py saves in, such as weights')
    curves.add_argument('--out', type=Path, help='image to write (default: curves.png in that folder)')
    curves.set_defaults(draw=_draw_curves, suffixes=FIGURE_SUFFIXES)

    samples = commands.add_parser(
        'samples', help='augmented images as the network is trained on them',
        description='Draw augmented images with their boxes and masks, as train.py makes them.')
    _add_dataset_arguments(samples)
    samples.add_argument('--augmentation', choices=AUGMENTATIONS, default='full', help='(default: %(default)s)')
    add_augmentation_changes(samples)
    samples.add_argument('--seed', type=nonnegative_int, default=0, help='(default: %(default)s)')
    samples.add_argument('--number', type=int_in_range(1, MAX_SAMPLES), default=12,
                         help='how many images (default: %(default)s)')
    _add_out(samples, Path('results/samples.jpg'))
    samples.set_defaults(draw=_draw_samples, suffixes=IMAGE_SUFFIXES)

    anchors = commands.add_parser(
        'anchors', help='anchors against the boxes of a dataset',
        description="Draw the sizes of a network's anchors and of a dataset's boxes, and the IoU of each box with its "
                    'best anchor.')
    _add_dataset_arguments(anchors)
    _add_out(anchors, Path('results/anchors.png'))
    anchors.set_defaults(draw=_draw_anchors, suffixes=FIGURE_SUFFIXES)

    prototypes = commands.add_parser(
        'prototypes', help='the prototypes that a mask is assembled from',
        description='Draw the best detection in an image, and the prototypes with its coefficients.')
    prototypes.add_argument('image', type=Path, help='image file')
    prototypes.add_argument('--model_path', default='weights/shapes.pd', help='checkpoint (default: %(default)s)')
    _add_out(prototypes, Path('results/prototypes.png'))
    prototypes.set_defaults(draw=_draw_prototypes, suffixes=FIGURE_SUFFIXES)

    args = parser.parse_args(argv)
    args.out = args.out or args.run / 'curves.png'
    return args


def _add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('annotations', type=Path, help='annotation file')
    parser.add_argument('images', type=Path, help='folder of its images')
    add_allow_outside(parser)
    parser.add_argument('--backbone_name', choices=PRESETS, default='resnet50dcn', help='(default: %(default)s)')
    parser.add_argument('--input_size', type=int, default=550, help='pixels (default: %(default)s)')


def _add_out(parser: argparse.ArgumentParser, default: Path) -> None:
    parser.add_argument('--out', type=Path, default=default, help='image to write (default: %(default)s)')


def check_suffix(out: Path, suffixes: tuple[str, ...]) -> None:
    """Raises UserError unless the file has one of the suffixes, in upper or lower case."""
    if out.suffix.lower() not in suffixes:
        raise UserError(f"{out}: an image cannot be written as '{out.suffix}'; name one that ends in "
                        f"{', '.join(suffixes[:-1])} or {suffixes[-1]}")


# Each of these returns what the flags ask for, a figure or an image, uint8 [h, w, 3], BGR; and a line for each thing
# that was left out.

def _draw_curves(args: argparse.Namespace) -> tuple['Figure', list[str]]:
    return draw_curves(read_training_log(args.run / LOG_NAME), one_line(args.run)), []


def _draw_samples(args: argparse.Namespace) -> tuple[np.ndarray, list[str]]:
    dataset, config = _dataset_and_config(args)
    augmentation = choose_augmentation(args.augmentation, vars(args))
    batches = Batches(dataset, config, 1, args.seed, augmentation=augmentation)
    drawn = [batches[step] for step in range(args.number)]
    problems = dict.fromkeys(problem for batch in drawn for problem in batch.problems)
    return draw_samples(drawn, dataset.classes.names), list(problems)


def _draw_anchors(args: argparse.Namespace) -> tuple['Figure', list[str]]:
    return draw_anchors(*_dataset_and_config(args)), []


def _draw_prototypes(args: argparse.Namespace) -> tuple['Figure', list[str]]:
    from prediction import Predictor
    check_output(args.out, [args.image, *model_files(args.model_path)])
    image = read_image(args.image)
    predictor = Predictor.open(args.model_path)
    outputs, = predictor.forward([predictor.preprocess(image)])
    try:
        return draw_prototypes(image, outputs, predictor.classes.names), []
    except ValueError as error:
        raise UserError(f'{args.image}: {error}; name another image') from None


def _dataset_and_config(args: argparse.Namespace) -> tuple[CocoDataset, Config]:
    """The dataset that flags name, and the configuration of a network for it."""
    dataset = CocoDataset(args.annotations, args.images, args.allow_outside)
    check_output(args.out, dataset.files)
    try:
        config = preset(args.backbone_name, input_size=args.input_size, num_classes=len(dataset.classes) + 1)
    except ValueError as error:
        raise UserError(f'{args.annotations}, --input_size={args.input_size}: {error}') from None
    return dataset, config


def save(out: Path, drawn: 'Figure | np.ndarray') -> None:
    """Writes a figure or an image, uint8 [h, w, 3], BGR, in the format of the file's suffix."""
    if isinstance(drawn, np.ndarray):
        write_image(out, drawn)
    else:
        with replacing(out, 'wb') as file:
            drawn.savefig(file, format=out.suffix.lower()[1:])


if __name__ == '__main__':
    run(main)
