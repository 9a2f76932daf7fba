"""Images of what training and prediction are made of: augmented samples, anchors, prototypes."""
import cv2
import numpy as np
from pycocotools import mask as mask_api

from model.anchors import anchors
from model.matcher import corners
from model.postprocess import Detections, detect
from system.errors import UserError
from system.messages import one_line
from visualization.drawing import draw_detections
from visualization.image_grid import sheet

LEVELS = ('P3', 'P4', 'P5', 'P6', 'P7')
MOST_BOXES = 5000  # to compare with the anchors
CELLS = 9  # of the grid of images of prototypes: so many in a row


def draw_samples(batches, names, number):
    """What the network learns from: augmented images with their boxes and masks.

    Args:
        batches: `Batches`, of one image each.
        names: str for each class.
        number: how many.
    Returns:
        uint8 [h, w, 3], BGR.
    """
    return sheet([_draw_sample(batches[step], names) for step in range(number)])


def _draw_sample(batch, names):
    image, size = batch.images[0], batch.images.shape[1]
    masks = [cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST).astype(bool) for mask in batch.masks]
    scores, corner = np.ones(len(masks), np.float32), np.zeros((len(masks), 2), np.int64)
    objects = Detections(batch.classes, scores, scores, batch.boxes * size, masks, corner, (size, size))
    return draw_detections(image, objects, names, scores=False)


def best_overlaps(dataset, config):
    """How well the anchors of a network cover the objects of a dataset, resized to its input.

    Args:
        dataset: `CocoDataset`.
        config: `Config`.
    Returns:
        sides of objects float64 [n, 2], width and height in pixels of the input, of 5000 objects at most, evenly
        chosen; and the IoU of each with its best anchor, float64 [n].
    """
    size, boxes = config.input_size, []
    for i, image in enumerate(dataset.images):
        objects = dataset.objects(i)
        regular = objects.boxes[:len(objects) - objects.num_crowds]
        boxes.append(regular * size / np.array([image.width, image.height] * 2))
    boxes = np.concatenate(boxes).reshape(-1, 4)
    boxes = boxes[np.linspace(0, len(boxes) - 1, min(MOST_BOXES, len(boxes))).astype(int)].astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    places = corners(anchors(config)).astype(np.float64) * size
    places[:, 2:] -= places[:, :2]
    best = np.zeros(len(boxes))
    for first in range(0, len(boxes), 100):
        some = boxes[first:first + 100]
        best[first:first + 100] = mask_api.iou(some, places, np.zeros(len(places), np.uint8)).max(1)
    return boxes[:, 2:], best


def draw_anchors(dataset, config):
    """Anchors against the boxes of a dataset: matplotlib Figure.

    Raises:
        ValueError: it has no objects.
    """
    from matplotlib.figure import Figure
    sides, best = best_overlaps(dataset, config)
    if not len(best):
        raise ValueError(one_line(f'{dataset.annotations_path}: has no objects to compare with anchors'))
    figure = Figure(figsize=(13, 6), layout='constrained')
    figure.suptitle(f'{dataset.annotations_path.name} at {config.input_size} pixels', parse_math=False)
    left, right = figure.subplots(1, 2)
    left.scatter(*sides.T, s=14, alpha=0.5, color='black', linewidths=0, label='objects')
    of_level = np.repeat(np.arange(len(LEVELS)), [config.anchors_per_cell * side ** 2 for side in config.level_sizes])
    shapes = anchors(config)[:, 2:] * config.input_size
    for level, name in enumerate(LEVELS):
        left.scatter(*np.unique(shapes[of_level == level].round(2), axis=0).T, marker='s', s=30, label=name)
    left.set(xscale='log', yscale='log', xlabel='width, pixels', ylabel='height, pixels', title='sizes')
    left.legend()
    left.grid(alpha=0.3)
    right.hist(best, np.linspace(0, 1, 41), color='tab:blue')
    right.axvline(0.5, color='black', linewidth=0.8)
    right.set(xlabel='IoU with the best anchor', ylabel='objects',
              title=f'{(best >= 0.5).mean():.1%} of the objects have an anchor of IoU 0.5 or more')
    right.grid(alpha=0.3)
    return figure


def draw_prototypes(predictor, image):
    """What the mask of the best detection in an image is made of (YOLACT, equation 1): matplotlib Figure.

    The detection, and the prototypes in the order of the size of its coefficients.

    Args:
        predictor: `Predictor`.
        image: uint8 [h, w, 3], BGR.
    Raises:
        UserError: in the image.
    """
    from matplotlib.figure import Figure
    boxes, scores, coefficients, prototypes = predictor.forward([predictor.prepare(image)])[0]
    best = scores[:, 1:].max(1)
    if best.max(initial=0) <= 0.05:
        raise UserError('nothing was found in it')
    anchor = int(best.argmax())
    small = detect(boxes[[anchor]], scores[[anchor]], coefficients[[anchor]], prototypes, image.shape[:2],
                   score_threshold=0.05, max_detections=1)
    weights = coefficients[anchor]
    order = np.argsort(-np.abs(weights))
    rows = -(-(len(order) + 2) // CELLS)
    figure = Figure(figsize=(1.75 * CELLS, 1.9 * rows), layout='constrained')
    cells = figure.subplots(rows, CELLS, squeeze=False).ravel()
    for cell in cells:
        cell.set_axis_off()
    _show(cells[0], draw_detections(image, small.full(), predictor.classes.names)[:, :, ::-1], 'the best detection')
    _show(cells[1], 1 / (1 + np.exp(-prototypes @ weights)), 'its mask, whole', 'gray')
    for cell, k in zip(cells[2:], order):
        _show(cell, prototypes[:, :, k], f'{weights[k]:+.2f}', 'RdBu' if weights[k] < 0 else 'RdBu_r',
              -max(np.abs(prototypes[:, :, k]).max(), 1e-6))
    return figure


def _show(cell, values, title, colours=None, low=None):
    cell.imshow(values, cmap=colours, vmin=low, vmax=None if low is None else -low, aspect='auto')
    cell.set_title(title, fontsize=9)
