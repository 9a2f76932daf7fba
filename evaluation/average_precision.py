"""Average precision, in the metrics of pycocotools and of YOLACT.

pycocotools first matches the results of each image with its ground truth, then accumulates over all images. The first
takes far longer and is done an image at a time, by any process; the second is done a class at a time.
"""
import contextlib
import copy
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.coco import CocoDataset
from evaluation.score_thresholds import (
    ScoredResults,
    ScoreThresholds,
    filtered_entries,
    match_results,
    score_thresholds,
)
from system.messages import one_line
from system.worker_pool import parallel_map

IouType = Literal['bbox', 'segm']
IOU_TYPES: dict[str, IouType] = {'box': 'bbox', 'mask': 'segm'}  # our kinds → pycocotools'

# pycocotools' twelve, in its order: name, IoU threshold, size of the objects, most detections an image.
MAX_NAME = 60  # characters of a class's name in the table
METRICS = (
    ('AP', '0.50:0.95', 'all', 100), ('AP50', '0.50', 'all', 100), ('AP75', '0.75', 'all', 100),
    ('APs', '0.50:0.95', 'small', 100), ('APm', '0.50:0.95', 'medium', 100),
    ('APl', '0.50:0.95', 'large', 100),
    ('AR1', '0.50:0.95', 'all', 1), ('AR10', '0.50:0.95', 'all', 10), ('AR100', '0.50:0.95', 'all', 100),
    ('ARs', '0.50:0.95', 'small', 100), ('ARm', '0.50:0.95', 'medium', 100),
    ('ARl', '0.50:0.95', 'large', 100),
)


@dataclass(frozen=True)
class AveragePrecision:
    """Metrics of boxes and of masks, 0 to 1, or -1 where the dataset has no such objects.

    Attributes:
        box, mask: dict of pycocotools' twelve metrics by name, see `METRICS`; None of a kind that was not evaluated.
        by_iou: dict of 'box' and 'mask' to dict of AP by the IoU threshold, '0.50' to '0.95'.
        by_class: dict of 'box' and 'mask' to a tuple of AP, one for each class.
        names: tuple of the classes' names.
        objects: tuple of how many objects of each class there are to find, crowds apart.
        precision: dict of 'box' and 'mask' to float64 [10, 101, classes, 4]: the precision by the IoU threshold, at
            the recalls 0 to 1, of each class, for objects of all sizes, small, medium and large ones; or -1.
        by_score: `ScoreThresholds` of the masks, or of the boxes where there are no masks.
    """
    box: dict[str, float] | None
    mask: dict[str, float] | None
    by_iou: dict[str, dict[str, float]]
    by_class: dict[str, tuple[float, ...]]
    names: tuple[str, ...]
    objects: tuple[int, ...]
    precision: dict[str, np.ndarray] = field(compare=False, repr=False)
    by_score: ScoreThresholds = field(compare=False, repr=False)

    def __str__(self) -> str:
        return '\n'.join([*(line for kind in self.by_iou for line in (f'{kind}:', *self._summary(kind))), '',
                          self.table(), '', *self._table_by_class()])

    def _summary(self, kind: str) -> Iterator[str]:
        """Twelve lines, as pycocotools words them."""
        for name, iou, size, most in METRICS:
            title = ('Average Precision  (AP)', 'Average Recall     (AR)')[name.startswith('AR')]
            yield f' {title} @[ IoU={iou:<9} | area={size:>6} | maxDets={most:>3} ] = {getattr(self, kind)[name]:0.3f}'

    def table(self) -> str:
        """AP by the IoU threshold, in the columns that YOLACT's users know."""
        columns = ['all', *(f'.{hundredths}' for hundredths in range(50, 100, 5))]
        rows = [('', columns), *((kind, [_digits(value) for value in (getattr(self, kind)['AP'], *values.values())])
                                 for kind, values in self.by_iou.items())]
        header, *lines = (f'{name:>6} |' + '|'.join(f'{cell:^8}' for cell in cells) for name, cells in rows)
        return '\n'.join([header, '+'.join(['-------', *['--------'] * len(columns)]), *lines])

    def _table_by_class(self) -> Iterator[str]:
        names = [one_line(name, MAX_NAME) for name in self.names]
        width = max(map(len, ['class', *names]))
        yield f'{"class":<{width}}  objects' + ''.join(f'{kind:>8}' for kind in self.by_class)
        for name, count, *values in zip(names, self.objects, *self.by_class.values()):
            yield f'{name:<{width}}  {count:>7}' + ''.join(f'  {_digits(value):>6}' for value in values)


