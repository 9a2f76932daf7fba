"""A dataset described by a COCO-style annotation file: its classes, its images and their objects."""
import math
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_api

from data.annotation_file import name_of, parse, read_annotation, read_classes, read_images, records_of, unpack
from data.masks import encode
from system.errors import UserError
from system.messages import one_line


@dataclass(frozen=True)
class Objects:
    """The annotated objects of one image. Crowds stand at the end.

    Attributes:
        labels: int64 [n], the class, from 0.
        boxes: float32 [n, 4], x0 y0 x1 y1 in pixels, within the image.
        segmentations: list of n, for each object a list of polygons, float64 [m, 2], x y in pixels; or a
            compressed RLE, {'size': [h, w], 'counts': bytes}.
        num_crowds: int, how many at the end are crowds.
    """
    labels: np.ndarray
    boxes: np.ndarray
    segmentations: list[Any]
    num_crowds: int

    def __len__(self) -> int:
        return len(self.labels)


class CocoDataset:
    """The images that an annotation file lists, and the objects in them.

    Annotations that cannot be used are left out, each with a line in `warnings`.

    Attributes:
        classes: Classes, in ascending order of category id.
        images: list of ImageRecord, in the order of the file.
        has_annotations: bool, whether the file has annotations at all. Files of test images have none.
        warnings: list of str, a line for each annotation left out.
        annotations_path: Path of the annotation file.
        images_folder: Path of the folder of images.
    """

    def __init__(self, annotations_path: str | Path, images_folder: str | Path) -> None:
        """
        Args:
            annotations_path: str or Path, a JSON file.
            images_folder: str or Path. It is not looked into, see `check_folder`.
        Raises:
            UserError: the file is missing or wrong as a whole.
        """
        self.annotations_path = Path(annotations_path)
        self.images_folder = Path(images_folder)
        self.warnings: list[str] = []
        try:
            content = parse(self.annotations_path)
            self.classes = read_classes(records_of(content, 'categories'))
            self.images = read_images(records_of(content, 'images'), self.images_folder)
            self.has_annotations = 'annotations' in content
            self._read_annotations(records_of(content, 'annotations') if self.has_annotations else [])
        except ValueError as problem:
            raise UserError(f'{self.annotations_path}: {problem}') from None

    def __len__(self) -> int:
        """The number of images, with or without objects."""
        return len(self.images)

    def objects(self, i: int) -> Objects:
        """The Objects of image i. The arrays are the caller's own."""
        rows = slice(*self._starts[[i, i + 1]].tolist())
        return Objects(self._labels[rows].copy(), self._boxes[rows].copy(),
                       [unpack(segmentation) for segmentation in self._segmentations[rows]],
                       int(self._crowds[rows].sum()))

    def annotations(self, i: int) -> Iterator[dict[str, Any]]:
        """The annotations of image i that are kept, in the order of the file, as pycocotools takes them.

        Yields:
            dict with image_id, category_id, iscrowd (0 or 1), bbox (x y width height) and area (pixels), both as the
            file says or else of the segmentation, and segmentation (a compressed RLE).
        """
        image = self.images[i]
        for row in sorted(range(*self._starts[[i, i + 1]].tolist()), key=self._order.__getitem__):
            *box, area = self._boxes_and_areas[row].tolist()
            segmentation = self._segmentations[row]
            if not isinstance(segmentation, dict):
                segmentation = encode(unpack(segmentation), (image.height, image.width))
            yield {'image_id': image.id, 'category_id': self.classes.ids[self._labels[row]],
                   'iscrowd': int(self._crowds[row]), 'bbox': box, 'segmentation': segmentation,
                   'area': float(mask_api.area(segmentation)) if math.isnan(area) else area}

    def check_annotations(self) -> None:
        """Check that there is something to train on or to evaluate against.

        Raises:
            UserError: the file has no annotations, or none that can be used.
        """
        if not self.has_annotations:
            raise UserError(f'{self.annotations_path}: has no annotations; test_dev.py takes such a file')
        if self.warnings and not len(self._labels):
            raise UserError(f'{self.warnings[0]}; and none of the {len(self.warnings)} can be used')

    def check_folder(self) -> None:
        """Check that the folder holds the images.

        Raises:
            UserError: there is no such folder, or none of the first few images is in it.
        """
        if not os.path.isdir(self.images_folder):
            raise UserError(f'{self.images_folder}: no such folder; '
                            f'give the one with the images of {self.annotations_path}')
        first = [image.path for image in self.images[:10]]
        if not any(os.path.isfile(path) for path in first):
            raise UserError(f'{self.images_folder}: the images of {self.annotations_path} are not in '
                            f'this folder, for example {first[0]}; give the folder that has them')

    def _read_annotations(self, records: list[Any]) -> None:
        """Columns of all usable annotations, ordered by image. They take far less room than records."""
        places = {image.id: i for i, image in enumerate(self.images)}
        label_of_id = {id: label for label, id in enumerate(self.classes.ids)}
        columns = array('q')
        boxes = array('f')
        boxes_and_areas = array('d')
        segmentations = []
        for position, record in enumerate(records):
            try:
                annotation = read_annotation(record, self.images, places, label_of_id)
            except ValueError as problem:
                self.warnings.append(one_line(f'{self.annotations_path}: annotation {name_of(record, position)} is '
                                              f'left out: {problem}'))
                continue
            columns.extend((annotation.image, annotation.label, annotation.crowd))
            boxes.extend(annotation.corners)
            boxes_and_areas.extend((*annotation.box, annotation.area))
            segmentations.append(annotation.segmentation)
        image_indices, labels, crowds = np.array(columns, np.int64).reshape(-1, 3).T
        order = np.lexsort((crowds, image_indices))
        self._order = order  # places in the file
        self._boxes_and_areas = np.array(boxes_and_areas).reshape(-1, 5)[order]  # box and area
        self._starts = np.searchsorted(image_indices[order], np.arange(len(self.images) + 1))
        self._labels = labels[order]
        self._boxes = np.array(boxes, np.float32).reshape(-1, 4)[order]
        self._crowds = crowds[order].astype(bool)
        self._segmentations = [segmentations[row] for row in order]


if __name__ == '__main__':
    from system.command import renamed
    renamed('python -m data.coco check', 'python -m tools.check')
