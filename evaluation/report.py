"""An evaluation → one page to look at, that needs nothing but a browser.

What the page shows is put together here; how it shows that, `report.html` says.
"""
import base64
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_api

from data.annotation_file import ImageRecord
from data.coco import CocoDataset
from data.images import ImageError
from data.polygons import outlines
from evaluation.average_precision import METRICS, AveragePrecision, mean
from evaluation.error_analysis import BACKGROUND, MIN_SCORE, Errors, PerImageErrors, match
from evaluation.matching import MIN_IOU
from model.classes import Classes
from system.files import replacing
from system.progress import show_progress
from system.worker_pool import parallel_map
from visualization.drawing import class_colour
from visualization.training_log import LOSSES, moving_average, series

TEMPLATE = Path(__file__).with_name('report.html')
SIDE, QUALITY = 400, 60  # of an image in the gallery: pixels, and of its JPEG
CURVES = (0, 5, 8)  # whose places among the IoUs of a hit: 0.50, 0.75, 0.90
SIZES = ('small', 'medium', 'large')
POINTS = 300  # of a training curve


def write_report(path: str | Path, dataset: CocoDataset, metrics: AveragePrecision, errors: Errors,
                 about: dict[str, str], problems: Sequence[str] = (), steps: Any = None, workers: int = 0) -> None:
    """Writes the page, with a progress bar. It is either complete or untouched.

    Args:
        path: str or Path of an HTML file; its folder is made where it is missing.
        dataset: `CocoDataset` with annotations. An image that cannot be read is shown without its pixels.
        metrics: `AveragePrecision`.
        errors: `Errors`.
        about: dict of str, what was evaluated, in words.
        problems: list of str, lines on images that could not be evaluated.
        steps: the training run's log, as `read_training_log` returns it; None for none.
        workers: number of processes; 0 does it in this one.
    Raises:
        OSError: it cannot be written.
        UserError: as in `workers.parallel_map`.
    """
    worst = errors.worst()
    gallery = parallel_map(functools.partial(_gallery_image, dataset), worst, workers)
    content = {
        'about': about, 'problems': list(problems), 'shown': {'score': MIN_SCORE, 'iou': MIN_IOU},
        'metrics': [{'name': name, 'iou': iou, 'size': size, 'most': most,
                     **{kind: _known(getattr(metrics, kind)[name]) for kind in metrics.by_iou}}
                    for name, iou, size, most in METRICS],
        'by_iou': {kind: [[iou, _known(value)] for iou, value in values.items()]
                   for kind, values in metrics.by_iou.items()},
        'classes': _classes(dataset.classes, metrics),
        'curves': {kind: _curves(precision) for kind, precision in metrics.precision.items()},
        'pairs': [[*pair, number] for pair, number in sorted(errors.pairs.items())],
        'images': errors.images,
        'training': _training(steps) if steps else None,
        'gallery': list(show_progress(gallery, len(worst), 'images', 'report')),
    }
    head, tail = TEMPLATE.read_text(encoding='ascii').split('{{content}}')
    with replacing(path) as file:
        file.write(head)
        file.write(json.dumps(content, separators=(',', ':')).replace('<', '\\u003c'))  # no tag ends the script
        file.write(tail)


def _known(value: float) -> float | None:
    """A metric, None where the dataset has no such objects."""
    return None if value < 0 else round(value, 4)


def _classes(classes: Classes, metrics: AveragePrecision) -> list[dict[str, Any]]:
    """A dict for each class, with its metrics by kind."""
    return [{'id': id, 'name': name, 'objects': objects,
             'colour': '#{2:02x}{1:02x}{0:02x}'.format(*class_colour(label)),
             **{kind: _by_class(precision[:, :, label]) for kind, precision in metrics.precision.items()}}
            for label, (id, name, objects) in enumerate(zip(classes.ids, classes.names, metrics.objects, strict=True))]


