"""Shows what is in a dataset, and what is wrong with it, before a day of training is spent on it.

    python -m tools.check my/annotations.json my/images
"""
import argparse
import functools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.arguments import add_allow_outside
from data.augmentation import MIN_SIDE
from data.coco import CocoDataset
from data.ground_truth import ground_truth
from data.images import ImageError, write_image
from data.loader import MAX_OBJECTS
from model.box_iou import box_iou
from model.postprocess import Detections
from system.arguments import ArgumentParser
from system.command import run
from system.cpu import default_workers
from system.files import check_output
from system.messages import one_line, pluralize
from system.progress import show_progress
from system.worker_pool import parallel_map
from visualization.drawing import draw_detections
from visualization.image_grid import make_grid, make_tile

DUPLICATE_IOU = 0.95  # of two boxes of a class, above which one object was annotated twice
MIN_BOX_IOU = 0.5  # of a box and the tight box around its mask, under which one of them is wrong
MIN_OBJECTS = 20  # of a class; fewer are hardly enough to train on
NUM_SAMPLES = 12  # images to draw
MAX_NAME = 60  # characters of a class's name in the table
MAX_SHOWN = 20  # problems of a kind to print
AREA_RANGES = {'small': (0, 32 ** 2), 'medium': (32 ** 2, 96 ** 2), 'large': (96 ** 2, np.inf)}  # pixels, as COCO's

Problems = dict[str, list[str]]  # kinds of problems, and a line for each problem


@dataclass
class Statistics:
    """What is in a dataset. Counters are by class, from 0.

    Attributes:
        objects: objects that are not crowds.
        images: images with such objects.
        crowds: crowds.
        by_area: objects of each of `AREA_RANGES`.
        box_sizes: a float32 [n, 2] for each image, width and height of its objects' boxes in pixels.
    """
    objects: Counter[int] = field(default_factory=Counter)
    images: Counter[int] = field(default_factory=Counter)
    crowds: Counter[int] = field(default_factory=Counter)
    by_area: dict[str, Counter[int]] = field(default_factory=lambda: {name: Counter() for name in AREA_RANGES})
    box_sizes: list[np.ndarray] = field(default_factory=list)


def main(argv: list[str] | None = None) -> int:
    """Checks a dataset. Returns the exit status: 1 if there is a problem with it."""
    args = parse_arguments(argv)
    dataset = CocoDataset(args.annotations, args.images, args.allow_outside)
    dataset.check_folder()
    check_output(args.samples, dataset.files)
    return 1 if check(dataset, args.samples, sys.maxsize if args.all else MAX_SHOWN) else 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog='python -m tools.check',
        description='Show what is in a dataset, and what is wrong with it: annotations that are left out; images '
                    'that are missing, damaged or of another size than annotated; objects with an empty mask, '
                    'annotated twice, too thin to train on, or with a box that does not fit the mask; and classes '
                    f'with fewer than {MIN_OBJECTS} objects. The exit status is 1 if there is any such problem, '
                    'even such a class alone.')
    parser.add_argument('annotations', type=Path, help='annotation file')
    parser.add_argument('images', type=Path, help='folder of its images')
    add_allow_outside(parser)
    parser.add_argument('--samples', type=Path, default='results/check.jpg',
                        help='image to write: some images with their ground truth (default: %(default)s)')
    parser.add_argument('--all', action='store_true',
                        help=f'print all problems (default: {MAX_SHOWN} of each kind)')
    return parser.parse_args(argv)


def check(dataset: CocoDataset, samples: Path | None = None, max_shown: int = MAX_SHOWN) -> int:
    """Prints what is in a dataset and what is wrong with it, a line for each problem.

    Args:
        dataset: its images are read, by several processes.
        samples: image file to draw some images with their ground truth to; None for none.
        max_shown: how many problems of a kind to print.
    Returns:
        The number of problems.
    Raises:
        ImageError: `samples` cannot be written.
    """
    statistics, problems = _inspect(dataset)
    _print_summary(dataset, statistics)
    _print_problems(problems, max_shown)
    if samples:
        write_image(samples, draw_ground_truth(dataset))
        print(f'\nSample images with their ground truth are in {one_line(samples)}: look at them')
    return sum(map(len, problems.values()))


