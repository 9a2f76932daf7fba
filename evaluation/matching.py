"""Which results match which ground-truth objects of an image: IoUs, and the assignment that COCO's evaluation makes."""
from typing import Any

import numpy as np
from pycocotools import mask as mask_api

MIN_IOU = 0.5  # of a result and the object that it matches


def pairwise_ious(entries: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> np.ndarray:
    """IoUs of results with annotations, by their masks if all results have one, otherwise by their boxes.

    Args:
        entries: as from `results.to_coco`.
        annotations: as `CocoDataset.annotations` has them.
    Returns:
        float64 [entries, annotations]; with a crowd, the part of the entry that is inside.
    """
    if not entries or not annotations:
        return np.zeros((len(entries), len(annotations)))
    key = 'segmentation' if all('segmentation' in entry for entry in entries) else 'bbox'
    found, true = ([one[key] for one in some] for some in (entries, annotations))
    crowd = [one['iscrowd'] for one in annotations]
    if key == 'bbox':
        return np.asarray(mask_api.iou(np.array(found, np.float64), np.array(true, np.float64), crowd))
    return np.asarray(mask_api.iou(found, true, crowd))


def assign(allowed: np.ndarray, ious: np.ndarray, partners: dict[int, int] | None = None) -> dict[int, int]:
    """Give each result, in order, the object with the highest IoU among those that are left.

    Args:
        allowed: bool [results, objects], best results first: which pairs may match.
        ious: float64 [results, objects].
        partners: dict of results to objects that have one another already.
    Returns:
        dict of results to objects, these and the new ones.
    """
    partners = dict(partners or {})
    taken = set(partners.values())
    for r, o in sorted(np.argwhere(allowed).tolist(), key=lambda pair: (pair[0], -ious[tuple(pair)])):
        if r not in partners and o not in taken:
            partners[r] = o
            taken.add(o)
    return partners
