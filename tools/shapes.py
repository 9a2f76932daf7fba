"""A small COCO-style instance segmentation dataset of drawn shapes, repeatable from its seed.

Image k of a split depends on (seed, split, k) and the size alone, so a longer dataset starts with the
shorter one.

    python -m tools.shapes OUT
"""
import argparse
import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from system.messages import one_line
from tools.scene import CATEGORIES, SMALLEST_SIDE, Scene, SceneObject, draw_scene

__all__ = ['CATEGORIES', 'SPLITS', 'Scene', 'SceneObject', 'annotation', 'draw_image', 'draw_scene',
           'write_dataset', 'write_split']

SPLITS = {'train': 'instances_train.json', 'val': 'instances_val.json', 'test': 'image_info_test.json'}
INFO = {'description': 'Shapes drawn by tools.shapes', 'version': '1.0'}
# COCO's ids are unique over the splits; so are ours up to this many images a split.
IDS_A_SPLIT = 1_000_000
LARGEST_SIDE = 4096  # pixels; an image of this size takes about 1 GB to draw


def _polygons(mask):
    """The outlines of a mask's connected pieces: lists of x0 y0 x1 y1 ... in pixels."""
    # findContours runs through pixels' centres, half a pixel inside. On a grid of twice the resolution, with
    # the pixels' centres at odd places, a dilated pixel ends at its edges. The middles of the edges, which
    # have one odd coordinate, are where marching squares would put the outline.
    grid = np.zeros((2 * mask.shape[0] + 1, 2 * mask.shape[1] + 1), np.uint8)
    grid[1::2, 1::2] = mask
    grid = cv2.dilate(grid, np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(grid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlines = [contour[contour.sum((1, 2)) % 2 == 1] for contour in contours]
    simple = [cv2.approxPolyDP(outline, 0.8, True) for outline in outlines]
    return [(points.reshape(-1) / 2).tolist() for points in simple if len(points) >= 3]


def _has_hole(mask):
    # A gap that is open only across a corner counts as a hole: an outline would have to cross itself.
    background = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    return cv2.connectedComponents(background, connectivity=4)[0] > 2


def _uncompressed_rle(mask):
    flat = np.concatenate([[False], mask.ravel(order='F')])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], changes, [mask.size]]))
    return {'size': list(mask.shape), 'counts': counts.tolist()}


def _segmentation(drawn):
    if drawn.crowd:
        return _uncompressed_rle(drawn.mask)
    polygons = [] if _has_hole(drawn.mask) else _polygons(drawn.mask)
    if polygons:
        return polygons
    rle = coco_mask.encode(np.asfortranarray(drawn.mask, np.uint8))
    return {'size': list(drawn.mask.shape), 'counts': rle['counts'].decode()}


def annotation(drawn, image_id, annotation_id):
    """An object as COCO describes it.

    Polygons for a mask without holes, compressed RLE for one with holes, uncompressed RLE for a crowd.

    Args:
        drawn: SceneObject.
        image_id, annotation_id: int.
    Returns:
        dict with id, image_id, category_id, segmentation, area (pixels), bbox (x y width height) and iscrowd.
    """
    rows, columns = np.flatnonzero(drawn.mask.any(1)), np.flatnonzero(drawn.mask.any(0))
    bbox = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return {'id': annotation_id, 'image_id': image_id, 'category_id': CATEGORIES[drawn.category].id,
            'segmentation': _segmentation(drawn), 'area': int(drawn.mask.sum()),
            'bbox': [int(side) for side in bbox], 'iscrowd': int(drawn.crowd)}


def draw_image(seed, split, index, width=320, height=240):
    """Image `index` of a split: a scene and its JPEG.

    A third of the images stand upright, and half are a bit smaller than asked for.

    Args:
        seed: int, not negative.
        split: 'train', 'val' or 'test'.
        index: int from 0.
        width, height: of a full-size image lying on its side, in pixels, at least 64.
    Returns:
        Scene and bytes. JPEG loses a little; the scene's image is the one before.
    """
    place = [seed, list(SPLITS).index(split), index]
    rng = np.random.default_rng([*place, 1])
    smaller = rng.uniform(0.75, 1, 2) if rng.random() < 0.5 else 1
    size = np.maximum(np.rint(np.array([width, height]) * smaller), SMALLEST_SIDE).astype(int).tolist()
    scene = draw_scene(place, *(size[::-1] if rng.random() < 1 / 3 else size))
    _, jpeg = cv2.imencode('.jpg', scene.image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(82, 96))])
    return scene, jpeg.tobytes()


