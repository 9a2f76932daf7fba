"""Two images of squares, as a dataset and as detections."""
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.coco import CocoDataset
from model.postprocess import Detections

SIDE = 200  # of an image, in pixels
A, B = 10, 20  # category ids


def write_squares(folder: Path, *annotations: dict[str, Any], ids: Sequence[int] = (1, 2)) -> CocoDataset:
    """A dataset of images with these annotations."""
    images = [{'id': id, 'file_name': f'{id}.png', 'width': SIDE, 'height': SIDE} for id in ids]
    path = folder / 'squares.json'
    path.write_text(json.dumps({'images': images, 'annotations': annotations, 'categories': [
        {'id': A, 'name': 'a'}, {'id': B, 'name': 'b'}]}))
    return CocoDataset(path, folder)


def square(id: int, image_id: int, category_id: int = A, left: int = 20, **keys: Any) -> dict[str, Any]:
    """An annotated square of 100 pixels a side."""
    right = left + 100
    polygon = [left, 30, right, 30, right, 130, left, 130]
    return {'id': id, 'image_id': image_id, 'category_id': category_id, 'iscrowd': 0, 'area': 10000,
            'bbox': [left, 30, 100, 100], 'segmentation': [polygon], **keys}


def found(left: int = 20, label: int = 0, box_score: float = 0.9, mask_score: float = 0.9) -> Detections:
    """Detections of one square of 100 pixels a side."""
    return Detections(np.array([label]), np.float32([box_score]), np.float32([mask_score]),
                      np.float32([[left, 30, left + 100, 130]]), [np.ones((100, 100), bool)],
                      np.array([[left, 30]]), (SIDE, SIDE))


def joined(*detections: Detections) -> Detections:
    """Detections of one image as one object."""
    columns = {name: np.concatenate([getattr(one, name) for one in detections])
               for name in ('classes', 'box_scores', 'mask_scores', 'boxes', 'corners')}
    masks = [mask for one in detections for mask in one.masks]
    return Detections(**columns, masks=masks, size=detections[0].size)
