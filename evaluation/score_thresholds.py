"""Precision, recall and F1 by score threshold, and the threshold that F1 suggests."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from evaluation.matching import MIN_IOU, assign, pairwise_ious

STEPS = 100  # thresholds are multiples of a hundredth, as a user would type them


class ScoredResults(NamedTuple):
    """An image's results, apart from those in a crowd of their class.

    Attributes:
        labels: int [n], their classes.
        scores: float64 [n].
        right: bool [n], whether an object matches.
    """
    labels: np.ndarray
    scores: np.ndarray
    right: np.ndarray


class Choice(NamedTuple):
    """What a threshold comes to: all from 0 to 1."""
    threshold: float
    f1: float
    precision: float
    recall: float


@dataclass(frozen=True)
class ScoreThresholds:
    """Precision, recall and F1 by score threshold, 0 to 1; NaN where there is nothing to divide by.

    Results count that score more than the threshold, as `Predictor` keeps them.

    Attributes:
        thresholds: float64 [t], rising.
        precision, recall, f1: float64 [1 + classes, t]: of all classes together, then of each. Without objects of a
            class it has neither recall nor F1; its results still are false positives of all classes together.
    """
    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray

    def best(self, row: int = 0) -> Choice | None:
        """The threshold of the highest F1: of those that are equally good, the middle of the longest range.

        Args:
            row: 0 for all classes, 1 + label for one.
        Returns:
            `Choice`; None where F1 is 0 or NaN at all thresholds.
        """
        f1 = np.nan_to_num(self.f1[row])
        if not f1.max() > 0:
            return None
        best = np.flatnonzero(f1 == f1.max())
        longest = max(np.split(best, np.flatnonzero(np.diff(best) > 1) + 1), key=len)
        k = longest[(len(longest) - 1) // 2]
        return Choice(*(float(values[k]) for values in (self.thresholds, f1, self.precision[row], self.recall[row])))


def filtered_entries(boxes: list[dict[str, Any]] | None,
                     masks: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """Results with the scores that `Predictor` compares with its threshold, those of the boxes.

    Args:
        boxes, masks: as from `results.to_coco`, of the same detections; None of a kind that is not evaluated.
    Returns:
        Masks with the scores of their boxes; of one kind alone these, as they are.
    """
    if boxes is None or masks is None:
        return boxes or masks or []
    return [{**mask, 'score': box['score']} for box, mask in zip(boxes, masks, strict=True)]


def match_results(annotations: list[dict[str, Any]], entries: list[dict[str, Any]]) -> ScoredResults:
    """Match the results of an image with objects of their class, from an IoU of `MIN_IOU` on, best score first.

    Which results match does not depend on a threshold: those that score less choose after those that score more.

    Args:
        annotations: as `CocoDataset.annotations` has them, with labels in place of category ids.
        entries: as from `filtered_entries`, likewise.
    """
    entries = sorted(entries, key=lambda entry: -entry['score'])
    found, true = (np.array([one['category_id'] for one in some], np.int64) for some in (entries, annotations))
    crowd = np.array([one['iscrowd'] for one in annotations], bool)
    ious = pairwise_ious(entries, annotations)
    near = (ious >= MIN_IOU) & (found[:, None] == true)
    right = np.zeros(len(entries), bool)
    right[list(assign(near & ~crowd, ious))] = True
    counts = right | ~(near & crowd).any(1)
    scores = np.array([entry['score'] for entry in entries], np.float64)
    return ScoredResults(found[counts], scores[counts], right[counts])


def score_thresholds(images: Sequence[ScoredResults], objects: Sequence[int], lowest: float = 0) -> ScoreThresholds:
    """Precision, recall and F1 of the results of all images, at each hundredth.

    With TP right results, FP others and FN objects that none matches, precision is TP / (TP + FP), recall
    TP / (TP + FN) and F1, their harmonic mean, 2 TP / (2 TP + FP + FN) (van Rijsbergen 1979, Information Retrieval).

    Args:
        images: `ScoredResults` of each.
        objects: how many there are to find of each class.
        lowest: the least threshold to consider, 0 to 1, such as that which the results were already filtered with.
    """
    thresholds = np.arange(STEPS + 1) / STEPS
    thresholds = thresholds[thresholds >= min(lowest, 1)]
    labels, scores, right = (np.concatenate([getattr(one, name) for one in images]) if images else np.zeros(0, int)
                             for name in ScoredResults._fields)
    right = right.astype(bool)
    classes = range(len(objects))
    kept = np.array([_above(thresholds, scores[labels == label]) for label in classes])
    correct = np.array([_above(thresholds, scores[right & (labels == label)]) for label in classes])
    kept, correct = (np.vstack([counts.sum(0), counts]).astype(np.float64) for counts in (kept, correct))
    there = np.array([sum(objects), *objects], np.float64)[:, None]
    with np.errstate(invalid='ignore'):
        precision, recall = correct / kept, np.where(there > 0, correct, np.nan) / there
        f1 = np.where(there > 0, 2 * correct / (kept + there), np.nan)
    return ScoreThresholds(thresholds, precision, recall, f1)


def _above(thresholds: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How many scores are above each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side='right')
