"""Error analysis, image by image: false negatives, false positives and confusions between classes."""
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from data.coco import CocoDataset
from evaluation.matching import MIN_IOU, assign, pairwise_ious

MIN_SCORE = 0.3  # of a result to be counted
BACKGROUND = -1  # in the place of a class: a false negative's result, a false positive's object
MAX_IMAGES = 160  # to keep
MAX_OVERALL = 40  # of these, the worst whatever their classes


class Matches(NamedTuple):
    """Which of the results in an image match which of its ground-truth objects.

    Attributes:
        objects: list of dict, the annotations that are no crowds, as `CocoDataset.annotations` has them.
        results: list of dict, the entries that score `MIN_SCORE` or more, best first, without those within a crowd.
        pairs: list of (index of an object, index of a result, IoU), at most one for each of either. Of the same class
            first, then those that are left of any class.
    """
    objects: list[dict[str, Any]]
    results: list[dict[str, Any]]
    pairs: list[tuple[int, int, float]]

    def category_pairs(self) -> Iterator[tuple[int | None, int | None]]:
        """Category ids of objects and results; None for a false positive's object or a false negative's result."""
        matched, matching = ({pair[side] for pair in self.pairs} for side in (0, 1))
        yield from ((self.objects[o]['category_id'], self.results[r]['category_id']) for o, r, _ in self.pairs)
        yield from ((one['category_id'], None) for o, one in enumerate(self.objects) if o not in matched)
        yield from ((None, one['category_id']) for r, one in enumerate(self.results) if r not in matching)


class PerImageErrors(NamedTuple):
    """The errors in an image.

    Attributes:
        place: int, which image of the dataset.
        pairs: Counter of (class of an object, class of the result that matches it), with `BACKGROUND` for the result of
            a false negative or the object of a false positive.
        quality: dict of classes, and None for all of them together, to the panoptic quality of this image
            (Kirillov et al. 2019, equation 1), 0 to 1: the sum of the IoUs of true positives, over their number and
            half that of false negatives and false positives.
        results: list of dict, as in `Matches`.
    """
    place: int
    pairs: Counter[tuple[int, int]]
    quality: dict[int | None, float]
    results: list[dict[str, Any]]

    @property
    def wrong(self) -> int:
        """Number of false negatives, false positives and confusions."""
        return sum(number for (true, predicted), number in self.pairs.items() if true != predicted)


def match(dataset: CocoDataset, i: int, entries: list[dict[str, Any]]) -> Matches:
    """Match the results of an image with its ground truth.

    Args:
        dataset: `CocoDataset` with annotations.
        i: int, which of its images.
        entries: list of dict as from `results.to_coco`, by their masks if all have one, otherwise by their boxes.
    Returns:
        `Matches`.
    """
    annotations = list(dataset.annotations(i))
    entries = sorted((entry for entry in entries if entry['score'] >= MIN_SCORE), key=lambda entry: -entry['score'])
    ious = pairwise_ious(entries, annotations)
    found, true = (np.array([one['category_id'] for one in some], np.int64) for some in (entries, annotations))
    same, near = found[:, None] == true, ious >= MIN_IOU
    crowd = np.array([one['iscrowd'] for one in annotations], bool)
    partners = assign(near & ~same & ~crowd, ious, assign(near & same & ~crowd, ious))
    inside = (near & same & crowd).any(1)
    shown = [r for r in range(len(entries)) if r in partners or not inside[r]]
    regular = np.flatnonzero(~crowd).tolist()
    return Matches([annotations[o] for o in regular], [entries[r] for r in shown],
                   [(regular.index(o), shown.index(r), float(ious[r, o])) for r, o in partners.items()])


def errors_in_image(dataset: CocoDataset, i: int, entries: list[dict[str, Any]]) -> PerImageErrors:
    """The `PerImageErrors` of an image. Arguments as in `match`."""
    matches = match(dataset, i, entries)
    labels = {id: label for label, id in enumerate(dataset.classes.ids)} | {None: BACKGROUND}
    pairs = Counter((labels[true], labels[predicted]) for true, predicted in matches.category_pairs())
    overlaps: dict[int, float] = defaultdict(float)
    for o, r, iou in matches.pairs:
        label = labels[matches.objects[o]['category_id']]
        if label == labels[matches.results[r]['category_id']]:
            overlaps[label] += iou
    sides: Counter[int] = Counter()  # how many objects and results there are of each class
    for pair, number in pairs.items():
        for label in pair:
            sides[label] += number * (label != BACKGROUND)
    quality: dict[int | None, float] = {label: 2 * overlaps[label] / number
                                        for label, number in sides.items() if number}
    if quality:
        quality[None] = 2 * sum(overlaps.values()) / sides.total()
    return PerImageErrors(i, pairs, quality, matches.results)


class Errors:
    """The errors in all images of a dataset, and the images with the worst of them.

    Attributes:
        pairs: Counter as in `PerImageErrors`, of all images.
        images: int, how many were added.
    """

    def __init__(self, number_of_classes: int) -> None:
        self.pairs: Counter[tuple[int, int]] = Counter()
        self.images = 0
        self._most = max(2, MAX_IMAGES // number_of_classes)
        self._worst: dict[int | None, list[tuple[float, int, int, PerImageErrors]]] = {}

    def add(self, errors: PerImageErrors) -> None:
        """Take account of an image: `PerImageErrors`. Its results are kept only if it is among the worst."""
        self.pairs += errors.pairs
        self.images += 1
        for label, quality in errors.quality.items():
            worst = self._worst.setdefault(label, [])
            insort(worst, (quality, -errors.wrong, errors.place, errors))
            del worst[MAX_OVERALL if label is None else self._most:]

    def worst(self) -> list[PerImageErrors]:
        """The worst, overall and of each class, worst first: list of `PerImageErrors`, `MAX_IMAGES` at most."""
        chosen = {place: errors for *_, place, errors in self._worst.get(None, [])}
        ranked = [self._worst[label] for label in sorted(label for label in self._worst if label is not None)]
        for rank in range(self._most):
            for worst in ranked:
                if rank < len(worst) and len(chosen) < MAX_IMAGES:
                    *_, place, errors = worst[rank]
                    chosen[place] = errors
        return sorted(chosen.values(), key=lambda errors: (errors.quality[None], -errors.wrong, errors.place))
