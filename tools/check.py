"""What is in a dataset, and what is wrong with it, before a day of training is spent on it."""
import argparse
import functools
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from pycocotools import mask as mask_api
from tqdm import tqdm

from data.augmentation import MIN_SIDE
from data.coco import CocoDataset
from data.ground_truth import ground_truth
from data.images import ImageError, write_image
from data.loader import MOST_OBJECTS
from system.command import run
from system.cpu import default_workers
from system.messages import one_line, pluralize
from system.worker_pool import parallel_map
from visualization.drawing import draw_detections
from visualization.image_grid import sheet, tile

SAME = 0.95  # IoU of boxes from which two objects of a class are one that was annotated twice
LOOSE = 0.5  # IoU of a box and its mask's own under which one of them is wrong
FEW = 20  # objects of a class, that are hardly enough
SAMPLES, COLUMNS, WIDTH = 12, 4, 400  # of the image of samples: how many, in a row, pixels of each
AREAS = (('small', 0, 32 ** 2), ('medium', 32 ** 2, 96 ** 2), ('large', 96 ** 2, np.inf))  # as COCO has them


def check(dataset, samples=None, shown=20):
    """Tells what is in a dataset and what is wrong with it, each thing in a line.

    Args:
        dataset: `CocoDataset`.
        samples: where to draw some of its images; None for nowhere.
        shown: how many lines of a kind of problem to print.
    Returns:
        int, how many problems there are.
    """
    findings = defaultdict(list, {'annotations that are left out': dataset.warnings})
    paths = Counter(image.path for image in dataset.images)
    findings['images that are listed twice'] = [f'{path}: is listed {number} times' for path, number in paths.items()
                                                  if number > 1]
    boxes, tables = [], defaultdict(Counter)
    with tqdm(total=len(dataset), desc='looking', unit=' images', disable=None, leave=False) as bar:
        for i, (problem, doubtful) in enumerate(parallel_map(functools.partial(_look, dataset), range(len(dataset)),
                                                           default_workers())):
            if problem:
                findings['images that cannot be used'].append(problem)
            findings['objects to look at again'] += doubtful
            sides, odd = _count(dataset, i, tables)
            findings['objects to look at again'] += odd
            boxes.append(sides)
            bar.update()
    _print_counts(dataset, np.concatenate(boxes), tables)
    findings['classes with few objects'] = _rare(dataset, tables['objects'])
    total = _print_findings(findings, shown)
    if samples:
        write_image(samples, draw_samples(dataset))
        print(f'\nSome images with their objects are in {one_line(samples)}: look at them')
    return total


def _look(dataset, i):
    """What is wrong with an image, a line or None, and with its objects, a list of lines, where it can be used."""
    image = dataset.images[i]
    try:
        image.read()
    except ImageError as error:
        return str(error), []  # masks as large as it claims to be might take all memory
    if len(dataset.objects(i)) > MOST_OBJECTS:
        return None, [one_line(f'{image.path}: has more than {MOST_OBJECTS} objects, which cannot be learnt; cut '
                               'it into tiles')]
    truth = ground_truth(dataset, i)
    doubtful = [f'two {dataset.classes.names[truth.classes[k]]!r} at the same place, {_place(truth.boxes[k])}'
                for k in _repeated(truth)]
    for k in range(len(truth)):
        name = f'{dataset.classes.names[truth.classes[k]]!r} at {_place(truth.boxes[k])}'
        x0, y0, x1, y1 = truth.boxes[k]
        if min((x1 - x0) / image.width, (y1 - y0) / image.height) < MIN_SIDE:
            doubtful.append(f'{name} is thinner than {MIN_SIDE:.1%} of the image, and not learnt')
        elif not truth.masks[k].any():
            doubtful.append(f'{name} has no pixel in its mask')
        elif _ious(truth.boxes[k][None], _box(truth, k)[None]) < LOOSE:
            doubtful.append(f'{name} has a box that does not fit its mask')
    return None, [one_line(f'{image.path}: {line}') for line in doubtful]


def _box(truth, k):
    """The box around a mask's pixels."""
    (x, y), (height, width) = truth.corners[k], truth.masks[k].shape
    return np.array([x, y, x + width, y + height], np.float32)


def _repeated(truth):
    """Which objects are at the same place as one of the same class before them."""
    for label in np.unique(truth.classes):
        same = np.flatnonzero(truth.classes == label)
        yield from same[np.triu(_ious(truth.boxes[same], truth.boxes[same]) > SAME, 1).any(0)].tolist()


def _ious(boxes, others):
    """Of boxes [n, 4] and others [m, 4], x0 y0 x1 y1: float64 [n, m]."""
    sides = [np.concatenate([some[:, :2], some[:, 2:] - some[:, :2]], 1).astype(np.float64) for some in (boxes, others)]
    return mask_api.iou(*sides, np.zeros(len(others), np.uint8))


def _place(box):
    x0, y0, x1, y1 = np.round(box).astype(int)
    return f'x {x0} to {x1}, y {y0} to {y1}'