def _inspect(dataset: CocoDataset) -> tuple[Statistics, Problems]:
    """Looks at every image and its objects, with a progress bar."""
    statistics = Statistics()
    unusable: list[str] = []
    suspicious: list[str] = []
    checked = parallel_map(functools.partial(_check_image, dataset), range(len(dataset)), default_workers())
    for i, (error, warnings) in enumerate(show_progress(checked, len(dataset), 'images', 'checking')):
        if error:
            unusable.append(error)
        suspicious += warnings + _count(dataset, i, statistics)
    return statistics, {
        'annotations that are left out': dataset.warnings, 'images that are listed twice': _repeated_images(dataset),
        'images that cannot be used': unusable, 'suspicious objects': suspicious,
        'classes with few objects': _rare_classes(dataset, statistics.objects)}


def _check_image(dataset: CocoDataset, i: int) -> tuple[str | None, list[str]]:
    """What is wrong with an image itself, or None; and with its objects, a line each, if the image can be used."""
    image = dataset.images[i]
    try:
        image.read()
    except ImageError as error:
        return str(error), []  # masks of the size that it claims to have might take all memory
    if len(dataset.objects(i)) > MAX_OBJECTS:
        return None, [one_line(f'{image.path}: has more than {MAX_OBJECTS} objects, too many to train on; cut it '
                               'into tiles')]
    objects, names = ground_truth(dataset, i), dataset.classes.names
    warnings = [f'{_describe(objects, k, names)} is annotated twice' for k in _duplicates(objects)]
    for k in range(len(objects)):
        fault = _fault(objects, k)
        if fault:
            warnings.append(f'{_describe(objects, k, names)} {fault}')
    return None, [one_line(f'{image.path}: {warning}') for warning in warnings]


def _fault(objects: Detections, k: int) -> str | None:
    """What is wrong with object k of an image, None if nothing is."""
    height, width = objects.size
    x0, y0, x1, y1 = objects.boxes[k]
    if min((x1 - x0) / width, (y1 - y0) / height) < MIN_SIDE:
        return f'is thinner than {MIN_SIDE:.1%} of the image, and not trained on'
    if not objects.masks[k].any():
        return 'has an empty mask'
    if box_iou(objects.boxes[[k]].astype(np.float64), _mask_box(objects, k)[None]) < MIN_BOX_IOU:
        return 'has a box that does not fit its mask'
    return None


def _mask_box(objects: Detections, k: int) -> np.ndarray:
    """The tight box around a mask: float64 [4], x0 y0 x1 y1 in pixels."""
    (x, y), (height, width) = objects.corners[k], objects.masks[k].shape
    return np.array([x, y, x + width, y + height], np.float64)


def _duplicates(objects: Detections) -> Iterator[int]:
    """The objects whose box is that of an earlier object of the same class."""
    for label in np.unique(objects.classes):
        same = np.flatnonzero(objects.classes == label)
        boxes = objects.boxes[same].astype(np.float64)
        yield from same[np.triu(box_iou(boxes, boxes) > DUPLICATE_IOU, 1).any(0)].tolist()


def _describe(objects: Detections, k: int, names: Sequence[str]) -> str:
    return f'{names[objects.classes[k]]!r} at {_place(objects.boxes[k])}'


def _place(box: np.ndarray) -> str:
    """Where a box is, x0 y0 x1 y1 in pixels."""
    x0, y0, x1, y1 = np.round(box).astype(int)
    return f'x {x0} to {x1}, y {y0} to {y1}'


def _count(dataset: CocoDataset, i: int, statistics: Statistics) -> list[str]:
    """Adds the objects of image i to the statistics. Returns a line for each object with an impossible area."""
    objects = dataset.objects(i)
    number = len(objects) - objects.num_crowds
    labels, boxes = objects.labels[:number], objects.boxes[:number]
    statistics.objects.update(labels.tolist())
    statistics.images.update(set(labels.tolist()))
    statistics.crowds.update(objects.labels[number:].tolist())
    statistics.box_sizes.append(boxes[:, 2:] - boxes[:, :2])
    warnings = []
    for record in dataset.annotations(i):
        if not record['iscrowd']:
            label = dataset.classes.ids.index(record['category_id'])
            area_range = next((name for name, (low, high) in AREA_RANGES.items() if low <= record['area'] < high), None)
            if area_range:
                statistics.by_area[area_range][label] += 1
            else:
                warnings.append(_impossible_area(dataset, i, label, record))
    return warnings


