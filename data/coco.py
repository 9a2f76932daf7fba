"""A dataset described by a COCO-style annotation file: its classes, its pictures and their objects."""
import argparse
import math
import os
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools import mask as mask_api

from data.annotation_file import name_of, parse, read_annotation, read_classes, read_pictures, records_of, unpack
from data.images import PictureError
from data.masks import encode
from system.messages import one_line
from system.worker_pool import WorkerError


class AnnotationError(ValueError):
    """An annotation file or a folder of pictures that is of no use. The message is one line for the user."""

    def __init__(self, message):
        super().__init__(one_line(message))


@dataclass(frozen=True)
class Objects:
    """The annotated objects of one picture. Crowds stand at the end.

    Attributes:
        labels: int64 [n], the class, from 0.
        boxes: float32 [n, 4], x0 y0 x1 y1 in pixels, within the picture.
        segmentations: list of n, for each object a list of polygons, float64 [m, 2], x y in pixels; or a
            compressed RLE, {'size': [h, w], 'counts': bytes}.
        num_crowds: int, how many at the end are crowds.
    """
    labels: np.ndarray
    boxes: np.ndarray
    segmentations: list
    num_crowds: int

    def __len__(self):
        return len(self.labels)


class CocoDataset:
    """The pictures that an annotation file lists, and the objects in them.

    Annotations that cannot be used are left out, each with a line in `warnings`.

    Attributes:
        classes: Classes, in ascending order of category id.
        images: list of Picture, in the order of the file.
        has_annotations: bool, whether the file has annotations at all. Files of test pictures have none.
        warnings: list of str, a line for each annotation left out.
        annotations_path: Path of the annotation file.
        images_folder: Path of the folder of pictures.
    """

    def __init__(self, annotations_path, images_folder):
        """
        Args:
            annotations_path: str or Path, a JSON file.
            images_folder: str or Path. It is not looked into, see `check_folder`.
        Raises:
            AnnotationError: the file is missing or wrong as a whole.
        """
        self.annotations_path = Path(annotations_path)
        self.images_folder = Path(images_folder)
        self.warnings = []
        try:
            content = parse(self.annotations_path)
            self.classes = read_classes(records_of(content, 'categories'))
            self.images = read_pictures(records_of(content, 'images'), self.images_folder)
            self.has_annotations = 'annotations' in content
            self._read_annotations(records_of(content, 'annotations') if self.has_annotations else [])
        except ValueError as problem:
            raise AnnotationError(f'{self.annotations_path}: {problem}') from None

    def __len__(self):
        """The number of pictures, with or without objects."""
        return len(self.images)

    def objects(self, i):
        """The Objects of picture i. The arrays are the caller's own."""
        rows = slice(*self._starts[[i, i + 1]])
        return Objects(self._labels[rows].copy(), self._boxes[rows].copy(),
                       [unpack(segmentation) for segmentation in self._segmentations[rows]],
                       int(self._crowds[rows].sum()))

    def annotations(self, i):
        """The annotations of picture i that are kept, in the order of the file, as pycocotools takes them.

        Yields:
            dict with image_id, category_id, iscrowd (0 or 1), bbox (x y width height) and area (pixels), both as the
            file says or else of the segmentation, and segmentation (a compressed RLE).
        """
        picture = self.images[i]
        for row in sorted(range(*self._starts[[i, i + 1]].tolist()), key=self._order.__getitem__):
            *box, area = self._figures[row].tolist()
            segmentation = self._segmentations[row]
            if not isinstance(segmentation, dict):
                segmentation = encode(unpack(segmentation), (picture.height, picture.width))
            yield {'image_id': picture.id, 'category_id': self.classes.ids[self._labels[row]],
                   'iscrowd': int(self._crowds[row]), 'bbox': box, 'segmentation': segmentation,
                   'area': float(mask_api.area(segmentation)) if math.isnan(area) else area}

    def check_annotations(self):
        """Looks whether there is anything to learn from or to judge by.

        Raises:
            AnnotationError: the file has no annotations, or none that can be used.
        """
        if not self.has_annotations:
            raise AnnotationError(f'{self.annotations_path}: has no annotations; test_dev.py takes such a file')
        if self.warnings and not len(self._labels):
            raise AnnotationError(f'{self.warnings[0]}; and none of the {len(self.warnings)} can be used')

    def check_folder(self):
        """Looks whether the folder holds the pictures.

        Raises:
            AnnotationError: there is no such folder, or none of the first few pictures is in it.
        """
        if not os.path.isdir(self.images_folder):
            raise AnnotationError(f'{self.images_folder}: no such folder; '
                                  f'give the one with the pictures of {self.annotations_path}')
        first = [picture.path for picture in self.images[:10]]
        if not any(os.path.isfile(path) for path in first):
            raise AnnotationError(f'{self.images_folder}: the pictures of {self.annotations_path} are not in '
                                  f'this folder, for example {first[0]}; give the folder that has them')

    def _read_annotations(self, records):
        """Columns of all usable annotations, ordered by picture. They take far less room than records."""
        places = {picture.id: i for i, picture in enumerate(self.images)}
        labels = {id: label for label, id in enumerate(self.classes.ids)}
        columns = array('q')
        boxes = array('f')
        figures = array('d')
        segmentations = []
        for position, record in enumerate(records):
            try:
                annotation = read_annotation(record, self.images, places, labels)
            except ValueError as problem:
                self.warnings.append(one_line(f'{self.annotations_path}: annotation {name_of(record, position)} is '
                                              f'left out: {problem}'))
                continue
            columns.extend((annotation.picture, annotation.label, annotation.crowd))
            boxes.extend(annotation.corners)
            figures.extend((*annotation.box, annotation.area))
            segmentations.append(annotation.segmentation)
        images, labels, crowds = np.array(columns, np.int64).reshape(-1, 3).T
        order = np.lexsort((crowds, images))
        self._order = order  # places in the file
        self._figures = np.array(figures).reshape(-1, 5)[order]  # box and area
        self._starts = np.searchsorted(images[order], np.arange(len(self.images) + 1))
        self._labels = labels[order]
        self._boxes = np.array(boxes, np.float32).reshape(-1, 4)[order]
        self._crowds = crowds[order].astype(bool)
        self._segmentations = [segmentations[row] for row in order]


