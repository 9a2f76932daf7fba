import dataclasses
import threading
from typing import NamedTuple

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.coco import CocoDataset
from data.images import read_image
from evaluation.evaluate import check_classes, evaluate, evaluate_results
from evaluation.results import to_coco
from model.classes import Classes
from model.config import preset
from model.postprocess import Detections
from prediction.pipeline import predict_dataset, split_into_batches
from prediction.predictor import Thresholds
from system.errors import UserError
from tests.helpers.ground_truth import ground_truth
from tests.helpers.squares import A, B, write_squares
from tools.shapes import write_split


def test_other_classes_are_refused(tmp_path):
    dataset = write_squares(tmp_path)
    check_classes(dataset, Classes(('a', 'b'), (A, B)))
    for names, ids in ((('a', 'c'), (A, B)), (('a', 'b'), (A, 21)), (('a',), (A,)), (('b', 'a'), (A, B))):
        with pytest.raises(UserError, match=r'squares\.json: has other classes'):
            check_classes(dataset, Classes(names, ids))


class Perfect:
    """A predictor that knows the ground truth of each image, and the sizes of the batches it was given."""

    def __init__(self, dataset):
        self.known = {read_image(image.path).tobytes(): ground_truth(dataset, i)
                      for i, image in enumerate(dataset.images)}
        self.batches = []
        self.config, self.thresholds = preset('resnet18dcn_half'), Thresholds()

    def preprocess(self, image):
        return self.known[image.tobytes()]

    def forward(self, inputs):
        self.batches.append(len(inputs))
        return inputs

    def postprocess(self, outputs, size):
        return Seen(outputs)

    def rescore(self, small, masks):
        detections = small.detections
        return Seen(dataclasses.replace(detections, mask_scores=detections.mask_scores * np.float32(0.5)))


class Seen(NamedTuple):
    """What stands for `LowResolutionDetections`."""
    detections: Detections

    def pasted_masks(self):
        return None

    def upsample(self):
        return self.detections


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shapes')
    write_split(folder, 'val', 24)
    return CocoDataset(folder / 'annotations/instances_val.json', folder / 'val')


@pytest.mark.parametrize('workers', [0, 2])
def test_images_meet_their_own_detections_in_any_batches(shapes, workers):
    predictor = Perfect(shapes)
    metrics, problems = evaluate(predictor, shapes, batch_size=5, workers=workers)
    assert metrics.mask['AP'] == metrics.box['AP'] == pytest.approx(1)
    assert (predictor.batches, problems) == ([5, 5, 5, 5, 4], [])


def test_evaluation_of_the_first_few_images(shapes):
    predictor = Perfect(shapes)
    metrics, _ = evaluate(predictor, shapes, max_images=3)
    assert metrics.mask['AP'] == pytest.approx(1)
    assert predictor.batches == [1, 1, 1]


@pytest.mark.parametrize('workers', [0, 1])
def test_images_that_cannot_be_used_count_as_empty(tmp_path, workers):
    write_split(tmp_path, 'val', 4)
    dataset = CocoDataset(tmp_path / 'annotations/instances_val.json', tmp_path / 'val')
    predictor = Perfect(dataset)
    gone, other = dataset.images[0], dataset.images[3]
    usable = [entry for i, image in enumerate(dataset.images) if image not in (gone, other)
              for entry in to_coco(ground_truth(dataset, i), image.id, dataset.classes, 'mask')]
    gone.path.unlink()
    dataset.images[3] = dataclasses.replace(other, width=other.width + 1)
    metrics, problems = evaluate(predictor, dataset, batch_size=2, workers=workers)
    truth = COCO(str(dataset.annotations_path))
    direct = COCOeval(truth, truth.loadRes(usable), 'segm')
    direct.evaluate()
    direct.accumulate()
    direct.summarize()
    np.testing.assert_allclose(list(metrics.mask.values()), direct.stats, atol=1e-9)
    assert 0 < metrics.mask['AR100'] < 1
    assert predictor.batches == [1, 1]
    assert [problem.partition(':')[0] for problem in problems] == [str(gone.path), str(other.path)]
    assert f'but the annotation file says {other.width + 1}x{other.height}' in problems[1]


def test_predictions_come_soon_and_images_are_not_read_long_before(shapes):
    predictor = Perfect(shapes)
    predictions = predict_dataset(predictor, split_into_batches(shapes.images, 2), lambda image, found: (image, found))
    ((first, found), (second, _)), problems = next(predictions)
    assert (first, second, problems) == (*shapes.images[:2], [])
    assert len(found) == len(ground_truth(shapes, 0))
    np.testing.assert_allclose(found.mask_scores, found.box_scores / 2)  # they were re-scored
    assert len(predictor.batches) <= 3
    assert [image for described, _ in predictions for image, _ in described] == shapes.images[2:]


def test_the_next_images_go_through_the_network_while_the_last_are_sorted_out(shapes):
    class Slow(Perfect):
        seen = threading.Event()

        def forward(self, inputs):
            if self.batches:
                self.seen.set()
            return super().forward(inputs)

        def postprocess(self, outputs, size):
            assert self.seen.wait(10)  # the first image waits here for the second
            return super().postprocess(outputs, size)
    batches = split_into_batches(shapes.images, 1)
    assert len(list(predict_dataset(Slow(shapes), batches, lambda *found: found))) == len(shapes)


def test_results_of_a_file_get_the_figures_that_they_got_without_one(shapes):
    entries = [[entry for i, image in enumerate(shapes.images) if i % 5
                for entry in to_coco(ground_truth(shapes, i), image.id, shapes.classes, kind)]
               for kind in ('box', 'mask')]
    metrics = evaluate_results(shapes, *entries, workers=2)
    assert metrics.mask['AR100'] == metrics.box['AR100'] < 1
    assert evaluate_results(shapes, *entries) == metrics
    only_boxes = evaluate_results(shapes, entries[0], None)
    assert (only_boxes.box, only_boxes.mask) == (metrics.box, None)
    assert 'mask' not in str(only_boxes)
    assert evaluate_results(shapes, *entries, max_images=1).box['AR100'] == 0