def _digits(value: float) -> str:
    return f'{value:.3f}' if value >= 0 else '-'


class ImageEvaluation(NamedTuple):
    """Which of an image's results match its ground truth.

    Attributes:
        image_id: int or str.
        objects: int [classes], how many there are to find.
        matches: dict of 'box' and 'mask' to dict of labels to what pycocotools' accumulate() takes, for objects of
            each of its sizes.
        scored: `ScoredResults`.
    """
    image_id: int | str
    objects: np.ndarray
    matches: dict[str, dict[int, list[Any]]]
    scored: ScoredResults


def evaluate_image(dataset: CocoDataset, i: int, boxes: list[dict[str, Any]] | None,
                   masks: list[dict[str, Any]] | None) -> ImageEvaluation:
    """Match the results of an image with its ground truth.

    Args:
        dataset: `CocoDataset` with annotations.
        i: which of its images.
        boxes, masks: as from `results.to_coco`, of this image; None of a kind that is not evaluated.
    Returns:
        `ImageEvaluation`.
    """
    labels = {id: label for label, id in enumerate(dataset.classes.ids)}

    def labelled(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**record, 'image_id': 1, 'category_id': labels[record['category_id']]} for record in records]
    image, annotations = dataset.images[i], labelled(dataset.annotations(i))
    content = {'images': [{'id': 1, 'height': image.height, 'width': image.width}],
               'categories': [{'id': label} for label in labels.values()]}
    ground_truth = _index({**content, 'annotations': annotations})
    objects = np.bincount([record['category_id'] for record in annotations if not record['iscrowd']],
                          minlength=len(labels))
    matches = {kind: _match(ground_truth, labelled(entries), IOU_TYPES[kind])
               for kind, entries in (('box', boxes), ('mask', masks)) if entries is not None}
    return ImageEvaluation(image.id, objects, matches,
                           match_results(annotations, labelled(filtered_entries(boxes, masks))))


def _match(ground_truth: COCO, entries: list[dict[str, Any]], iou_type: IouType) -> dict[int, list[Any]]:
    """pycocotools' matches by class, for objects of each of its sizes."""
    found = _quietly(ground_truth.loadRes, entries) if entries else _index(
        {**ground_truth.dataset, 'annotations': []})
    evaluation = _quietly(_FastCOCOeval, ground_truth, found, iou_type)
    labels = sorted({record['category_id'] for record in [*ground_truth.dataset['annotations'], *entries]})
    evaluation.params.catIds = labels
    if labels:
        _quietly(evaluation.evaluate)
    sizes = len(evaluation.params.areaRng)
    return {label: [_compact(one) for one in evaluation.evalImgs[place * sizes:][:sizes]]
            for place, label in enumerate(labels)}


class _FastCOCOeval(COCOeval):
    """pycocotools' own, without the ground truth that no result can match.

    It loops over each object for each result, IoU and size, which takes minutes where an image has 100,000.
    """

    def evaluateImg(self, imgId: Any, catId: Any, aRng: Any, maxDet: Any) -> Any:
        """As of COCOeval. `_gts`, the ground truth by image and class, is private, and nothing else holds it."""
        pair = imgId, catId
        all_objects: dict[Any, Any] = self._gts  # type: ignore[attr-defined]  # the stubs leave it out
        all_ious: dict[Any, Any] = self.ious
        objects, ious = all_objects[pair], all_ious[pair]
        if len(ious) == 0:
            return super().evaluateImg(imgId, catId, aRng, maxDet)
        near = ~(ious < self.params.iouThrs[0]).all(0)
        all_objects[pair], all_ious[pair] = [objects[i] for i in np.flatnonzero(near)], ious[:, near]
        matches: Any = super().evaluateImg(imgId, catId, aRng, maxDet)
        all_objects[pair], all_ious[pair] = objects, ious
        far = [bool(objects[i]['ignore'] or not aRng[0] <= objects[i]['area'] <= aRng[1])
               for i in np.flatnonzero(~near)]
        return {**matches, 'gtIgnore': np.append(matches['gtIgnore'], far).astype(int)}


