"""Draws a small COCO-style instance segmentation dataset of shapes, the same one for the same arguments.

Image k of a split depends on the seed, the split, k and the size alone, so a longer dataset starts with the shorter
one.

    python -m tools.shapes ../shapes
"""
import argparse
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.masks import decompress, encode_mask
from data.polygons import has_hole, trace
from system.arguments import ArgumentParser
from system.command import run
from system.errors import UserError
from system.interruption import Stopped
from system.messages import one_line
from system.progress import progress_bar
from tools.scene import CATEGORIES, MIN_SIDE, Scene, SceneObject, draw_scene

SPLITS = {'train': 'instances_train.json', 'val': 'instances_val.json', 'test': 'image_info_test.json'}
DESCRIPTIONS = ('Shapes drawn by tools.shapes', 'Shapes drawn by data.shapes')  # the second one of earlier versions
VERSION = '1.0'
IDS_PER_SPLIT = 1_000_000  # up to so many images, their ids are unique over the splits, as COCO's are
MAX_SIDE = 4096  # pixels; drawing an image of this size takes about 1 GB

Record = dict[str, Any]  # a JSON object of an annotation file


def main(argv: list[str] | None = None) -> int:
    """Draws a dataset. Returns the exit status."""
    args = parse_arguments(argv)
    try:
        write_dataset(**vars(args))
    except OSError as error:
        error.filename = error.filename or str(args.out)  # a full disk names no file
        raise
    except KeyboardInterrupt:
        raise Stopped(signal.SIGINT, f'interrupted; what is in {one_line(args.out)} is not complete') from None
    print(f'Wrote {args.train} train, {args.val} val and {args.test} test images and their annotations to '
          f'{one_line(args.out)}')
    return 0


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags, which are the arguments of `write_dataset`."""
    parser = ArgumentParser(
        prog='python -m tools.shapes', formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description='Draw a small COCO-style dataset of shapes: images in OUT/train, OUT/val and OUT/test, '
                    'annotation files in OUT/annotations. The same arguments draw the same dataset.')
    parser.add_argument('out', metavar='OUT', type=Path,
                        help='folder to write to: new, empty, or an earlier dataset to replace')
    parser.add_argument('--seed', type=int, default=0, help='another seed draws other images')
    parser.add_argument('--train', type=int, default=1500, help='number of training images')
    parser.add_argument('--val', type=int, default=200, help='number of validation images')
    parser.add_argument('--test', type=int, default=40, help='number of test images, which have no annotations')
    parser.add_argument('--width', type=int, default=320,
                        help='pixels; half of the images are a bit smaller, and a third are in portrait format')
    parser.add_argument('--height', type=int, default=240, help='pixels, likewise')
    return parser.parse_args(argv)


def write_dataset(out: str | Path, seed: int = 0, train: int = 1500, val: int = 200, test: int = 40, width: int = 320,
                  height: int = 240) -> None:
    """Writes a whole dataset in place of an earlier one, with a progress bar.

    Args:
        out: folder. It may be missing, empty, or hold what this function wrote before.
        seed: not negative.
        train, val, test: number of images of each split.
        width, height: as of `draw_image`.
    Raises:
        UserError: a number is out of range, or `out` holds other files.
        OSError: `out` cannot be written.
    """
    out, counts = Path(out), {'train': train, 'val': val, 'test': test}
    for name, value in {'seed': seed, **counts}.items():
        if value < 0:
            raise UserError(f'{name} is {value}: give 0 or more')
    for name, value in {'width': width, 'height': height}.items():
        if not MIN_SIDE <= value <= MAX_SIDE:
            raise UserError(f'{name} is {value}: give {MIN_SIDE} to {MAX_SIDE} pixels')
    out.mkdir(parents=True, exist_ok=True)
    _clear(out)
    with progress_bar(sum(counts.values()), 'images') as bar:
        for split, count in counts.items():
            bar.set_description(split, refresh=False)
            write_split(out, split, count, seed, width, height, bar.update)


def _clear(out: Path) -> None:
    """Removes an earlier dataset, so that a smaller one leaves no images of a larger one behind."""
    # A link to a folder may lead to the files of others.
    files = [path for path in out.rglob('*') if path.is_symlink() or not path.is_dir()]
    for path in files:
        if not _is_own(path, out):
            raise UserError(f'{out}: holds {path.relative_to(out)}, not written by this tool; '
                            'name a new or an empty folder')
    for path in files:
        path.unlink()


def _is_own(path: Path, out: Path) -> bool:
    """Whether a file in the folder `out` is one that this tool writes there, or that an earlier version of it wrote."""
    if path.parent == out / 'annotations' and path.name in SPLITS.values():
        starts = tuple(json.dumps({'info': _info(description)})[:-1] for description in DESCRIPTIONS)
        with path.open(errors='replace') as file:
            return file.read(max(map(len, starts))).startswith(starts)
    in_split = path.parent.parent == out and path.parent.name in SPLITS
    return in_split and re.fullmatch(r'shapes_\d{7,}\.jpg', path.name) is not None


def _info(description: str = DESCRIPTIONS[0]) -> Record:
    """How an annotation file begins."""
    return {'description': description, 'version': VERSION}


def write_split(out: str | Path, split: str, count: int, seed: int = 0, width: int = 320, height: int = 240,
                progress: Callable[[], object] | None = None) -> None:
    """Writes a split's images to `out`/`split` and its annotation file to `out`/annotations.

    Args:
        out: folder, made where it is missing.
        split: 'train', 'val' or 'test'. The test file has no annotations.
        count: number of images.
        seed, width, height: as of `draw_image`.
        progress: called after each image.
    Raises:
        OSError: a file cannot be written.
    """
    folder, annotation_file = Path(out) / split, Path(out) / 'annotations' / SPLITS[split]
    folder.mkdir(parents=True, exist_ok=True)
    annotation_file.parent.mkdir(exist_ok=True)
    images: list[Record] = []
    annotations: list[Record] = []
    for index in range(count):
        scene, jpeg = draw_image(seed, split, index, width, height)
        image_id = list(SPLITS).index(split) * IDS_PER_SPLIT + index + 1
        name = f'shapes_{image_id:07d}.jpg'
        (folder / name).write_bytes(jpeg)
        rows, columns = scene.image.shape[:2]
        images.append({'id': image_id, 'file_name': name, 'width': columns, 'height': rows})
        for drawn in scene.objects:
            annotations.append(_annotation(drawn, image_id, len(annotations) + 1))
        if progress:
            progress()
    categories = [{'id': category.id, 'name': category.name, 'supercategory': 'shape'} for category in CATEGORIES]
    content: Record = {'info': _info(), 'licenses': [], 'categories': categories, 'images': images}
    if split != 'test':
        content['annotations'] = annotations
    annotation_file.write_text(json.dumps(content))


def draw_image(seed: int, split: str, index: int, width: int = 320, height: int = 240) -> tuple[Scene, bytes]:
    """Image `index` of a split: a scene and its JPEG.

    A third of the images are in portrait format, and half are a bit smaller than the given size.

    Args:
        seed: not negative.
        split: 'train', 'val' or 'test'.
        index: from 0.
        width, height: of a full-size image in landscape format, in pixels, at least 64.
    Returns:
        The scene, with its image as it is before JPEG compression; and the JPEG file's content.
    """
    scene_seed = [seed, list(SPLITS).index(split), index]
    rng = np.random.default_rng([*scene_seed, 1])
    scale = rng.uniform(0.75, 1, 2) if rng.random() < 0.5 else 1
    size = np.maximum(np.rint(np.array([width, height]) * scale), MIN_SIDE).astype(int).tolist()
    scene = draw_scene(scene_seed, *(size[::-1] if rng.random() < 1 / 3 else size))
    _, jpeg = cv2.imencode('.jpg', scene.image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(82, 96))])
    return scene, jpeg.tobytes()


def _annotation(drawn: SceneObject, image_id: int, annotation_id: int) -> Record:
    """The COCO annotation of an object."""
    rows, columns = np.flatnonzero(drawn.mask.any(1)), np.flatnonzero(drawn.mask.any(0))
    bbox = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return {'id': annotation_id, 'image_id': image_id, 'category_id': CATEGORIES[drawn.category].id,
            'segmentation': _segmentation(drawn), 'area': int(drawn.mask.sum()),
            'bbox': [int(side) for side in bbox], 'iscrowd': int(drawn.crowd)}


def _segmentation(drawn: SceneObject) -> Record | list[list[float]]:
    """Polygons for a mask without holes, a compressed RLE for one with holes, an uncompressed RLE for a crowd."""
    polygons = [] if drawn.crowd or has_hole(drawn.mask) else _polygons(drawn.mask)
    if polygons:
        return polygons
    counts = encode_mask(drawn.mask)['counts'].decode()
    return {'size': list(drawn.mask.shape), 'counts': decompress(counts) if drawn.crowd else counts}


def _polygons(mask: np.ndarray) -> list[list[float]]:
    """The outlines of a mask's connected components: lists of x0 y0 x1 y1 ... in pixels."""
    # They go through the middles of pixel edges, as marching squares does: one coordinate in half pixels is odd.
    outlines = [outline[outline.sum((1, 2)) % 2 == 1] for outline in trace(mask, approximation=cv2.CHAIN_APPROX_NONE)]
    simplified = [cv2.approxPolyDP(outline, 0.8, True) for outline in outlines]
    return [(points.reshape(-1) / 2).tolist() for points in simplified if len(points) >= 3]


if __name__ == '__main__':
    run(main)
