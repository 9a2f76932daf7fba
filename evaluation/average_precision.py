"""The average precision of COCO results, in the figures of pycocotools and of YOLACT.

pycocotools compares an image's results with its objects, and then counts over all images. The first takes far
longer and needs nothing of other images, so here it is done an image at a time, by any process; and the second needs
nothing of other classes.
"""
import contextlib
import copy
import functools
import os
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from system.worker_pool import parallel_map

KINDS = {'box': 'bbox', 'mask': 'segm'}  # and what pycocotools calls them

# pycocotools' twelve, in its order: name, IoU of a hit, size of the objects, most detections an image.
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
    """How good results are: for boxes and for masks, 0 to 1, or -1 where the dataset has no such objects.

    Attributes:
        box, mask: dict of pycocotools' twelve figures by name, see `FIGURES`; None of a kind that was not judged.
        by_iou: dict of 'box' and 'mask' to dict of AP by the IoU of a hit, '0.50' to '0.95'.
        by_class: dict of 'box' and 'mask' to a tuple of AP, one for each class.
        names: tuple of the classes' names.
        objects: tuple of how many objects of each class there are to find, crowds apart.
        precision: dict of 'box' and 'mask' to float64 [10, 101, classes, 4]: the precision by the IoU of a hit, at
            the recalls 0 to 1, of each class, for objects of all sizes, small, medium and large ones; or -1.
    """
    box: Optional[dict]
    mask: Optional[dict]
    by_iou: dict
    by_class: dict
    names: tuple
    objects: tuple
    precision: dict = field(compare=False, repr=False)

    def __str__(self):
        return '\n'.join([*(line for kind in self.by_iou for line in (f'{kind}:', *self._summary(kind))), '',
                          self.table(), '', *self._table_by_class()])

    def _summary(self, kind):
        """Twelve lines, as pycocotools words them."""
        for name, iou, size, most in FIGURES:
            title = ('Average Precision  (AP)', 'Average Recall     (AR)')[name.startswith('AR')]
            yield f' {title} @[ IoU={iou:<9} | area={size:>6} | maxDets={most:>3} ] = {getattr(self, kind)[name]:0.3f}'

    def table(self):
        """AP by the IoU of a hit, in percent, as YOLACT's users know it."""
        columns = ['all', *(f'.{hundredths}' for hundredths in range(50, 100, 5))]
        rows = [('', columns), *((kind, [_percent(value) for value in (getattr(self, kind)['AP'], *values.values())])
                                 for kind, values in self.by_iou.items())]
        header, *lines = (f'{name:>6} |' + '|'.join(f'{cell:^8}' for cell in cells) for name, cells in rows)
        return '\n'.join([header, '+'.join(['-------', *['--------'] * len(columns)]), *lines])

    def _table_by_class(self):
        width = max(map(len, ['class', *self.names]))
        yield f'{"class":<{width}}  objects' + ''.join(f'{kind:>8}' for kind in self.by_class)
        for name, count, *values in zip(self.names, self.objects, *self.by_class.values()):
            yield f'{name:<{width}}  {count:>7}' + ''.join(f'  {_percent(value):>6}' for value in values)


def _percent(value):
    return f'{100 * value:.2f}' if value >= 0 else '-'


class ImageEvaluation(NamedTuple):
    """Which of an image's results hit.

    Attributes:
        image_id: int or str.
        objects: int [classes], how many there are to find.
        hits: dict of 'box' and 'mask' to dict of labels to what pycocotools' accumulate() wants to know of them, for
            objects of each of its sizes.
    """
    image_id: int | str
    objects: np.ndarray
    hits: dict


def judge(dataset, i, boxes, masks):
    """Compares the results of an image with its annotations.

    Args:
        dataset: `CocoDataset` with annotations, which alone say what is true.
        i: int, which of its images.
        boxes, masks: lists of dict as from `results.to_coco`, of this image; None of a kind that is not judged.
    Returns:
        `ImageEvaluation`.
    """
    labels = {id: label for label, id in enumerate(dataset.classes.ids)}

    def labelled(records):
        return [{**record, 'image_id': 1, 'category_id': labels[record['category_id']]} for record in records]
    image, annotations = dataset.images[i], labelled(dataset.annotations(i))
    content = {'images': [{'id': 1, 'height': image.height, 'width': image.width}],
               'categories': [{'id': label} for label in labels.values()]}
    truth = _index({**content, 'annotations': annotations})
    objects = np.bincount([record['category_id'] for record in annotations if not record['iscrowd']],
                          minlength=len(labels))
    return ImageEvaluation(image.id, objects, {kind: _hits(truth, labelled(found), KINDS[kind])
                                           for kind, found in (('box', boxes), ('mask', masks)) if found is not None})