def main(argv=None):
    """Look at a dataset. Returns the exit status: 1 if something is wrong with it."""
    from tools.check import FEW, check  # which is made of this
    parser = argparse.ArgumentParser(prog='python -m data.coco', description='COCO-style datasets.')
    commands = parser.add_subparsers(dest='command', required=True, metavar='{check}')
    looking = commands.add_parser(
        'check', help='what is in a dataset, and what is wrong with it',
        description='Tell what is in a dataset, and what is wrong with it: annotations that are left out, pictures '
                    'that are missing, damaged or of another size than annotated, objects without pixels, annotated '
                    'twice, too thin to be learnt, or with boxes that do not fit, and classes with fewer than '
                    f'{FEW} objects. The exit status is 1 if there is something, be it such a class alone.')
    looking.add_argument('annotations', type=Path, help='annotation file')
    looking.add_argument('images', type=Path, help='folder of its pictures')
    looking.add_argument('--samples', type=Path, default='results/check.jpg',
                         help='picture to write, of some pictures with their objects (default: %(default)s)')
    looking.add_argument('--all', action='store_true', help='print all problems (default: 20 of each kind)')
    args = parser.parse_args(argv)
    try:
        dataset = CocoDataset(args.annotations, args.images)
        dataset.check_folder()
        args.samples.parent.mkdir(parents=True, exist_ok=True)
        return 1 if check(dataset, args.samples, sys.maxsize if args.all else 20) else 0
    except (AnnotationError, PictureError, WorkerError) as error:
        print(f'data.coco: error: {error}', file=sys.stderr)
    except BrokenPipeError:  # of whoever reads what is printed
        raise
    except OSError as error:
        print(f'data.coco: error: {one_line(error.filename or args.samples)}: cannot be written ({error.strerror})',
              file=sys.stderr)
    return 2


if __name__ == '__main__':
    from command_line import run
    run(main)
