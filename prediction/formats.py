"""Files that predictions are written to: COCO-style annotations, masks as PNG, labelme's files."""
import contextlib
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import cv2
import numpy as np

from data.images import ImageError, write_image
from data.labelme import to_labelme
from data.polygons import polygons
from model.classes import Classes
from model.postprocess import Detections
from system.files import replacing
from system.messages import one_line

MASK_FORMATS = ('ids', 'objects')
_OBJECT_MASK = re.compile(r'(.+)\.\d{3,}_\w*\.png', re.DOTALL)


class DetectionWriter(Protocol):
    """Writes the detections of one image after another."""

    def write(self, name: str, path: Path | None, detections: Detections) -> None:
        """Write the detections of an image.

        Args:
            name: the image's, or a frame's.
            path: the image's file; None for a frame.
            detections: its `Detections`.
        Raises:
            ImageError: this image is to be skipped.
            OSError: a file cannot be written.
        """
        ...


class CocoWriter:
    """A COCO-style annotation file with scores, which takes its place when it is complete. A context manager.

    Args:
        path: of the file; its folder is made where it is missing.
        classes: `Classes` of the detections.
        as_polygons: whether segmentations are polygons; otherwise they are RLE, which have every pixel.
    """

    def __init__(self, path: str | Path, classes: Classes, as_polygons: bool) -> None:
        self._classes, self._as_polygons = classes, as_polygons
        self._images: list[dict[str, Any]] = []
        self._annotations = 0
        self._replacing = replacing(path)

    def __enter__(self) -> 'CocoWriter':
        self._file = self._replacing.__enter__()
        return self

    def write(self, name: str, path: Path | None, detections: Detections) -> None:
        """As of `DetectionWriter`."""
        height, width = detections.size
        self._images.append({'id': len(self._images) + 1, 'file_name': name, 'width': width, 'height': height})
        for i, segmentation in self._segmentations(detections):
            start = ',\n' if self._annotations else '{"annotations": [\n'
            self._annotations += 1
            self._file.write(start + json.dumps(self._annotation(detections, i, segmentation), separators=(',', ':')))

    def _segmentations(self, detections: Detections) -> Iterator[tuple[int, list | dict]]:
        """Of each object that has any, and which it is."""
        for i in range(len(detections)):
            if self._as_polygons:
                outlines = polygons(detections.masks[i], detections.corners[i])
                if outlines:
                    yield i, [points.ravel().round(2).tolist() for points in outlines]
            else:
                rle = detections.rle(i)
                yield i, {'size': list(rle['size']), 'counts': rle['counts'].decode('ascii')}

    def _annotation(self, detections: Detections, i: int, segmentation: list | dict) -> dict[str, Any]:
        x0, y0, x1, y1 = detections.boxes[i].tolist()
        return {'id': self._annotations, 'image_id': len(self._images), 'iscrowd': 0,
                'category_id': self._classes.ids[detections.classes[i]],
                'score': round(float(detections.box_scores[i]), 4), 'area': int(detections.masks[i].sum()),
                'bbox': [round(value, 2) for value in (x0, y0, x1 - x0, y1 - y0)], 'segmentation': segmentation}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> bool | None:
        if error is None:
            categories = [{'id': id, 'name': name} for id, name in zip(self._classes.ids, self._classes.names)]
            self._file.write(('\n],\n' if self._annotations else '{"annotations": [],\n')
                             + f'"images": {json.dumps(self._images)},\n"categories": {json.dumps(categories)}}}\n')
        return self._replacing.__exit__(kind, error, traceback)


class MaskWriter:
    """PNG files of masks.

    Args:
        folder: to write in. Masks of objects that were written there before are removed where their image has others
            now, for there may be fewer.
        kind: 'ids' for one of 16 bits an image, with the numbers of the objects, from 1, the best of which lie on top;
            'objects' for one of each object, 255 within its mask.
        classes: `Classes` of the detections.
    """

    def __init__(self, folder: Path, kind: str, classes: Classes) -> None:
        self._folder, self._kind, self._classes = folder, kind, classes
        self._earlier: dict[str, list[Path]] = defaultdict(list)
        for path in folder.iterdir():
            if match := _OBJECT_MASK.fullmatch(path.name):
                self._earlier[match[1]].append(path)

    def write(self, name: str, path: Path | None, detections: Detections) -> None:
        """As of `DetectionWriter`."""
        if self._kind == 'ids':
            ids = np.zeros(detections.size, np.uint16)
            for i in reversed(range(len(detections))):
                ids[detections.full_mask(i)] = i + 1
            file = self._folder / f'{name}.ids.png'
            _check_masks([file], np.uint16)
            write_image(file, ids)
            return
        earlier = self._earlier.pop(name, [])
        _check_masks(earlier, np.uint8)
        for file in earlier:
            file.unlink(missing_ok=True)
        for i in range(len(detections)):
            label = ''.join(c if c.isalnum() else '_' for c in self._classes.names[detections.classes[i]])
            mask = detections.full_mask(i).astype(np.uint8) * 255
            write_image(self._folder / f'{name}.{i + 1:03d}_{label}.png', mask)


def _check_masks(files: list[Path], depth: type[np.generic]) -> None:
    """Raises ImageError if a file is none of the masks that are written here, and would be lost."""
    for file in files:
        if os.path.isfile(file):
            image = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_UNCHANGED) if file.stat().st_size else None
            if image is None or image.ndim > 2 or image.dtype != depth or (
                    depth is np.uint8 and not np.isin(image, (0, 255)).all()):
                raise ImageError(f'{file}: is no mask that was written here, and would be lost; move it, or name '
                                 'another --out')


class LabelmeWriter:
    """A file for labelme for each image that has none. Those that were there before may be corrected by hand.

    Args:
        folder: to write in, which is made where it is missing.
        classes: `Classes` of the detections.
    """

    def __init__(self, folder: Path, classes: Classes) -> None:
        self._folder, self._classes = folder, classes
        self._written: set[Path] = set()

    def write(self, name: str, path: Path | None, detections: Detections) -> None:
        """As of `DetectionWriter`. Frames have no file that labelme could open."""
        if path is None:
            return
        file = labelme_file(self._folder, path)
        if file in self._written:
            raise ImageError(f'{path}: would be labelled over {file}, of another image; rename one')
        if file.exists():
            print(one_line(f'{path}: has labels already, which are kept; remove {file} to write them anew'),
                  file=sys.stderr)
            return
        objects = [(self._classes.names[detections.classes[i]], polygons(detections.masks[i], detections.corners[i]))
                   for i in range(len(detections))]
        with replacing(file) as stream:
            json.dump(to_labelme(os.path.relpath(path, self._folder), detections.size, objects), stream, indent=1)
        self._written.add(file)


def labelme_file(folder: str | Path, path: Path) -> Path:
    """Where labelme looks for the labels of an image."""
    return Path(folder) / f'{path.stem}.json'


@contextlib.contextmanager
def open_writers(classes: Classes, labelme: Path | None, coco: Path | None, as_polygons: bool, masks: str | None,
                 mask_folder: Path) -> Iterator[list[DetectionWriter]]:
    """The writers that flags ask for, each None where it is not wanted."""
    with contextlib.ExitStack() as stack:
        writers: list[DetectionWriter] = []
        if labelme:  # the first, as it may refuse an image
            writers.append(LabelmeWriter(labelme, classes))
        if masks:  # before the file that would list the image
            writers.append(MaskWriter(mask_folder, masks, classes))
        if coco:
            writers.append(stack.enter_context(CocoWriter(coco, classes, as_polygons)))
        yield writers
