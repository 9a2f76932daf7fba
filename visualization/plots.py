"""Plots of what training and prediction work with: augmented samples, anchors, prototypes."""
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from data.anchor_coverage import best_anchor_ious
from data.coco import CocoDataset
from data.loader import Batch
from model.anchors import anchors
from model.config import Config
from model.postprocess import Detections, postprocess
from system.errors import UserError
from visualization.drawing import draw_detections
from visualization.image_grid import make_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVELS = ('P3', 'P4', 'P5', 'P6', 'P7')  # of the feature pyramid
GRID_COLUMNS = 9  # of the figure of prototypes
SCORE_THRESHOLD = 0.05  # of the detection whose prototypes are drawn


def draw_samples(batches: Iterable[Batch], names: Sequence[str]) -> np.ndarray:
    """Augmented images with their boxes and masks, as the network is trained on them.

    Args:
        batches: of one image each.
        names: the name of each class.
    Returns:
        uint8 [h, w, 3], BGR.
    """
    return make_grid([_draw_sample(batch, names) for batch in batches])


def _draw_sample(batch: Batch, names: Sequence[str]) -> np.ndarray:
    image, size = batch.images[0], batch.images.shape[1]
    masks = [cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST).astype(bool) for mask in batch.masks]
    scores, corner = np.ones(len(masks), np.float32), np.zeros((len(masks), 2), np.int64)
    objects = Detections(batch.classes, scores, scores, batch.boxes * size, masks, corner, (size, size))
    return draw_detections(image, objects, names, scores=False)


def draw_anchors(dataset: CocoDataset, config: Config) -> 'Figure':
    """Sizes of a network's anchors and of a dataset's objects, and how well the anchors cover the objects.

    Raises:
        UserError: the dataset has no objects.
    """
    from matplotlib.figure import Figure
    sizes, best = best_anchor_ious(dataset, config)
    if not len(best):
        raise UserError(f'{dataset.annotations_path}: has no objects to compare with anchors')
    figure = Figure(figsize=(13, 6), layout='constrained')
    figure.suptitle(f'{dataset.annotations_path.name} at {config.input_size} pixels', parse_math=False)
    left, right = figure.subplots(1, 2)
    _draw_sizes(left, sizes, config)
    right.hist(best, np.linspace(0, 1, 41), color='tab:blue')
    right.axvline(0.5, color='black', linewidth=0.8)
    right.set(xlabel='IoU with the best anchor', ylabel='objects',
              title=f'{(best >= 0.5).mean():.1%} of the objects have an anchor of IoU 0.5 or more')
    right.grid(alpha=0.3)
    return figure


def _draw_sizes(axes: 'Axes', sizes: np.ndarray, config: Config) -> None:
    """A scatter plot of widths and heights, in pixels at the input size, of objects and of each level's anchors."""
    widths, heights = sizes.T
    axes.scatter(widths, heights, s=14, alpha=0.5, color='black', linewidths=0, label='objects')
    level_of_anchor = np.repeat(np.arange(len(LEVELS)),
                                [config.anchors_per_cell * side ** 2 for side in config.level_sizes])
    anchor_sizes = anchors(config)[:, 2:] * config.input_size
    for level, name in enumerate(LEVELS):
        widths, heights = np.unique(anchor_sizes[level_of_anchor == level].round(2), axis=0).T
        axes.scatter(widths, heights, marker='s', s=30, label=name)
    axes.set(xscale='log', yscale='log', xlabel='width, pixels', ylabel='height, pixels', title='sizes')
    axes.legend()
    axes.grid(alpha=0.3)


def draw_prototypes(image: np.ndarray, outputs: tuple[np.ndarray, ...],
                    names: Sequence[str]) -> 'Figure':
    """How the mask of the best detection in an image is assembled from prototypes (YOLACT, equation 1).

    The detection, its mask, and the prototypes by the magnitude of the detection's coefficients.

    Args:
        image: uint8 [h, w, 3], BGR.
        outputs: `Predictor.forward` for the image: boxes float32 [a, 4], scores [a, 1 + classes], coefficients [a, k],
            prototypes [ph, pw, k], as `detect` takes them.
        names: the name of each class.
    Raises:
        ValueError: nothing is found in the image.
    """
    from matplotlib.figure import Figure
    boxes, scores, coefficients, prototypes = outputs
    best = scores[:, 1:].max(1)
    if best.max(initial=0) <= SCORE_THRESHOLD:
        raise ValueError('no object was found in it')
    anchor = [int(best.argmax())]
    detection = postprocess(boxes[anchor], scores[anchor], coefficients[anchor], prototypes, image.shape[:2],
                       score_threshold=SCORE_THRESHOLD, max_detections=1).upsample()
    coefficients = coefficients[anchor[0]]
    order = np.argsort(-np.abs(coefficients))
    rows = -(-(len(order) + 2) // GRID_COLUMNS)
    figure = Figure(figsize=(1.75 * GRID_COLUMNS, 1.9 * rows), layout='constrained')
    cells = figure.subplots(rows, GRID_COLUMNS, squeeze=False).ravel()
    for cell in cells:
        cell.set_axis_off()
    _show(cells[0], draw_detections(image, detection, names)[:, :, ::-1], 'the best detection')
    _show(cells[1], 1 / (1 + np.exp(-prototypes @ coefficients)), 'its mask, not cropped', 'gray')
    for cell, k in zip(cells[2:], order):
        limit = max(np.abs(prototypes[:, :, k]).max(), 1e-6)
        _show(cell, prototypes[:, :, k], f'{coefficients[k]:+.2f}', 'RdBu' if coefficients[k] < 0 else 'RdBu_r', limit)
    return figure


def _show(axes: 'Axes', values: np.ndarray, title: str, colour_map: str | None = None,
          limit: float | None = None) -> None:
    """An image, or values as colours; those from -limit to limit where there is a limit."""
    axes.imshow(values, cmap=colour_map, vmin=None if limit is None else -limit, vmax=limit, aspect='auto')
    axes.set_title(title, fontsize=9)