def _compact(matches: dict[str, Any]) -> dict[str, np.ndarray]:
    """What accumulate() needs; the rest takes eight times the memory."""
    return {'dtScores': np.array(matches['dtScores']), 'dtMatches': matches['dtMatches'] > 0,
            'dtIgnore': matches['dtIgnore'] > 0, 'gtIgnore': matches['gtIgnore']}


def average_precision(dataset: CocoDataset, evaluations: Sequence[ImageEvaluation], workers: int = 0,
                      lowest_score: float = 0) -> AveragePrecision:
    """The metrics of COCO's evaluation.

    Args:
        dataset: the `CocoDataset`.
        evaluations: list of `ImageEvaluation` of the images that count, of the same kinds, in any order.
        workers: number of processes that share the classes; 0 does it in this one.
        lowest_score: as of `score_thresholds`.
    Returns:
        `AveragePrecision`.
    """
    # pycocotools takes images by their ids, and of equal scores the one in the earlier image for the higher.
    ordered = sorted(evaluations, key=lambda one: (isinstance(one.image_id, str), one.image_id))
    kinds = [kind for kind in IOU_TYPES if all(kind in one.matches for one in ordered)]
    labels = range(len(dataset.classes))
    parts = parallel_map(functools.partial(_accumulate, ordered), [(kind, label) for kind in kinds for label in labels],
                       workers)
    totals = {kind: _summarize(IOU_TYPES[kind], [next(parts) for _ in labels]) for kind in kinds}
    precision = {kind: total.eval['precision'][..., -1] for kind, total in totals.items()}
    overall = {kind: values[..., 0] for kind, values in precision.items()}
    twelve = {kind: {name: float(value) for (name, *_), value in zip(METRICS, total.stats)}
              for kind, total in totals.items()}
    objects = tuple(np.sum([one.objects for one in ordered], 0).tolist())
    return AveragePrecision(
        twelve.get('box'), twelve.get('mask'),
        by_iou={kind: {f'{iou:.2f}': mean(part) for iou, part in zip(totals[kind].params.iouThrs, overall[kind])}
                for kind in kinds},
        by_class={kind: tuple(mean(part) for part in np.moveaxis(overall[kind], 2, 0)) for kind in kinds},
        names=dataset.classes.names, objects=objects, precision=precision,
        by_score=score_thresholds([one.scored for one in ordered], objects, lowest_score))


def _accumulate(evaluations: Sequence[ImageEvaluation], part: tuple[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of a class over all images, as COCOeval's accumulate() has them."""
    kind, label = part
    total = COCOeval(iouType=IOU_TYPES[kind])
    total.params.imgIds, total.params.catIds = list(range(len(evaluations))), [label]
    nothing = [None] * len(total.params.areaRng)
    matches = [one.matches[kind].get(label, nothing) for one in evaluations]
    total.evalImgs = [one[size] for size in range(len(nothing)) for one in matches]
    _set_evaluated_params(total)
    _quietly(total.accumulate)
    return total.eval['precision'], total.eval['recall']


def _set_evaluated_params(evaluation: COCOeval) -> None:
    """What COCOeval's evaluate() leaves for accumulate(), in a private attribute: the parameters it ran with."""
    vars(evaluation)['_paramsEval'] = copy.deepcopy(evaluation.params)


def _summarize(iou_type: IouType, classes: Sequence[tuple[np.ndarray, np.ndarray]]) -> Any:
    """COCOeval after its last step."""
    precision, recall = zip(*classes)
    total: Any = COCOeval(iouType=iou_type)
    total.eval = {'precision': np.concatenate(precision, 2), 'recall': np.concatenate(recall, 1)}
    _quietly(total.summarize)
    return total


def mean(precision: np.ndarray) -> float:
    """The mean of any part of `AveragePrecision.precision`, over what there is; -1 if there is nothing."""
    there = precision[precision > -1]
    return float(there.mean()) if there.size else -1.0


def _index(content: dict[str, Any]) -> COCO:
    """COCO's object for a dataset. It would never find an annotation 0."""
    coco: Any = COCO()
    coco.dataset = {**content, 'annotations': [{**record, 'id': id}
                                               for id, record in enumerate(content['annotations'], 1)]}
    _quietly(coco.createIndex)
    return coco


def _quietly(function: Callable[..., Any], *arguments: Any) -> Any:
    """pycocotools tells what it does on standard output."""
    with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):
        return function(*arguments)
