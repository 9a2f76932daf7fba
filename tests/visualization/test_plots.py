import json

import cv2
import numpy as np
import pytest

from data.anchor_coverage import best_anchor_ious
from data.coco import CocoDataset
from data.images import read_image
from data.loader import Batches
from model.anchors import anchors
from model.config import preset
from prediction import Predictor
from tests.helpers import ROOT
from tools.shapes import write_split
from visualization.plots import draw_anchors, draw_prototypes, draw_samples

IMAGE = ROOT / 'images/test/shapes_2000004.jpg'
CONFIG = preset('resnet18dcn_half', num_classes=9, input_size=256)


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shapes')
    write_split(folder, 'train', 6, width=320, height=240)
    return CocoDataset(folder / 'annotations/instances_train.json', folder / 'train')


def test_a_box_that_is_an_anchor_is_covered_and_a_sliver_is_not(tmp_path):
    x, y, width, height = anchors(CONFIG)[20_000 % len(anchors(CONFIG))] * 512  # of images twice as large
    boxes = [[x - width / 2, y - height / 2, width, height], [100, 100, 300, 2]]
    path = tmp_path / 'a.json'
    path.write_text(json.dumps({
        'images': [{'id': 1, 'file_name': 'x', 'width': 512, 'height': 512}], 'categories': [{'id': 1, 'name': 'x'}],
        'annotations': [{'image_id': 1, 'category_id': 1, 'bbox': list(map(float, box)),
                         'segmentation': [[0, 0, 9, 0, 9, 9]]} for box in boxes]}))
    sizes, best = best_anchor_ious(CocoDataset(path, tmp_path), CONFIG)
    np.testing.assert_allclose(sizes, [[width / 2, height / 2], [150, 1]], rtol=1e-5)
    assert best[0] == pytest.approx(1, abs=1e-5)
    assert best[1] < 0.1


def test_the_figure_of_anchors_has_every_shape(shapes):
    left, right = draw_anchors(shapes, CONFIG).axes
    assert [len(points.get_offsets()) for points in left.collections[1:]] == [9] * 5
    _, best = best_anchor_ious(shapes, CONFIG)
    assert right.get_title() == f'{(best >= 0.5).mean():.1%} of the objects have an anchor of IoU 0.5 or more'
    assert sum(bar.get_height() for bar in right.patches) == len(best) > 10


def test_objects_are_well_visible_among_the_anchors(shapes):
    left, _ = draw_anchors(shapes, CONFIG).axes
    dots = left.collections[0]
    assert len(dots.get_offsets()) == len(best_anchor_ious(shapes, CONFIG)[0])
    for drawn in (dots, left.get_legend().legend_handles[0]):
        *colour, alpha = drawn.get_facecolor()[0]
        assert 1 - alpha * (1 - np.mean(colour)) <= 0.5  # on white
        assert drawn.get_sizes()[0] >= 12  # square points


def test_samples_are_the_batches_that_are_trained_on(shapes):
    batches = Batches(shapes, CONFIG, 1, seed=3)
    drawn = draw_samples([batches[step] for step in range(5)], shapes.classes.names)
    assert drawn.shape == (2 * 256, 4 * 256, 3)
    for step in range(5):
        row, column = divmod(step, 4)
        tile = drawn[256 * row:256 * (row + 1), 256 * column:256 * (column + 1)]
        batch = batches[step]
        changed = (tile != batch.images[0]).any(2)
        masks = [cv2.resize(mask, (256, 256), interpolation=cv2.INTER_NEAREST) for mask in batch.masks]
        assert changed[np.any(masks, 0)].mean() > 0.9
        assert changed.mean() < 0.9


def plot_prototypes(image):
    predictor = Predictor.open(ROOT / 'weights/shapes.pd', 'cpu')
    outputs, = predictor.forward([predictor.preprocess(image)])
    return draw_prototypes(image, outputs, predictor.classes.names)


def test_prototypes_come_in_the_order_of_their_coefficients():
    figure = plot_prototypes(read_image(IMAGE))
    titles = [axes.get_title() for axes in figure.axes]
    weights = [float(title) for title in titles[2:] if title]
    assert len(weights) == 32
    assert np.all(np.diff(np.abs(weights)) <= 0.011)  # they are rounded
    mask = figure.axes[1].images[0].get_array()
    found, = Predictor.open(ROOT / 'weights/shapes.pd', 'cpu')([read_image(IMAGE)])
    whole = cv2.resize(np.asarray(mask), found.size[::-1]) > 0.5
    best = found.full_mask(0)
    assert (whole & best).sum() > 0.95 * best.sum()


def test_an_image_without_objects_is_refused():
    with pytest.raises(ValueError, match='no object was found in it'):
        plot_prototypes(np.full((320, 320, 3), 127, np.uint8))
