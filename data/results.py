"""Detections → COCO results, and the average precision that pycocotools gives them."""
import contextlib
import errno
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from data.coco import AnnotationError
from data.pictures import PictureError

# pycocotools' twelve, in its order: name, IoU of a hit, size of the objects, most detections a picture.
FIGURES = (
    ('AP', '0.50:0.95', 'all', 100), ('AP50', '0.50', 'all', 100), ('AP75', '0.75', 'all', 100),
    ('APs', '0.50:0.95', 'small', 100), ('APm', '0.50:0.95', 'medium', 100),
    ('APl', '0.50:0.95', 'large', 100),
    ('AR1', '0.50:0.95', 'all', 1), ('AR10', '0.50:0.95', 'all', 10), ('AR100', '0.50:0.95', 'all', 100),
    ('ARs', '0.50:0.95', 'small', 100), ('ARm', '0.50:0.95', 'medium', 100),
    ('ARl', '0.50:0.95', 'large', 100),
)


@dataclass(frozen=True)
class AveragePrecision:
    """pycocotools' twelve figures. Printed, they are a table.

    Attributes:
        box: dict of float by name, see `FIGURES`; 0 to 1, or -1 where the dataset has no such objects.
        mask: likewise.
    """
    box: dict
    mask: dict

    def __str__(self):
        lines = [f'{"":70}   box   mask']
        for name, iou, size, most in FIGURES:
            title = ('Average Precision  (AP)', 'Average Recall     (AR)')[name.startswith('AR')]
            pair = (f'{figure:.3f}' if figure >= 0 else '-' for figure in (self.box[name], self.mask[name]))
            lines.append(f'{title} @[ IoU={iou:<9} | area={size:>6} | maxDets={most:>3} ]'
                         + ''.join(f' {figure:>6}' for figure in pair))
        return '\n'.join(lines)


def check_classes(dataset, classes):
    """Makes sure that weights and dataset mean the same by a class.

    Args:
        dataset: `CocoDataset`.
        classes: `Classes` that the weights know.
    Raises:
        AnnotationError: a name or category id differs.
    """
    difference = dataset.classes.difference(classes)
    if difference:
        raise AnnotationError(f'{dataset.annotations_path}: has other classes than the weights: '
                              f'{difference}; give annotations and weights that belong together')


def predict(predictor, pictures, batch_size, problems):
    """Detections of one picture of a dataset after another.

    Args:
        predictor: list of uint8 [h, w, 3], BGR → list of `Detections`.
        pictures: iterable of `Picture`.
        batch_size: how many go through the predictor together.
        problems: list of str that gets a line for each picture that is left out, because it cannot be read or
            is not of the size that the annotation file says.
    Yields:
        `Picture` and its `Detections`.
    """
    batch = []
    for picture in pictures:
        try:
            batch.append((picture, picture.read()))
        except PictureError as problem:
            problems.append(str(problem))
        if len(batch) == batch_size:
            yield from _predict_batch(predictor, batch)
            batch = []
    if batch:
        yield from _predict_batch(predictor, batch)


def _predict_batch(predictor, batch):
    pictures, pixels = zip(*batch, strict=True)
    return zip(pictures, predictor(list(pixels)), strict=True)


def to_coco(detections, image_id, classes, kind):
    """The detections of one picture as entries of a COCO results file.

    Args:
        detections: `Detections`.
        image_id: int or str, the picture's in the dataset.
        classes: `Classes` of the dataset.
        kind: 'box' for boxes, ranked by the score of the class; 'mask' for masks, ranked by that times the
            predicted mask IoU.
    Returns:
        list of dict with image_id, category_id, score, and either bbox, x y width height in hundredths of a
        pixel, or segmentation, a compressed RLE.
    """
    scores = detections.box_scores if kind == 'box' else detections.mask_scores
    describe = _bbox if kind == 'box' else _segmentation
    # A float32's shortest decimals keep its rank exactly. Rounding would make ties, and the order of pictures
    # would break them.
    return [{'image_id': image_id, 'category_id': classes.ids[detections.classes[i]],
             **describe(detections, i), 'score': float(str(scores[i]))} for i in range(len(detections))]