def write_split(out, split, count, seed=0, width=320, height=240, progress=None):
    """Write a split's images to `out`/`split` and its annotation file to `out`/annotations.

    Args:
        out: folder, made where it is missing.
        split: 'train', 'val' or 'test'. The test file has no annotations.
        count: images.
        seed, width, height: as `draw_image` takes them.
        progress: called after each image, or None.
    Raises:
        OSError: a file cannot be written.
    """
    folder, record = Path(out) / split, Path(out) / 'annotations' / SPLITS[split]
    folder.mkdir(parents=True, exist_ok=True)
    record.parent.mkdir(exist_ok=True)
    images, annotations = [], []
    for index in range(count):
        scene, jpeg = draw_image(seed, split, index, width, height)
        image_id = list(SPLITS).index(split) * IDS_A_SPLIT + index + 1
        name = f'shapes_{image_id:07d}.jpg'
        (folder / name).write_bytes(jpeg)
        rows, columns = scene.image.shape[:2]
        images.append({'id': image_id, 'file_name': name, 'width': columns, 'height': rows})
        for drawn in scene.objects:
            annotations.append(annotation(drawn, image_id, len(annotations) + 1))
        if progress:
            progress()
    categories = [{'id': category.id, 'name': category.name, 'supercategory': 'shape'}
                  for category in CATEGORIES]
    content = {'info': INFO, 'licenses': [], 'categories': categories, 'images': images}
    if split != 'test':
        content['annotations'] = annotations
    record.write_text(json.dumps(content))


def _is_ours(path, out):
    if path.parent == out / 'annotations' and path.name in SPLITS.values():
        start = json.dumps({'info': INFO})[:-1]
        with path.open(errors='replace') as record:
            return record.read(len(start)) == start
    in_split = path.parent.parent == out and path.parent.name in SPLITS
    return in_split and re.fullmatch(r'shapes_\d{7,}\.jpg', path.name)


def _clear(out):
    """Remove an earlier dataset, so that a smaller one leaves no images of a bigger one behind."""
    earlier = []
    for path in out.rglob('*'):
        if path.is_dir():
            continue
        if not _is_ours(path, out):
            raise ValueError(f'{out}: holds {path.relative_to(out)}, not written by this script; '
                             'name a new or an empty folder')
        earlier.append(path)
    for path in earlier:
        path.unlink()


def write_dataset(out, seed=0, train=1500, val=200, test=40, width=320, height=240):
    """Write a whole dataset, in place of an earlier one.

    Args:
        out: folder. It may be missing, empty, or hold what this function wrote before.
        seed: int, not negative.
        train, val, test: images of each split.
        width, height: as `draw_image` takes them.
    Raises:
        ValueError: a number is out of range, or `out` holds other files.
        OSError: `out` cannot be written.
    """
    out, counts = Path(out), {'train': train, 'val': val, 'test': test}
    for name, value in {'seed': seed, **counts}.items():
        if value < 0:
            raise ValueError(f'{name} is {value}: give 0 or more')
    for name, value in {'width': width, 'height': height}.items():
        if not SMALLEST_SIDE <= value <= LARGEST_SIDE:
            raise ValueError(f'{name} is {value}: give {SMALLEST_SIDE} to {LARGEST_SIDE} pixels')
    out.mkdir(parents=True, exist_ok=True)
    _clear(out)
    with tqdm(total=sum(counts.values()), unit=' images', file=sys.stderr) as bar:
        for split, count in counts.items():
            bar.set_description(split)
            write_split(out, split, count, seed, width, height, bar.update)


def _parser():
    parser = argparse.ArgumentParser(
        prog='python -m tools.shapes', formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description='Draw a small COCO-style dataset of shapes: images in OUT/train, OUT/val and OUT/test, '
                    'annotation files in OUT/annotations. The same arguments draw the same dataset.')
    parser.add_argument('out', metavar='OUT', type=Path,
                        help='folder to write to: new, empty, or an earlier dataset to replace')
    parser.add_argument('--seed', type=int, default=0, help='another seed draws other images')
    parser.add_argument('--train', type=int, default=1500, help='images to train on')
    parser.add_argument('--val', type=int, default=200, help='images to validate on')
    parser.add_argument('--test', type=int, default=40, help='images without annotations')
    parser.add_argument('--width', type=int, default=320,
                        help='pixels; half the images are a bit smaller, a third have their sides swapped')
    parser.add_argument('--height', type=int, default=240, help='pixels, likewise')
    return parser


def main():
    """Parse the command line and write the dataset; a problem is one line and exit status 2."""
    arguments = _parser().parse_args()
    try:
        write_dataset(**vars(arguments))
    except ValueError as error:
        _fail(error)
    except OSError as error:
        _fail(f'{error.filename or arguments.out}: cannot be written ({error.strerror}); '
              'name a folder that you may write to')
    except KeyboardInterrupt:
        print(f'interrupted; what is in {arguments.out} is not complete', file=sys.stderr)
        sys.exit(130)
    print(f'Wrote {arguments.train} train, {arguments.val} val and {arguments.test} test images '
          f'and their annotations to {arguments.out}')


def _fail(message):
    print(f'error: {one_line(message)}', file=sys.stderr)
    sys.exit(2)


if __name__ == '__main__':
    from system.command import run
    run(main)