def _impossible_area(dataset: CocoDataset, i: int, label: int, record: dict[str, Any]) -> str:
    image, (x, y, width, height) = dataset.images[i], record['bbox']
    box = np.clip((x, y, x + width, y + height), 0, (image.width, image.height) * 2)
    return one_line(f'{image.path}: {dataset.classes.names[label]!r} at {_place(box)} has an area of '
                    f'{record["area"]:g} pixels')


def _repeated_images(dataset: CocoDataset) -> list[str]:
    paths = Counter(image.path for image in dataset.images)
    return [one_line(f'{path}: is listed {number} times') for path, number in paths.items() if number > 1]


def _rare_classes(dataset: CocoDataset, objects: Counter[int]) -> list[str]:
    return [one_line(f'{name}: {pluralize(objects[label], "object")}')
            for label, name in enumerate(dataset.classes.names) if objects[label] < MIN_OBJECTS]


def _print_summary(dataset: CocoDataset, statistics: Statistics) -> None:
    box_sizes = np.concatenate(statistics.box_sizes)
    num_crowds = statistics.crowds.total()
    parts = [pluralize(len(dataset), 'image'), pluralize(len(box_sizes), 'object'),
             pluralize(len(dataset.classes), 'class'), *[pluralize(num_crowds, 'crowd')] * bool(num_crowds)]
    print(f'{one_line(dataset.annotations_path)}: {", ".join(parts)}')
    if len(box_sizes):
        _print_sizes(dataset, box_sizes)
        _print_classes(dataset, statistics)


def _print_sizes(dataset: CocoDataset, box_sizes: np.ndarray) -> None:
    empty = sum(len(dataset.objects(i)) == 0 for i in range(len(dataset)))
    print(f'  {len(box_sizes) / len(dataset):.1f} objects per image; {pluralize(empty, "image")} '
          f'{"has" if empty == 1 else "have"} none')
    sizes = Counter((image.width, image.height) for image in dataset.images)
    (width, height), most = sizes.most_common(1)[0]
    others = f', the others of {pluralize(len(sizes) - 1, "other size")}' * (len(sizes) > 1)
    print(f'  images: {most} of {len(dataset)} {"is" if most == 1 else "are"} {width}x{height}{others}')
    widths, heights = np.percentile(box_sizes, (5, 50, 95), axis=0).round().astype(int).T
    print(f'  boxes, 5th / 50th / 95th percentile: {widths[0]} / {widths[1]} / {widths[2]} pixels wide, '
          f'{heights[0]} / {heights[1]} / {heights[2]} high\n')


def _print_classes(dataset: CocoDataset, statistics: Statistics) -> None:
    columns = {'objects': statistics.objects, 'images': statistics.images, **statistics.by_area}
    names = [one_line(name, MAX_NAME) for name in dataset.classes.names]
    longest = max(map(len, names))
    print(f'{"class":<{longest}} {"id":>6}' + ''.join(f'{column:>10}' for column in columns))
    for label, (name, id) in enumerate(zip(names, dataset.classes.ids)):
        print(f'{name:<{longest}} {id:>6}' + ''.join(f'{count[label]:>10}' for count in columns.values()))


def _print_problems(problems: Problems, max_shown: int) -> None:
    for kind, lines in problems.items():
        if lines:
            print(f'\n{kind.capitalize()}: {len(lines)}')
            for line in lines[:max_shown]:
                print(f'  {line}')
            if len(lines) > max_shown:
                print(f'  … and {len(lines) - max_shown} more; --all prints them')
    if not any(problems.values()):
        print('\nNo problems found.')
    sys.stdout.flush()


def draw_ground_truth(dataset: CocoDataset) -> np.ndarray:
    """Some images, evenly spread over those with objects, with their ground truth: uint8 [h, w, 3], BGR."""
    candidates = [i for i in range(len(dataset)) if len(dataset.objects(i))] or list(range(len(dataset)))
    places = np.linspace(0, len(candidates) - 1, min(NUM_SAMPLES, len(candidates))).round().astype(int)
    tiles = []
    for i in (candidates[place] for place in places):
        try:
            pixels = dataset.images[i].read()
        except ImageError:
            continue
        tiles.append(make_tile(draw_detections(pixels, ground_truth(dataset, i), dataset.classes.names, scores=False)))
    return make_grid(tiles)


if __name__ == '__main__':
    run(main)
