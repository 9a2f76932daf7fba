"""The content of a COCO-style annotation file, made from labels of another format."""
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.label_set import LabelledImage, LabelledObject, LabelSet, LeftOut, Split
from data.masks import area, bounding_box
from system.files import is_inside

MIN_SIDE = 1e-3  # pixels within the image of a box; a thinner object cannot be trained on

Record = dict[str, Any]  # a JSON object of an annotation file
Annotations = dict[str, list[Record]]  # an annotation file: its images, annotations and categories


def class_names(labels: LabelSet) -> list[str]:
    """The classes of labels, in order: those that the format lists, or those that occur, sorted."""
    if labels.classes is not None:
        return labels.classes
    return sorted({name for split in labels.splits.values() for image in split.images for name, _ in image.objects})


def make_annotations(split: Split, names: Sequence[str], left_out: list[LeftOut],
                     allow_outside: bool = False) -> tuple[Annotations, Path]:
    """The annotation file of a split, and the folder that its images are named relative to.

    Args:
        split: the labelled images.
        names: the class names, in order. Objects of others are left out.
        left_out: what is left out is added to it.
        allow_outside: whether images that are not in the folder are named by their absolute path, not left out.
    """
    folder = images_folder(split)
    category_ids = {name: id for id, name in enumerate(names, 1)}
    images: list[Record] = []
    annotations: list[Record] = []
    for image in split.images:
        name = _file_name(image.path, folder)
        if name is None and not allow_outside:
            left_out.append(LeftOut(str(image.path), f' is left out: it is out of the folder of images, {folder}; name '
                                                     'another with --images, or allow it with --allow_outside'))
            continue
        height, width = image.size
        images.append({'id': len(images) + 1, 'file_name': name or Path(os.path.realpath(image.path)).as_posix(),
                       'width': width, 'height': height})
        for object in image.objects:
            record = _annotation(object, image, category_ids, left_out)
            if record:
                annotations.append({'id': len(annotations) + 1, 'image_id': len(images), **record})
    categories = [{'id': id, 'name': name} for name, id in category_ids.items()]
    return {'images': images, 'annotations': annotations, 'categories': categories}, folder


def images_folder(split: Split) -> Path:
    """The folder that a split's images are named relative to.

    It is the split's, if an image is in it. If all are together in another folder, such as one beside that of the
    labels, it is that, so that no image is out of it.
    """
    paths = [image.path for image in split.images]
    if not paths or any(_file_name(path, split.folder) for path in paths):
        return split.folder
    common = os.path.commonpath([os.path.realpath(path.parent) for path in paths])
    if is_inside(os.path.realpath(split.folder), common):
        return split.folder
    relative = os.path.relpath(common)
    return Path(common if relative.startswith('..') else relative)


def _file_name(image: Path, folder: Path) -> str | None:
    """An image's path relative to a folder, with forward slashes, whether or not links lead to it; None outside."""
    for resolve in (os.path.abspath, os.path.realpath):
        path, root = Path(resolve(image)), Path(resolve(folder))
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return None


def _annotation(object: LabelledObject, image: LabelledImage, category_ids: dict[str, int],
                left_out: list[LeftOut]) -> Record | None:
    """A COCO annotation of an object, without the ids of it and its image; None if it is left out."""
    name, segmentation = object
    what = f'{image.path}: an object of class {name!r}'
    if name not in category_ids:
        left_out.append(LeftOut(what, ' is left out: not one of --classes'))
        return None
    record: Record = {'category_id': category_ids[name], 'iscrowd': 0}
    if isinstance(segmentation, dict):
        record |= {'bbox': bounding_box(segmentation), 'area': area(segmentation),
                   'segmentation': {**segmentation, 'counts': segmentation['counts'].decode('ascii')}}
    else:
        points = np.concatenate(segmentation)
        low, high = points.min(0), points.max(0)
        record |= {'bbox': [*low.tolist(), *(high - low).tolist()], 'area': sum(map(_area, segmentation)),
                   'segmentation': [polygon.ravel().tolist() for polygon in segmentation]}
    if not _has_area(record['bbox'], image.size):
        left_out.append(LeftOut(what, ' is left out: it has no area within the image'))
        return None
    return record


def _has_area(box: list[float], size: tuple[int, int]) -> bool:
    """Whether a box of x y width height has an area within an image of that height and width."""
    x, y, width, height = box
    return min(min(x + width, size[1]) - max(x, 0), min(y + height, size[0]) - max(y, 0)) >= MIN_SIDE


def _area(polygon: np.ndarray) -> float:
    """Square pixels (the shoelace formula)."""
    x, y = polygon.T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)
