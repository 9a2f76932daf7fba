"""Flags that several commands have."""
import argparse

from system.arguments import boolean, fraction, nonnegative_float


def add_allow_outside(parser: argparse._ActionsContainer) -> None:
    """Add --allow_outside, as of `data.coco.CocoDataset`, to a parser or a group of one."""
    parser.add_argument('--allow_outside', action='store_true',
                        help='read images that the annotation file lists by a path out of the folder of images '
                             '(default: off)')


def add_augmentation_changes(parser: argparse._ActionsContainer) -> None:
    """Add a flag for each of `data.augmentation.CHANGEABLE` to a parser or a group of one. Its default is None."""
    parser.add_argument('--scale_jitter', type=nonnegative_float,
                        help='also scale images by up to 1 + this, or down by as much, and shift them (default: of the '
                             '--augmentation; strong: 0.5)')
    parser.add_argument('--rotation', type=nonnegative_float, metavar='DEGREES',
                        help='also turn images by up to so many degrees either way (default: of the --augmentation; 0)')
    parser.add_argument('--vertical_flip', type=boolean, metavar='{true,false}',
                        help='also flip half of the images vertically, where up and down are alike, as in images from '
                             'above (default: of the --augmentation; false)')
    parser.add_argument('--quarter_turns', type=boolean, metavar='{true,false}',
                        help='also turn images by a random multiple of 90 degrees, where no side is up (default: of '
                             'the --augmentation; false)')
    parser.add_argument('--mosaic', type=fraction,
                        help='share of samples that are put together from four images (default: of the '
                             '--augmentation; strong: 0.3)')
    parser.add_argument('--copy_paste', type=fraction,
                        help='share of samples with objects pasted from another image (default: of the '
                             '--augmentation; strong: 0.3)')
