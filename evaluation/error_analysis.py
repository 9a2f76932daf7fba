"""What results get wrong, image by image: objects that are missed, taken for others, or not there."""
from bisect import insort
from collections import Counter
from typing import NamedTuple

import numpy as np
from pycocotools import mask as mask_api

SCORE, IOU = 0.3, 0.5  # what a result is to have to be shown, and to hit an object
NOTHING = -1  # in the place of a class
MOST_IMAGES = 160  # to keep
MOST_OVERALL = 40  # of these, the worst whatever their classes


class Matches(NamedTuple):
    """Which of the results in an image hit which of its objects.

    Attributes:
        objects: list of dict, the annotations that are no crowds, as `CocoDataset.annotations` has them.
        results: list of dict, the entries that score `SCORE` or more, best first, without those within a crowd.
        hits: list of (place of an object, place of a result, IoU), at most one for each of either. Of the same class
            first, and those that are left of any class.
    """
    objects: list
    results: list
    hits: list

    def pairs(self):
        """The category ids of each object and of the result that hit it, either None where there is nothing."""
        hit, hitting = ({pair[side] for pair in self.hits} for side in (0, 1))
        yield from ((self.objects[o]['category_id'], self.results[r]['category_id']) for o, r, _ in self.hits)
        yield from ((one['category_id'], None) for o, one in enumerate(self.objects) if o not in hit)
        yield from ((None, one['category_id']) for r, one in enumerate(self.results) if r not in hitting)


class PerImageErrors(NamedTuple):
    """How well an image's objects were found.

    Attributes:
        place: int, which image of the dataset.
        pairs: Counter of (class of an object, class of the result that hit it), `NOTHING` for a missed object or for
            a result where nothing is.
        quality: dict of classes, and None for all of them together, to the panoptic quality of this image
            (Kirillov et al. 2019, equation 1), 0 to 1: the sum of the IoUs of hits of the same class, over the number
            of hits and half that of all misses and of all other results.
        results: list of dict, as in `Matches`.
    """
    place: int
    pairs: Counter
    quality: dict
    results: list

    @property
    def wrong(self):
        """int, how many objects and results are not hits of the same class."""
        return sum(number for (true, found), number in self.pairs.items() if true != found)


def match(dataset, i, entries):
    """Compares the results of an image with its objects.

    Args:
        dataset: `CocoDataset` with annotations.
        i: int, which of its images.
        entries: list of dict as from `results.to_coco`, by their masks if all have one, otherwise by their boxes.
    Returns:
        `Matches`.
    """
    annotations = list(dataset.annotations(i))
    entries = sorted((entry for entry in entries if entry['score'] >= SCORE), key=lambda entry: -entry['score'])
    key = 'segmentation' if all('segmentation' in entry for entry in entries) else 'bbox'
    ious = _ious(entries, annotations, key)
    found, true = (np.array([one['category_id'] for one in some], np.int64) for some in (entries, annotations))
    same, near = found[:, None] == true, ious >= IOU
    crowd = np.array([one['iscrowd'] for one in annotations], bool)
    partners = {}
    for allowed in (near & same & ~crowd, near & ~same & ~crowd):
        for r, o in sorted(np.argwhere(allowed).tolist(), key=lambda pair: (pair[0], -ious[tuple(pair)])):
            if r not in partners and o not in partners.values():
                partners[r] = o
    inside = (near & same & crowd).any(1)
    shown = [r for r in range(len(entries)) if r in partners or not inside[r]]
    regular = np.flatnonzero(~crowd).tolist()
    return Matches([annotations[o] for o in regular], [entries[r] for r in shown],
                   [(regular.index(o), shown.index(r), float(ious[r, o])) for r, o in partners.items()])


def _ious(entries, annotations, key):
    """Float64 [entries, annotations]; with a crowd, the part of the entry that is inside."""
    if not entries or not annotations:
        return np.zeros((len(entries), len(annotations)))
    found, true = ([one[key] for one in some] for some in (entries, annotations))
    crowd = [one['iscrowd'] for one in annotations]
    if key == 'bbox':
        return mask_api.iou(np.array(found, np.float64), np.array(true, np.float64), crowd)
    return mask_api.iou(found, true, crowd)


def errors_in_image(dataset, i, entries):
    """The `PerImageErrors` of an image. Arguments as in `match`."""
    matches = match(dataset, i, entries)
    labels = {id: label for label, id in enumerate(dataset.classes.ids)} | {None: NOTHING}
    pairs = Counter((labels[true], labels[found]) for true, found in matches.pairs())
    overlaps = Counter()
    for o, r, iou in matches.hits:
        label = labels[matches.objects[o]['category_id']]
        if label == labels[matches.results[r]['category_id']]:
            overlaps[label] += iou
    sides = Counter()  # how many objects and results there are of each class
    for pair, number in pairs.items():
        for label in pair:
            sides[label] += number * (label != NOTHING)
    quality = {label: 2 * overlaps[label] / number for label, number in sides.items() if number}
    if quality:
        quality[None] = 2 * overlaps.total() / sides.total()
    return PerImageErrors(i, pairs, quality, matches.results)


class Errors:
    """The errors in all images of a dataset, and the images with the worst of them.

    Attributes:
        pairs: Counter as in `PerImageErrors`, of all images.
        images: int, how many were added.
    """

    def __init__(self, number_of_classes):
        self.pairs, self.images = Counter(), 0
        self._most = max(2, MOST_IMAGES // number_of_classes)
        self._worst = {}

    def add(self, errors):
        """Take account of an image: `PerImageErrors`. Its results are kept only if it is among the worst."""
        self.pairs += errors.pairs
        self.images += 1
        for label, quality in errors.quality.items():
            worst = self._worst.setdefault(label, [])
            insort(worst, (quality, -errors.wrong, errors.place, errors))
            del worst[MOST_OVERALL if label is None else self._most:]

    def worst(self):
        """The worst, overall and of each class, worst first: list of `PerImageErrors`, `MOST_IMAGES` at most."""
        chosen = {place: errors for *_, place, errors in self._worst.get(None, [])}
        ranked = [self._worst[label] for label in sorted(self._worst.keys() - {None})]
        for rank in range(self._most):
            for worst in ranked:
                if rank < len(worst) and len(chosen) < MOST_IMAGES:
                    *_, place, errors = worst[rank]
                    chosen[place] = errors
        return sorted(chosen.values(), key=lambda errors: (errors.quality[None], -errors.wrong, errors.place))
