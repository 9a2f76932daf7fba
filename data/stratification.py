"""Dividing groups of images into splits, each with its share of the images and of every class."""
from collections.abc import Sequence

import numpy as np


def stratify(counts: np.ndarray, sizes: np.ndarray, shares: Sequence[float], seed: int = 0) -> np.ndarray:
    """Which split each group of images goes to, by iterative stratification.

    Sechidis, Tsoumakas and Vlahavas: On the Stratification of Multi-Label Data (ECML PKDD 2011,
    https://doi.org/10.1007/978-3-642-23808-6_10): of the class with the fewest groups left, each goes to the split that
    lacks most of that class. Besides, a split that has nothing of the class yet comes first; large groups come before
    small ones; and a split that has its share of the images gets no more.

    Args:
        counts: int [groups, classes], images in each group with objects of each class.
        sizes: int [groups], images in each group.
        shares: of the splits, all above 0, which add up to 1.
        seed: another one divides them otherwise.
    Returns:
        int64 [groups], from 0. No split is empty unless there are fewer groups than splits.
    """
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind='stable')]  # large groups first
    division = _Division(counts, sizes, np.array(shares, float))
    left = (counts > 0).copy()  # groups that are not in a split yet, by class
    while left.any():
        numbers = left.sum(0)
        label = int(np.where(numbers > 0, numbers, len(sizes) + 1).argmin())
        members = order[left[order, label]]
        division.spread(members, label)
        left[members] = False
    division.spread(order[division.splits[order] < 0])
    return division.splits


class _Division:
    """Groups on their way into splits.

    Attributes:
        splits: int64 [groups]; -1 for none yet.
    """

    def __init__(self, counts: np.ndarray, sizes: np.ndarray, shares: np.ndarray) -> None:
        self._counts, self._sizes, self._shares = counts, sizes, shares
        self._lacking = np.outer(shares, counts.sum(0))  # images of each class that each split is to get yet
        self._room = shares * sizes.sum()  # the same of all images
        self._has = np.zeros((len(shares), counts.shape[1] + 1), bool)  # classes; and, in the last column, any image
        self.splits = np.full(len(sizes), -1)

    def spread(self, groups: np.ndarray, label: int = -1) -> None:
        """Put groups, the large ones first, into splits by what these lack of a class; -1: of images."""
        rest = groups.tolist()
        for split in np.argsort(self._shares, kind='stable').tolist():
            if rest and not self._has[split, label]:
                self._put(rest.pop(), split)  # small groups for small splits
        for group in rest:
            lacking = self._room if label < 0 else self._lacking[:, label]
            open_splits = np.flatnonzero(self._room > 0)
            candidates = open_splits if len(open_splits) else np.arange(len(self._shares))
            best = max(candidates.tolist(), key=lambda split: (lacking[split], self._room[split]))
            self._put(group, best)

    def _put(self, group: int, split: int) -> None:
        self.splits[group] = split
        self._lacking[split] -= self._counts[group]
        self._room[split] -= self._sizes[group]
        self._has[split, :-1] |= self._counts[group] > 0
        self._has[split, -1] = True
