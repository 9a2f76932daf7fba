"""What the recipe own_data chooses for a dataset, a device and a budget, and why."""
import argparse
from pathlib import Path

from data.anchor_coverage import best_anchor_ious, object_sizes
from data.coco import CocoDataset
from model.anchor_fitting import fit_anchors
from model.config import PUBLISHED_SIZE, Config
from system.messages import pluralize
from training.arguments import NO_WEIGHTS

BUNDLED_WEIGHTS = Path(__file__).parents[1] / 'weights/shapes.pd'
COCO_WEIGHTS = Path('pretrained_resnet50dcn')
DEFAULT_MINUTES = 30.0
CPU_INPUT_SIZE, LARGE_CPU_INPUT_SIZE = 320, 448
SMALL_OBJECT = 8  # pixels at the input size; what is smaller is hardly found
GPU_BATCH_SIZE = 8
PRETRAINED_LR = 2e-4  # of a network that knows COCO


def choose_for_own_data(args: argparse.Namespace, dataset: CocoDataset, gpu: bool) -> list[str]:
    """Fill in the flags that are not given. Returns lines that say what was chosen, and why.

    Args:
        args: of train.py; changed.
        dataset: the images to train on.
        gpu: whether they are trained on a GPU.
    """
    lines = [f'recipe own_data for {pluralize(len(dataset), "image")} of {pluralize(len(dataset.classes), "class")} '
             f'on a {"GPU" if gpu else "CPU"}:']
    if args.pattern == 0:
        lines += [*_choose_network(args, gpu), *_choose_weights(args), *_choose_input_size(args, dataset, gpu)]
        if not (args.minutes or args.steps or args.epochs):
            args.minutes = DEFAULT_MINUTES
        if args.fit_anchors is None:
            args.fit_anchors = args.anchor_sizes is None and args.aspect_ratios is None
    if gpu and args.batch_size is None:
        args.batch_size = GPU_BATCH_SIZE
    return lines


def _choose_network(args: argparse.Namespace, gpu: bool) -> list[str]:
    if args.backbone_name is not None:
        return []
    if gpu and COCO_WEIGHTS.is_dir():
        args.backbone_name, reason = 'resnet50dcn', f'there are COCO weights in {COCO_WEIGHTS}'
    else:
        args.backbone_name, reason = 'resnet18dcn_half', 'it is quick to train, and weights for it are bundled'
    return [f'  --backbone_name={args.backbone_name}: {reason}']


def _choose_weights(args: argparse.Namespace) -> list[str]:
    if args.backbone_weights is not None:
        if args.backbone_weights == NO_WEIGHTS:
            args.backbone_weights = None
        return []
    weights = {'resnet18dcn_half': BUNDLED_WEIGHTS, 'resnet50dcn': COCO_WEIGHTS}.get(args.backbone_name)
    if weights is None or not weights.is_dir():
        return [f'  --backbone_weights={NO_WEIGHTS}: there are none of this network here']
    args.backbone_weights = str(weights)
    if weights == COCO_WEIGHTS and args.lr is None:
        args.lr = PRETRAINED_LR
    of = 'COCO' if weights == COCO_WEIGHTS else 'drawn shapes'
    return [f'  --backbone_weights={weights}: trained on {of}; layers that depend on the classes are new']


def _choose_input_size(args: argparse.Namespace, dataset: CocoDataset, gpu: bool) -> list[str]:
    if args.input_size is not None:
        return []
    args.input_size, reason = PUBLISHED_SIZE, 'as published'
    if not gpu:
        args.input_size, reason = CPU_INPUT_SIZE, 'quick on a CPU'
        sizes = object_sizes(dataset, CPU_INPUT_SIZE)
        small = float((sizes.prod(1) < SMALL_OBJECT ** 2).mean()) if len(sizes) else 0.0
        if small > 0.5:
            args.input_size = LARGE_CPU_INPUT_SIZE
            reason = f'{small:.0%} of the objects would be smaller than {SMALL_OBJECT} pixels at {CPU_INPUT_SIZE}'
    return [f'  --input_size={args.input_size}: {reason}']


def fit_anchors_to(dataset: CocoDataset, config: Config) -> tuple[Config, str]:
    """A config whose anchors fit the objects of a dataset, and a line about how well they do."""
    fitted = fit_anchors(object_sizes(dataset, config.input_size), config)
    before, after = (share_with_anchor(dataset, some) for some in (config, fitted))
    sizes, ratios = (' '.join(f'{number:g}' for number in numbers)
                     for numbers in (fitted.anchor_sizes, fitted.aspect_ratios))
    return fitted, (f'  anchors fitted to the objects: {after:.1%} have one of IoU 0.5 or more, {before:.1%} before '
                    f'(--anchor_sizes {sizes} --aspect_ratios {ratios})')


def share_with_anchor(dataset: CocoDataset, config: Config) -> float:
    """The share of a dataset's objects that have an anchor of IoU 0.5 or more; 0 without objects."""
    _, ious = best_anchor_ious(dataset, config)
    return float((ious >= 0.5).mean()) if len(ious) else 0.0