def _by_class(precision: np.ndarray) -> dict[str, Any]:
    """The metrics of a class from its precision [IoUs, recalls, sizes]."""
    everywhere = precision[:, :, 0]
    return {'AP': _known(mean(everywhere)), 'AP50': _known(mean(everywhere[0])), 'AP75': _known(mean(everywhere[5])),
            **{size: _known(mean(precision[:, :, k])) for k, size in enumerate(SIZES, 1)}}


def _curves(precision: np.ndarray) -> list[list[list[int] | None]]:
    """Precision in thousandths at 101 recalls: for all classes and for each, by IoU; None where nothing is."""
    def whole(values: np.ndarray) -> list[int] | None:
        return None if values.min() < 0 else np.round(1000 * values).astype(int).tolist()
    there = precision[:, :, precision[0, 0, :, 0] >= 0, 0]
    overall = [whole(there[iou].mean(1)) if there.size else None for iou in CURVES]
    return [overall, *([whole(precision[iou, :, label, 0]) for iou in CURVES] for label in range(precision.shape[2]))]


def _training(steps: Any) -> dict[str, Any]:
    """Series of a run: dict of names to lists of steps and of values, of `POINTS` at most."""
    curves = {}
    for name in ('loss', *LOSSES, 'lr', 'box_ap', 'mask_ap'):
        at, values = series(steps, name)
        if at.size:
            values = moving_average(values) if name == 'loss' or name in LOSSES else values
            chosen = np.unique(np.linspace(0, len(at) - 1, POINTS).round().astype(int))
            curves[name] = [at[chosen].astype(int).tolist(), [float(f'{value:.4g}') for value in values[chosen]]]
    return curves


def _gallery_image(dataset: CocoDataset, errors: PerImageErrors) -> dict[str, Any]:
    """An image of the gallery: its pixels, its objects and its results, as dict."""
    image = dataset.images[errors.place]
    scale = min(1, SIDE / max(image.width, image.height))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    matches = match(dataset, errors.place, errors.results)
    labels = {id: label for label, id in enumerate(dataset.classes.ids)}
    true, found = ([{'label': labels[one['category_id']], 'outline': _outline(one, size, scale)} for one in some]
                   for some in (matches.objects, matches.results))
    for result, entry in zip(found, matches.results, strict=True):
        result['score'] = round(entry['score'], 3)
    for o, r, iou in matches.pairs:
        true[o].update(hit=found[r]['label'], iou=round(iou, 3))
        found[r].update(hit=true[o]['label'], iou=round(iou, 3))
    return {'name': _name(dataset, image), 'id': image.id, 'size': size, 'pixels': _pixels(image, size),
            'quality': [[BACKGROUND if label is None else label, round(value, 4)]
                        for label, value in errors.quality.items()],
            'true': true, 'found': found}


def _name(dataset: CocoDataset, image: ImageRecord) -> str:
    path = image.path
    return str(path.relative_to(dataset.images_folder) if path.is_relative_to(dataset.images_folder) else path)


def _pixels(image: ImageRecord, size: tuple[int, int]) -> str | None:
    """A small JPEG in base64, None if the image cannot be read."""
    try:
        pixels = image.read()
    except ImageError:
        return None
    if size != (image.width, image.height):
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode('.jpg', pixels, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))
    return base64.b64encode(data.tobytes()).decode('ascii')


def _outline(record: dict[str, Any], size: tuple[int, int], scale: float) -> list[list[int]]:
    """Outlines in a small image, of a mask and its holes or of a box: lists of x y x y ... in tenths of pixels."""
    x, y, width, height = np.array(record['bbox'] if 'bbox' in record else mask_api.toBbox(record['segmentation']))
    found = []
    if 'segmentation' in record:
        mask = mask_api.decode(record['segmentation'])
        found = outlines(cv2.resize(255 * mask, size, interpolation=cv2.INTER_AREA) > 127)
    # A mask may have no pixel that is large enough to be seen.
    found = found or [scale * np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])]
    return [np.round(10 * outline).astype(int).ravel().tolist() for outline in found]