def _hits(truth, entries, iou_type):
    found = _quietly(truth.loadRes, entries) if entries else _index({**truth.dataset, 'annotations': []})
    judge = _quietly(_FastCOCOeval, truth, found, iou_type)
    labels = sorted({record['category_id'] for record in [*truth.dataset['annotations'], *entries]})
    judge.params.catIds = labels
    if labels:
        _quietly(judge.evaluate)
    sizes = len(judge.params.areaRng)
    return {label: [_compact(one) for one in judge.evalImgs[place * sizes:][:sizes]]
            for place, label in enumerate(labels)}


class _FastCOCOeval(COCOeval):
    """pycocotools' own, spared the objects that no result can hit.

    It looks at each object for each result, IoU and size in turn, which takes minutes where an image has 100,000.
    """

    def evaluateImg(self, image_id, label, sizes, most):
        pair = image_id, label
        objects, ious = self._gts[pair], self.ious[pair]
        if len(ious) == 0:
            return super().evaluateImg(image_id, label, sizes, most)
        near = ~(ious < self.params.iouThrs[0]).all(0)
        self._gts[pair], self.ious[pair] = [objects[i] for i in np.flatnonzero(near)], ious[:, near]
        hits = super().evaluateImg(image_id, label, sizes, most)
        self._gts[pair], self.ious[pair] = objects, ious
        far = [bool(objects[i]['ignore'] or not sizes[0] <= objects[i]['area'] <= sizes[1])
               for i in np.flatnonzero(~near)]
        return {**hits, 'gtIgnore': np.append(hits['gtIgnore'], far).astype(int)}


def _compact(hits):
    """Without what nobody asks for, which takes eight times the room."""
    return {'dtScores': np.array(hits['dtScores']), 'dtMatches': hits['dtMatches'] > 0,
            'dtIgnore': hits['dtIgnore'] > 0, 'gtIgnore': hits['gtIgnore']}


def average_precision(dataset, evaluations, workers=0):
    """What COCO's evaluation makes of results.

    Args:
        dataset: the `CocoDataset`.
        evaluations: list of `ImageEvaluation` of the images that count, of the same kinds, in any order.
        workers: number of processes that share the classes; 0 does it in this one.
    Returns:
        `AveragePrecision`.
    """
    # pycocotools takes images by their ids, and of equal scores the one in the earlier image for the higher.
    ordered = sorted(evaluations, key=lambda one: (isinstance(one.image_id, str), one.image_id))
    kinds = [kind for kind in KINDS if all(kind in one.hits for one in ordered)]
    labels = range(len(dataset.classes))
    parts = parallel_map(functools.partial(_add_up, ordered), [(kind, label) for kind in kinds for label in labels],
                       workers)
    totals = {kind: _total(KINDS[kind], [next(parts) for _ in labels]) for kind in kinds}
    precision = {kind: total.eval['precision'][..., -1] for kind, total in totals.items()}
    overall = {kind: values[..., 0] for kind, values in precision.items()}
    twelve = {kind: {name: float(figure) for (name, *_), figure in zip(FIGURES, total.stats)}
              for kind, total in totals.items()}
    return AveragePrecision(
        twelve.get('box'), twelve.get('mask'),
        by_iou={kind: {f'{iou:.2f}': mean(part) for iou, part in zip(totals[kind].params.iouThrs, overall[kind])}
                for kind in kinds},
        by_class={kind: tuple(mean(part) for part in np.moveaxis(overall[kind], 2, 0)) for kind in kinds},
        names=dataset.classes.names, objects=tuple(sum(one.objects for one in ordered).tolist()), precision=precision)


def _add_up(evaluations, part):
    """Precision and recall of a class over all images, as COCOeval's accumulate() has them."""
    kind, label = part
    total = COCOeval(iouType=KINDS[kind])
    total.params.imgIds, total.params.catIds = list(range(len(evaluations))), [label]
    nothing = [None] * len(total.params.areaRng)
    hits = [one.hits[kind].get(label, nothing) for one in evaluations]
    total.evalImgs = [one[size] for size in range(len(nothing)) for one in hits]
    total._paramsEval = copy.deepcopy(total.params)
    _quietly(total.accumulate)
    return total.eval['precision'], total.eval['recall']


def _total(iou_type, classes):
    """COCOeval after its last step."""
    precision, recall = zip(*classes)
    total = COCOeval(iouType=iou_type)
    total.eval = {'precision': np.concatenate(precision, 2), 'recall': np.concatenate(recall, 1)}
    _quietly(total.summarize)
    return total


def mean(precision):
    """The mean of any part of `AveragePrecision.precision`, over what there is; -1 if there is nothing."""
    there = precision[precision > -1]
    return float(there.mean()) if there.size else -1.0


def _index(content):
    """COCO's object for a dataset. It would never find an annotation 0."""
    coco = COCO()
    coco.dataset = {**content, 'annotations': [{**record, 'id': id}
                                               for id, record in enumerate(content['annotations'], 1)]}
    _quietly(coco.createIndex)
    return coco


def _quietly(function, *arguments):
    """pycocotools tells what it does on standard output."""
    with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):
        return function(*arguments)
