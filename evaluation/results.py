"""COCO results: detections as entries of a file, and such files."""
import json
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pycocotools import mask as mask_api

from data.annotation_file import ImageRecord
from data.coco import CocoDataset
from data.masks import compress
from model.classes import Classes
from model.postprocess import Detections
from system.errors import UserError
from system.files import replacing
from system.limits import MAX_JSON, check_size

MAX_NUMBER = 1e12  # of what a result holds; NumPy has no larger whole numbers than some of JSON


def to_coco(detections: Detections, image_id: int | str, classes: Classes, kind: str) -> list[dict[str, Any]]:
    """The detections of one image as entries of a COCO results file.

    Args:
        detections: `Detections`.
        image_id: int or str, the image's in the dataset.
        classes: `Classes` of the dataset.
        kind: 'box' for boxes, ranked by the score of the class; 'mask' for masks, ranked by that times the
            predicted mask IoU.
    Returns:
        list of dict with image_id, category_id, score, and either bbox, x y width height in tenths of a
        pixel, or segmentation, a compressed RLE.
    """
    scores = detections.box_scores if kind == 'box' else detections.mask_scores
    describe = _bbox if kind == 'box' else _segmentation
    # A float32's shortest decimals keep its rank exactly. Rounding would make ties, and the order of images
    # would break them.
    return [{'image_id': image_id, 'category_id': classes.ids[detections.classes[i]],
             **describe(detections, i), 'score': float(str(scores[i]))} for i in range(len(detections))]


def _bbox(detections: Detections, i: int) -> dict[str, Any]:
    x0, y0, x1, y1 = detections.boxes[i].tolist()
    return {'bbox': [round(number, 1) for number in (x0, y0, x1 - x0, y1 - y0)]}


def _segmentation(detections: Detections, i: int) -> dict[str, Any]:
    rle = detections.rle(i)
    return {'segmentation': {'size': list(rle['size']), 'counts': rle['counts'].decode('ascii')}}


def write_results(path: str | Path, entries: Iterable[dict[str, Any]]) -> None:
    """Writes a COCO results file, an entry a line. It is either complete or untouched.

    Args:
        path: str or Path; its folder is made where it is missing.
        entries: iterable of dict.
    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as file:
        file.write('[')
        for position, entry in enumerate(entries):
            file.write((',\n' if position else '\n') + json.dumps(entry, separators=(',', ':')))
        file.write('\n]\n')


def read_results(path: str | Path, dataset: CocoDataset) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    """COCO results from a file.

    Args:
        path: str or Path; a JSON list of objects with image_id, category_id, score, and bbox, segmentation or both.
        dataset: `CocoDataset` that they are of.
    Returns:
        Lists of dict of boxes and of masks, as `to_coco` makes them. Masks without boxes stand for theirs, too; boxes
        without masks leave None of these. pycocotools takes the area of the box for that of the mask where a
        result has both; here a mask has its own.
    Raises:
        UserError: the file cannot be used.
    """
    try:
        check_size(path, MAX_JSON)
        entries = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); check the name') from None
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path}: is not JSON ({error}); write it anew with test_dev.py') from None
    if not isinstance(entries, list):
        raise UserError(f'{path}: is not a list of results')
    known = {image.id: image for image in dataset.images}
    boxes, masks = [], []
    for number, entry in enumerate(entries, 1):
        try:
            box, mask = _check(entry, known, dataset.classes.ids)
        except ValueError as error:
            raise UserError(f'{path}: result {number}: {error}') from None
        boxes.append(box)
        masks += [mask] if mask else []
    if masks and len(masks) < len(boxes):
        raise UserError(f'{path}: {len(boxes) - len(masks)} of {len(boxes)} results have no segmentation')
    return boxes, masks if masks or not boxes else None


def _check(entry: Any, known: dict[Any, ImageRecord],
           category_ids: tuple[int, ...]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """A result as one of a box and one of a mask, or None."""
    if not isinstance(entry, dict):
        raise ValueError('is not an object')
    id, category, score = (entry.get(name) for name in ('image_id', 'category_id', 'score'))
    if type(id) not in (int, str) or id not in known:
        raise ValueError(f'image_id {reprlib.repr(id)} is not in the annotations')
    if type(category) is not int or category not in category_ids:
        raise ValueError(f'category_id {reprlib.repr(category)} is not in the annotations')
    if not _is_number(score):
        raise ValueError(f'its score is {reprlib.repr(score)}')
    usual = {'image_id': id, 'category_id': category, 'score': score}
    box, segmentation = entry.get('bbox'), entry.get('segmentation')
    if box is not None and not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        raise ValueError('its bbox is not x, y, width and height')
    if segmentation is None:
        if box is None:
            raise ValueError('has neither bbox nor segmentation')
        return {**usual, 'bbox': box}, None
    rle = _check_rle(segmentation, known[id])
    return {**usual, 'bbox': box or mask_api.toBbox(rle).tolist()}, {
        **usual, 'segmentation': {**rle, 'counts': rle['counts'].decode('ascii')}}


def _is_number(value: Any) -> bool:
    """Whether it is one that a float can hold, which not every whole number of JSON is."""
    return type(value) in (int, float) and abs(value) <= MAX_NUMBER


def _check_rle(segmentation: Any, image: ImageRecord) -> Any:
    size = [image.height, image.width]
    if not isinstance(segmentation, dict) or segmentation.get('size') != size:
        raise ValueError(f'its segmentation is not an RLE of {image.height} by {image.width} pixels')
    return compress(segmentation.get('counts'), size)
