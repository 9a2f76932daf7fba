"""AP of a predictor, or of a results file, on a dataset."""
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from data.annotation_file import ImageRecord
from data.coco import CocoDataset
from evaluation.average_precision import AveragePrecision, ImageEvaluation, average_precision, evaluate_image
from evaluation.error_analysis import Errors, PerImageErrors, errors_in_image
from evaluation.results import to_coco
from model.classes import Classes
from model.postprocess import Detections
from prediction.pipeline import predict_dataset, split_into_batches
from prediction.predictor import Predictor
from system.errors import UserError
from system.progress import progress_bar, show_progress
from system.worker_pool import parallel_map

Entries = list[dict[str, Any]]  # of a results file
Evaluated = tuple[ImageEvaluation, PerImageErrors | None]


def check_classes(dataset: CocoDataset, classes: Classes) -> None:
    """Make sure that weights and dataset have the same classes.

    Raises:
        UserError: a name or category id differs.
    """
    difference = dataset.classes.difference(classes)
    if difference:
        raise UserError(f'{dataset.annotations_path}: has other classes than the weights: {difference}; give '
                        'annotations and weights that belong together')


def evaluate(predictor: Predictor, dataset: CocoDataset, batch_size: int = 1, max_images: int | None = None,
             workers: int = 0, errors: Errors | None = None,
             progress: bool = True) -> tuple[AveragePrecision, list[str]]:
    """Box and mask AP of a predictor on a dataset.

    Args:
        predictor: `Predictor` of the dataset's classes.
        dataset: `CocoDataset` with annotations.
        batch_size: images that go through the network together.
        max_images: evaluate on the first so many images of the dataset only; None for all.
        workers: as of `predict_dataset`.
        errors: `Errors` to add those of each image to; None to do without.
        progress: whether to draw a progress bar.
    Returns:
        `AveragePrecision`, and a line for each image that could not be read. Such an image counts as having no
        detections.
    """
    images = dataset.images[:max_images]
    problems: list[str] = []
    evaluations: list[ImageEvaluation] = []
    evaluator = ImageEvaluator(dataset, errors is not None)
    with progress_bar(len(images), 'images', shown=progress) as bar:
        for evaluated, unreadable in predict_dataset(predictor, split_into_batches(images, batch_size), evaluator,
                                                     workers):
            evaluations += _collect(evaluated, errors)
            problems += unreadable
            bar.update(len(evaluated) + len(unreadable))
    done = {one.image_id for one in evaluations}
    evaluations += _collect((evaluator.evaluate(i, [], []) for i, image in enumerate(images) if image.id not in done),
                            errors)
    return average_precision(dataset, evaluations, workers, predictor.thresholds.score_threshold), problems


class ImageEvaluator:
    """Matches detections with a dataset's ground truth, and analyses the errors if that is asked for.

    Args:
        dataset: `CocoDataset` with annotations.
        with_errors: whether to analyse errors.
    """

    def __init__(self, dataset: CocoDataset, with_errors: bool = False) -> None:
        self._dataset, self._with_errors = dataset, with_errors
        self._indices = {image.id: i for i, image in enumerate(dataset.images)}

    def __call__(self, image: ImageRecord, detections: Detections) -> Evaluated:
        """Evaluate the detections in an image."""
        boxes, masks = (to_coco(detections, image.id, self._dataset.classes, kind) for kind in ('box', 'mask'))
        return self.evaluate(self._indices[image.id], boxes, masks)

    def evaluate(self, i: int, boxes: Entries | None, masks: Entries | None) -> Evaluated:
        """Evaluate entries of image i, see `average_precision.evaluate_image`."""
        entries = boxes if masks is None else masks
        errors = errors_in_image(self._dataset, i, entries or []) if self._with_errors else None
        return evaluate_image(self._dataset, i, boxes, masks), errors


def _collect(evaluated: Iterable[Evaluated], errors: Errors | None) -> Iterator[ImageEvaluation]:
    """The evaluations; errors are added up and forgotten."""
    for evaluation, in_image in evaluated:
        if errors is not None and in_image is not None:
            errors.add(in_image)
        yield evaluation


def evaluate_results(dataset: CocoDataset, boxes: Entries | None, masks: Entries | None,
                     max_images: int | None = None, workers: int = 0,
                     errors: Errors | None = None) -> AveragePrecision:
    """Box and mask AP of results, with a progress bar.

    Args:
        dataset: `CocoDataset` with annotations.
        boxes, masks: as from `to_coco`, of any images; None of a kind that is not evaluated.
        max_images: evaluate on the first so many images of the dataset only; None for all.
        workers: number of processes; 0 does it in this one.
        errors: as of `evaluate`.
    """
    box_entries, mask_entries = _by_image(boxes), _by_image(masks)
    images = dataset.images[:max_images]
    parts = (_Part(i, None if box_entries is None else box_entries[image.id],
                   None if mask_entries is None else mask_entries[image.id]) for i, image in enumerate(images))
    evaluated = parallel_map(_PartEvaluator(ImageEvaluator(dataset, errors is not None)), parts, workers)
    evaluations = list(_collect(show_progress(evaluated, len(images), 'images'), errors))
    return average_precision(dataset, evaluations, workers, _lowest_score(boxes or masks or []))


def _lowest_score(entries: Entries) -> float:
    """The threshold, in hundredths, below which nothing is known of a file of results; 0 to 0.99."""
    lowest = min((entry['score'] for entry in entries), default=0)
    return min(max(math.ceil(100 * min(lowest, 1)) - 1, 0), 99) / 100


@dataclass(frozen=True)
class _Part:
    """The entries of image i."""
    i: int
    boxes: Entries | None
    masks: Entries | None


@dataclass(frozen=True)
class _PartEvaluator:
    evaluator: ImageEvaluator

    def __call__(self, part: _Part) -> Evaluated:
        return self.evaluator.evaluate(part.i, part.boxes, part.masks)


def _by_image(entries: Entries | None) -> dict[Any, Entries] | None:
    if entries is None:
        return None
    images: dict[Any, Entries] = defaultdict(list)
    for entry in entries:
        images[entry['image_id']].append(entry)
    return images
