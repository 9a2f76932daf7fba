"""What a predictor, or a file of results, is worth on a dataset."""
import functools
from collections import defaultdict

from tqdm import tqdm

from data.coco import AnnotationError
from evaluation.average_precision import average_precision, judge
from evaluation.error_analysis import picture_errors
from evaluation.results import to_coco
from prediction.pipeline import in_batches, predict
from system.worker_pool import work_ahead


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


def evaluate(predictor, dataset, batch_size=1, max_images=None, workers=0, errors=None, progress=True):
    """Box and mask AP of a predictor on a dataset.

    Args:
        predictor: `Predictor` of the dataset's classes.
        dataset: `CocoDataset` with annotations.
        batch_size: how many pictures go through the predictor together.
        max_images: look at so many only, the first of the dataset; None for all.
        workers: as `predict` takes it.
        errors: `Errors` to add those of each picture to; None to do without.
        progress: whether to draw a progress bar.
    Returns:
        `AveragePrecision`, and a list of str, a line for each picture that could not be read. Such a picture
        counts as having no detections.
    """
    pictures, problems, judgements = dataset.images[:max_images], [], []
    judging = Judge(dataset, errors is not None)
    with tqdm(total=len(pictures), unit=' pictures', mininterval=1, disable=not progress) as bar:
        for judged, left_out in predict(predictor, in_batches(pictures, batch_size), judging, workers):
            judgements += _kept(judged, errors)
            problems += left_out
            bar.update(len(judged) + len(left_out))
    missed = {picture.id for picture in pictures} - {one.image_id for one in judgements}
    left_out = [i for i, picture in enumerate(pictures) if picture.id in missed]
    judgements += _kept((judging.judge(i, [], []) for i in left_out), errors)
    return average_precision(dataset, judgements, workers), problems


class Judge:
    """Compares detections with a dataset's annotations, and tells the errors among them if these are asked for."""

    def __init__(self, dataset, with_errors=False):
        self._dataset, self._with_errors = dataset, with_errors
        self._places = {picture.id: i for i, picture in enumerate(dataset.images)}

    def __call__(self, picture, detections):
        """The `Judgement` on a picture's `Detections`, and its `PictureErrors` or None."""
        boxes, masks = (to_coco(detections, picture.id, self._dataset.classes, kind) for kind in ('box', 'mask'))
        return self.judge(self._places[picture.id], boxes, masks)

    def judge(self, i, boxes, masks):
        """The same for results of picture i as entries, see `average_precision.judge`."""
        errors = picture_errors(self._dataset, i, boxes if masks is None else masks) if self._with_errors else None
        return judge(self._dataset, i, boxes, masks), errors


def _kept(judged, errors):
    """The judgements; what else there is is added to the errors and forgotten."""
    for judgement, of_picture in judged:
        if errors is not None:
            errors.add(of_picture)
        yield judgement


def evaluate_results(dataset, boxes, masks, max_images=None, workers=0, errors=None):
    """Box and mask AP of results, with a progress bar.

    Args:
        dataset: `CocoDataset` with annotations.
        boxes, masks: lists of dict as from `to_coco`, of any pictures; None of a kind that is not judged.
        max_images: look at so many pictures only, the first of the dataset; None for all.
        workers: number of processes; 0 does it in this one.
        errors: as in `evaluate`.
    Returns:
        `AveragePrecision`.
    """
    found = [_by_picture(entries) for entries in (boxes, masks)]
    pictures = dataset.images[:max_images]
    parts = ((i, *(None if entries is None else entries.get(picture.id, []) for entries in found))
             for i, picture in enumerate(pictures))
    judged = work_ahead(functools.partial(_judge, Judge(dataset, errors is not None)), parts, workers)
    judgements = list(_kept(tqdm(judged, total=len(pictures), unit=' pictures', mininterval=1), errors))
    return average_precision(dataset, judgements, workers)


def _by_picture(entries):
    if entries is None:
        return None
    pictures = defaultdict(list)
    for entry in entries:
        pictures[entry['image_id']].append(entry)
    return pictures


def _judge(judging, part):
    return judging.judge(*part)
