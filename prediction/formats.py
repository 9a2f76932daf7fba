"""What a network finds → files to go on with: COCO-style annotations, masks, labelme's files."""
import contextlib
import json
import os
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from data.images import write_image
from data.labelme import describe
from data.polygons import polygons
from system.files import replacing

MASKS = ('ids', 'objects')
_MASK_OF_OBJECT = re.compile(r'(.+)\.\d{3,}_\w*\.png', re.DOTALL)


@contextlib.contextmanager
def coco_file(path, classes, as_polygons):
    """A COCO-style annotation file, with scores, that takes its place when it is complete.

    Args:
        path: str or Path; its folder is made where it is missing.
        classes: `Classes` of what is found.
        as_polygons: whether segmentations are polygons; otherwise they are RLE, which have every pixel.
    Yields:
        callable of an image's name and its `Detections`.
    Raises:
        OSError: it cannot be written.
    """
    images, number = [], 0
    with replacing(path) as file:
        def add(name, detections):
            nonlocal number
            height, width = detections.size
            images.append({'id': len(images) + 1, 'file_name': str(name), 'width': width, 'height': height})
            for segmentation, i in _segmentations(detections, as_polygons):
                x0, y0, x1, y1 = detections.boxes[i].tolist()
                entry = {'id': number + 1, 'image_id': len(images), 'iscrowd': 0,
                         'category_id': classes.ids[detections.classes[i]],
                         'score': round(float(detections.box_scores[i]), 4), 'area': int(detections.masks[i].sum()),
                         'bbox': [round(value, 2) for value in (x0, y0, x1 - x0, y1 - y0)],
                         'segmentation': segmentation}
                file.write((',\n' if number else '{"annotations": [\n') + json.dumps(entry, separators=(',', ':')))
                number += 1
        yield add
        categories = [{'id': id, 'name': name} for id, name in zip(classes.ids, classes.names)]
        file.write(('\n],\n' if number else '{"annotations": [],\n') + f'"images": {json.dumps(images)},\n'
                   f'"categories": {json.dumps(categories)}}}\n')


def _segmentations(detections, as_polygons):
    """Those of objects that have any, and which these are."""
    for i in range(len(detections)):
        if as_polygons:
            outlines = polygons(detections.masks[i], detections.corners[i])
            found = [points.ravel().round(2).tolist() for points in outlines]
        else:
            rle = detections.rle(i)
            found = {'size': list(rle['size']), 'counts': rle['counts'].decode('ascii')}
        if found:
            yield found, i


def earlier_masks(folder):
    """The files that `write_masks` made of objects in a folder before: dict of images' names to lists of Path."""
    found = defaultdict(list)
    for path in Path(folder).iterdir():
        if match := _MASK_OF_OBJECT.fullmatch(path.name):
            found[match[1]].append(path)
    return found


def write_masks(folder, kind, name, detections, classes, earlier):
    """PNG files of the masks of an image.

    Args:
        folder: Path of the folder to write in.
        kind: 'ids' for one of 16 bits with the numbers of the objects, from 1, the best of which lie on top; 'objects'
            for one of each object, 255 within its mask.
        name: the image's.
        detections: `Detections`.
        classes: `Classes` of what is found.
        earlier: as `earlier_masks` returns it. Those of this image's objects go, for there may be fewer now.
    Raises:
        ImageError: one cannot be written.
        OSError: one cannot be removed.
    """
    if kind == 'ids':
        ids = np.zeros(detections.size, np.uint16)
        for i in reversed(range(len(detections))):
            ids[detections.full_mask(i)] = i + 1
        write_image(folder / f'{name}.ids.png', ids)
        return
    for path in earlier.pop(name, ()):
        path.unlink(missing_ok=True)
    for i in range(len(detections)):
        label = ''.join(c if c.isalnum() else '_' for c in classes.names[detections.classes[i]])
        write_image(folder / f'{name}.{i + 1:03d}_{label}.png', detections.full_mask(i).astype(np.uint8) * 255)


def labelme_file(folder, path):
    """Where labelme looks for the labels of an image."""
    return Path(folder) / f'{path.stem}.json'


def write_labelme(folder, path, detections, classes):
    """A file for labelme, to correct by hand what was found, beside the image or elsewhere.

    Args:
        folder: Path of the folder to write in, which is made where it is missing.
        path: Path of the image.
        detections: `Detections`.
        classes: `Classes` of what is found.
    Raises:
        OSError: it cannot be written.
    """
    objects = [(classes.names[detections.classes[i]], polygons(detections.masks[i], detections.corners[i]))
               for i in range(len(detections))]
    image = os.path.relpath(path, folder)
    with replacing(labelme_file(folder, path)) as file:
        json.dump(describe(image, detections.size, objects), file, indent=1)