def _bbox(detections, i):
    x0, y0, x1, y1 = detections.boxes[i].tolist()
    return {'bbox': [round(number, 2) for number in (x0, y0, x1 - x0, y1 - y0)]}


def _segmentation(detections, i):
    rle = detections.rle(i)
    return {'segmentation': {'size': list(rle['size']), 'counts': rle['counts'].decode('ascii')}}


def write_results(path, entries):
    """Writes a COCO results file, an entry a line. It is either complete or untouched.

    Args:
        path: str or Path; its folder is made where it is missing.
        entries: iterable of dict, written as they come.
    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        code = errno.EISDIR if path.is_dir() else errno.EEXIST  # a device would be replaced
        raise OSError(code, os.strerror(code), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        with open(part, 'w', encoding='ascii') as file:
            file.write('[')
            for position, entry in enumerate(entries):
                file.write((',\n' if position else '\n') + json.dumps(entry, separators=(',', ':')))
            file.write('\n]\n')
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def evaluate(predictor, dataset, batch_size=1, max_images=None):
    """Box and mask AP of a predictor on a dataset, with a progress bar.

    Args:
        predictor: list of uint8 [h, w, 3], BGR → list of `Detections`, of the dataset's classes.
        dataset: `CocoDataset` with annotations.
        batch_size: how many pictures go through the predictor together.
        max_images: look at so many only, the first of the dataset; None for all.
    Returns:
        `AveragePrecision`, and a list of str, a line for each picture that could not be read. Such a picture
        counts as having no detections.
    """
    pictures, problems = dataset.images[:max_images], []
    boxes, masks = [], []
    with tqdm(pictures, unit=' pictures', mininterval=1) as bar:
        for picture, detections in predict(predictor, bar, batch_size, problems):
            boxes += to_coco(detections, picture.id, dataset.classes, 'box')
            masks += to_coco(detections, picture.id, dataset.classes, 'mask')
    image_ids = [picture.id for picture in pictures]
    return average_precision(dataset, boxes, masks, image_ids), problems


def average_precision(dataset, boxes, masks, image_ids=None):
    """What pycocotools makes of results. It prints nothing.

    Args:
        dataset: `CocoDataset` with annotations, which alone say what is true; its file is not read again.
        boxes, masks: lists of dict as from `to_coco`; they may be empty.
        image_ids: the pictures that count; None for all.
    Returns:
        `AveragePrecision`.
    """
    images, labels = _numbers(picture.id for picture in dataset.images), _numbers(dataset.classes.ids)

    def numbered(records):
        return [{**record, 'image_id': images[record['image_id']], 'category_id': labels[record['category_id']]}
                for record in records]
    content = {'categories': [{'id': label} for label in labels.values()],
               'images': [{'id': images[picture.id], 'height': picture.height, 'width': picture.width}
                          for picture in dataset.images]}
    counted = [images[id] for id in (images if image_ids is None else image_ids)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _index(content, numbered(dataset.annotations()))
        return AveragePrecision(_figures(truth, numbered(boxes), 'bbox', counted),
                                _figures(truth, numbered(masks), 'segm', counted))


def _numbers(ids):
    """A number from 0 for each id, in their order. NumPy, which sorts them for pycocotools, would mix up some ids."""
    return {id: number for number, id in enumerate(sorted(ids, key=lambda id: (isinstance(id, str), id)))}


def _figures(truth, entries, iou_type, images):
    found = truth.loadRes(entries) if entries else _index(truth.dataset, [])
    judge = COCOeval(truth, found, iou_type)
    judge.params.imgIds = images
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return {name: float(figure) for (name, *_), figure in zip(FIGURES, judge.stats, strict=True)}


def _index(content, records):
    """pycocotools' object for a dataset with other annotations. It would never find an annotation 0."""
    coco = COCO()
    coco.dataset = {**content, 'annotations': [{**record, 'id': id} for id, record in enumerate(records, 1)]}
    coco.createIndex()
    return coco
