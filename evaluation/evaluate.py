"""What a predictor, or a file of results, is worth on a dataset."""
import functools
from collections import defaultdict

from tqdm import tqdm

from evaluation.average_precision import average_precision, judge
from evaluation.error_analysis import errors_in_image
from evaluation.results import to_coco
from prediction.pipeline import predict_dataset, split_into_batches
from system.errors import UserError
from system.worker_pool import parallel_map


def check_classes(dataset, classes):
    """Makes sure that weights and dataset mean the same by a class.

    Args:
        dataset: `CocoDataset`.
        classes: `Classes` that the weights know.
    Raises:
        UserError: a name or category id differs.
    """
    difference = dataset.classes.difference(classes)
    if difference:
        raise UserError(f'{dataset.annotations_path}: has other classes than the weights: '
                        f'{difference}; give annotations and weights that belong together')


def evaluate(predictor, dataset, batch_size=1, max_images=None, workers=0, errors=None, progress=True):
    """Box and mask AP of a predictor on a dataset.

    Args:
        predictor: `Predictor` of the dataset's classes.
        dataset: `CocoDataset` with annotations.
        batch_size: how many images go through the predictor together.
        max_images: look at so many only, the first of the dataset; None for all.
        workers: as `predict` takes it.
        errors: `Errors` to add those of each image to; None to do without.
        progress: whether to draw a progress bar.
    Returns:
        `AveragePrecision`, and a list of str, a line for each image that could not be read. Such an image
        counts as having no detections.
    """
    images, problems, evaluations = dataset.images[:max_images], [], []
    judging = ImageEvaluator(dataset, errors is not None)
    with tqdm(total=len(images), unit=' images', mininterval=1, disable=not progress) as bar:
        for judged, left_out in predict_dataset(predictor, split_into_batches(images, batch_size), judging, workers):
            evaluations += _kept(judged, errors)
            problems += left_out
            bar.update(len(judged) + len(left_out))
    missed = {image.id for image in images} - {one.image_id for one in evaluations}
    left_out = [i for i, image in enumerate(images) if image.id in missed]
    evaluations += _kept((judging.judge(i, [], []) for i in left_out), errors)
    return average_precision(dataset, evaluations, workers), problems


class ImageEvaluator:
    """Compares detections with a dataset's annotations, and tells the errors among them if these are asked for."""

    def __init__(self, dataset, with_errors=False):
        self._dataset, self._with_errors = dataset, with_errors
        self._places = {image.id: i for i, image in enumerate(dataset.images)}

    def __call__(self, image, detections):
        """The `ImageEvaluation` on an image's `Detections`, and its `PerImageErrors` or None."""
        boxes, masks = (to_coco(detections, image.id, self._dataset.classes, kind) for kind in ('box', 'mask'))
        return self.judge(self._places[image.id], boxes, masks)

    def judge(self, i, boxes, masks):
        """The same for results of image i as entries, see `average_precision.judge`."""
        errors = errors_in_image(self._dataset, i, boxes if masks is None else masks) if self._with_errors else None
        return judge(self._dataset, i, boxes, masks), errors


def _kept(judged, errors):
    """The evaluations; what else there is is added to the errors and forgotten."""
    for evaluation, of_image in judged:
        if errors is not None:
            errors.add(of_image)
        yield evaluation


def evaluate_results(dataset, boxes, masks, max_images=None, workers=0, errors=None):
    """Box and mask AP of results, with a progress bar.

    Args:
        dataset: `CocoDataset` with annotations.
        boxes, masks: lists of dict as from `to_coco`, of any images; None of a kind that is not judged.
        max_images: look at so many images only, the first of the dataset; None for all.
        workers: number of processes; 0 does it in this one.
        errors: as in `evaluate`.
    Returns:
        `AveragePrecision`.
    """
    found = [_by_image(entries) for entries in (boxes, masks)]
    images = dataset.images[:max_images]
    parts = ((i, *(None if entries is None else entries.get(image.id, []) for entries in found))
             for i, image in enumerate(images))
    judged = parallel_map(functools.partial(_judge, ImageEvaluator(dataset, errors is not None)), parts, workers)
    evaluations = list(_kept(tqdm(judged, total=len(images), unit=' images', mininterval=1), errors))
    return average_precision(dataset, evaluations, workers)


def _by_image(entries):
    if entries is None:
        return None
    images = defaultdict(list)
    for entry in entries:
        images[entry['image_id']].append(entry)
    return images


def _judge(judging, part):
    return judging.judge(*part)