def _count(dataset, i, tables):
    """Adds an image's objects to the counts by class.

    Returns:
        The sides of their boxes [n, 2], in pixels; and a list of str, a line for each object whose area is none.
    """
    odd = []
    objects = dataset.objects(i)
    number = len(objects) - objects.num_crowds
    labels, boxes = objects.labels[:number], objects.boxes[:number]
    tables['objects'].update(labels.tolist())
    tables['images'].update(set(labels.tolist()))
    tables['crowds'].update(objects.labels[number:].tolist())
    for record in dataset.annotations(i):
        if not record['iscrowd']:
            label, area = dataset.classes.ids.index(record['category_id']), record['area']
            sizes = [name for name, low, high in AREAS if low <= area < high]
            if sizes:
                tables[sizes[0]][label] += 1
            else:
                odd.append(_odd_area(dataset, i, label, record))
    return boxes[:, 2:] - boxes[:, :2], odd


def _odd_area(dataset, i, label, record):
    image, (x, y, width, height) = dataset.images[i], record['bbox']
    box = np.clip((x, y, x + width, y + height), 0, (image.width, image.height) * 2)
    return one_line(f'{image.path}: {dataset.classes.names[label]!r} at {_place(box)} has an area of '
                    f'{record["area"]:g} pixels')


def _print_counts(dataset, sides, tables):
    crowds = sum(tables['crowds'].values())
    empty = sum(len(dataset.objects(i)) == 0 for i in range(len(dataset)))
    print(f'{one_line(dataset.annotations_path)}: {pluralize(len(dataset), "image")}, {pluralize(len(sides), "object")}, '
          f'{pluralize(len(dataset.classes), "class")}' + f', {pluralize(crowds, "crowd")}' * bool(crowds))
    if not len(sides):
        return
    widths, heights = np.percentile(sides, (5, 50, 95), axis=0).round().astype(int).T
    shapes = Counter((image.width, image.height) for image in dataset.images)
    (width, height), most = shapes.most_common(1)[0]
    print(f'  {len(sides) / len(dataset):.1f} objects an image; {pluralize(empty, "image")} '
          f'{"has" if empty == 1 else "have"} none')
    others = f', the others of {pluralize(len(shapes) - 1, "other size")}' * (len(shapes) > 1)
    print(f'  images: {most} of {len(dataset)} {"is" if most == 1 else "are"} {width}x{height}{others}')
    print(f'  boxes, 5% / half / 95% are under: {widths[0]} / {widths[1]} / {widths[2]} pixels wide, '
          f'{heights[0]} / {heights[1]} / {heights[2]} high\n')
    columns = ('objects', 'images', *(name for name, *_ in AREAS))
    longest = max(map(len, dataset.classes.names))
    print(f'{"class":<{longest}} {"id":>6}' + ''.join(f'{name:>10}' for name in columns))
    for label, (name, id) in enumerate(zip(dataset.classes.names, dataset.classes.ids)):
        print(f'{one_line(name):<{longest}} {id:>6}' + ''.join(f'{tables[column][label]:>10}' for column in columns))


def _rare(dataset, counts):
    return [one_line(f'{name}: {pluralize(counts[label], "object")}') for label, name in enumerate(dataset.classes.names)
            if counts[label] < FEW]


def _print_findings(findings, shown):
    total = 0
    for title, lines in findings.items():
        if lines:
            print(f'\n{title.capitalize()}: {len(lines)}')
            print(*(f'  {line}' for line in lines[:shown]), sep='\n')
            if len(lines) > shown:
                print(f'  … and {len(lines) - shown} more; --all prints them')
        total += len(lines)
    if not total:
        print('\nNothing is wrong with it.')
    sys.stdout.flush()
    return total


def draw_samples(dataset):
    """Some images, evenly spread over those with objects, with these drawn on them: uint8 [h, w, 3], BGR."""
    full = [i for i in range(len(dataset)) if len(dataset.objects(i))] or list(range(len(dataset)))
    chosen = [full[place] for place in np.linspace(0, len(full) - 1, min(SAMPLES, len(full))).round().astype(int)]
    tiles = []
    for i in chosen:
        try:
            pixels = dataset.images[i].read()
        except ImageError:
            continue
        tiles.append(tile(draw_detections(pixels, ground_truth(dataset, i), dataset.classes.names, scores=False)))
    return sheet(tiles)


def main(argv=None):
    """Look at a dataset. Returns the exit status: 1 if something is wrong with it."""
    parser = argparse.ArgumentParser(
        prog='python -m tools.check',
        description='Tell what is in a dataset, and what is wrong with it: annotations that are left out, images '
                    'that are missing, damaged or of another size than annotated, objects without pixels, annotated '
                    'twice, too thin to be learnt, or with boxes that do not fit, and classes with fewer than '
                    f'{FEW} objects. The exit status is 1 if there is something, be it such a class alone.')
    parser.add_argument('annotations', type=Path, help='annotation file')
    parser.add_argument('images', type=Path, help='folder of its images')
    parser.add_argument('--samples', type=Path, default='results/check.jpg',
                         help='image to write, of some images with their objects (default: %(default)s)')
    parser.add_argument('--all', action='store_true', help='print all problems (default: 20 of each kind)')
    args = parser.parse_args(argv)
    dataset = CocoDataset(args.annotations, args.images)
    dataset.check_folder()
    args.samples.parent.mkdir(parents=True, exist_ok=True)
    return 1 if check(dataset, args.samples, sys.maxsize if args.all else 20) else 0


if __name__ == '__main__':
    run(main)
