"""A dataset with a COCO-style annotation file: its classes, its images and their objects."""
import math
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.annotation_file import (
    ImageRecord,
    PackedSegmentation,
    parse,
    read_annotation,
    read_classes,
    read_images,
    record_name,
    records_of,
    unpack,
)
from data.masks import RLE, Segmentation, area, encode_polygons
from model.classes import Classes
from system.errors import UserError
from system.messages import one_line


@dataclass(frozen=True)
class Objects:
    """The annotated objects of one image, crowds last.

    Attributes:
        labels: int64 [n], classes from 0.
        boxes: float32 [n, 4], x0 y0 x1 y1 in pixels, clipped to the image.
        segmentations: n of them, each polygons or a compressed RLE.
        num_crowds: how many of the objects, the last ones, are crowds.
    """
    labels: np.ndarray
    boxes: np.ndarray
    segmentations: list[Segmentation]
    num_crowds: int

    def __len__(self) -> int:
        return len(self.labels)


class CocoDataset:
    """The images that an annotation file lists, and the objects in them.

    Annotations that cannot be used are left out, each with a line in `warnings`.

    Attributes:
        classes: in ascending order of category id.
        images: in the order of the file.
        has_annotations: whether the file has annotations at all. Files of test images have none.
        warnings: a line for each annotation that is left out.
        annotations_path: the annotation file.
        images_folder: the folder of images.
    """
    classes: Classes
    images: list[ImageRecord]
    has_annotations: bool

    def __init__(self, annotations_path: str | Path, images_folder: str | Path, allow_outside: bool = False) -> None:
        """
        Args:
            annotations_path: a JSON file.
            images_folder: it is not checked here, see `check_folder`.
            allow_outside: whether the file may list images that are not in that folder.
        Raises:
            UserError: the file is missing or wrong as a whole.
        """
        self.annotations_path = Path(annotations_path)
        self.images_folder = Path(images_folder)
        self.warnings: list[str] = []
        try:
            content = parse(self.annotations_path)
            self.classes = read_classes(records_of(content, 'categories'))
            self.images = read_images(records_of(content, 'images'), self.images_folder, allow_outside)
            self.has_annotations = 'annotations' in content
            self._read_annotations(records_of(content, 'annotations') if self.has_annotations else [])
        except ValueError as error:
            raise UserError(f'{self.annotations_path}: {error}') from None

    def __len__(self) -> int:
        """The number of images, with or without objects."""
        return len(self.images)

    @property
    def files(self) -> Iterator[Path]:
        """The annotation file and the images."""
        yield self.annotations_path
        yield from (image.path for image in self.images)

    def objects(self, i: int) -> Objects:
        """The `Objects` of image i. The arrays are copies."""
        first, end = self._starts[[i, i + 1]].tolist()
        rows = slice(first, end)
        return Objects(self._labels[rows].copy(), self._boxes[rows].copy(),
                       [unpack(segmentation) for segmentation in self._segmentations[rows]],
                       int(self._crowds[rows].sum()))

    def annotations(self, i: int) -> Iterator[dict[str, Any]]:
        """The usable annotations of image i, in the order of the file, as pycocotools takes them.

        Yields:
            dict with image_id, category_id, iscrowd (0 or 1), bbox (x y width height) and area (pixels), both as in the
            file or else of the segmentation, and segmentation (a compressed RLE).
        """
        image = self.images[i]
        first, end = self._starts[[i, i + 1]].tolist()
        for row in sorted(range(first, end), key=self._order.__getitem__):
            *box, file_area = self._boxes_and_areas[row].tolist()
            rle = self._rle(row, image)
            yield {'image_id': image.id, 'category_id': self.classes.ids[self._labels[row]],
                   'iscrowd': int(self._crowds[row]), 'bbox': box, 'segmentation': rle,
                   'area': area(rle) if math.isnan(file_area) else file_area}

    def _rle(self, row: int, image: ImageRecord) -> RLE:
        segmentation = unpack(self._segmentations[row])
        if isinstance(segmentation, dict):
            return segmentation
        return encode_polygons(segmentation, (image.height, image.width))

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
        """Store the usable annotations as arrays, ordered by image, which take far less memory than records."""
        image_indices = {image.id: i for i, image in enumerate(self.images)}
        labels = {id: label for label, id in enumerate(self.classes.ids)}
        columns = array('q')
        clipped_boxes = array('f')
        boxes_and_areas = array('d')
        segmentations: list[PackedSegmentation] = []
        for position, record in enumerate(records):
            try:
                annotation = read_annotation(record, self.images, image_indices, labels)
            except ValueError as error:
                self.warnings.append(one_line(f'{self.annotations_path}: annotation {record_name(record, position)} is '
                                              f'left out: {error}'))
                continue
            columns.extend((annotation.image, annotation.label, annotation.crowd))
            clipped_boxes.extend(annotation.clipped_box)
            boxes_and_areas.extend((*annotation.box, annotation.area))
            segmentations.append(annotation.segmentation)
        image_column, label_column, crowd_column = np.array(columns, np.int64).reshape(-1, 3).T
        order = np.lexsort((crowd_column, image_column))
        self._order = order  # positions in the file
        self._starts = np.searchsorted(image_column[order], np.arange(len(self.images) + 1))  # each image's first row
        self._labels = label_column[order]
        self._boxes = np.array(clipped_boxes, np.float32).reshape(-1, 4)[order]
        self._boxes_and_areas = np.array(boxes_and_areas).reshape(-1, 5)[order]  # as in the file
        self._crowds = crowd_column[order].astype(bool)
        self._segmentations = [segmentations[row] for row in order]


if __name__ == '__main__':
    from system.command import renamed
    renamed('python -m data.coco check', 'python -m tools.check')
