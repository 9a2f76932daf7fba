"""The flag of every command that reads an annotation file."""
import argparse


def add_allow_outside(parser: argparse._ActionsContainer) -> None:
    """Add --allow_outside, as of `data.coco.CocoDataset`, to a parser or a group of one."""
    parser.add_argument('--allow_outside', action='store_true',
                        help='read images that the annotation file lists by a path out of the folder of images '
                             '(default: off)')
