"""Class losses: what the logits of n images with a anchors each cost.

All take logits, float32 [n, a, num_classes], and labels, int64 [n, a], as in `losses.Targets`; and by keyword what they
need of these, and ignore the rest:

- areas: float32 [n, a], area of the object that a positive anchor is matched with, relative to the image.
- negpos_ratio: background anchors a positive, in each image.
- divisor: what the criterion divides the loss by, for losses that are means themselves.
- class_weights: what an anchor of each class weighs; None for 1, which background always has.
"""
from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from system.distributed import all_reduce

Weights = Sequence[float] | None


def ce_loss(logits: Tensor, labels: Tensor, *, areas: Tensor, class_weights: Weights = None, **_: object) -> Tensor:
    """Cross entropy of every anchor that is not ignored; a positive weighs 2 less its object's area."""
    weights = paddle.where(labels > 0, 2 - areas, paddle.ones_like(areas))
    return (_cross_entropy(logits, labels, class_weights) * weights).sum()


def ohem_loss(logits: Tensor, labels: Tensor, *, negpos_ratio: int = 3, class_weights: Weights = None,
              **_: object) -> Tensor:
    """Cross entropy of positives and of the hardest background (OHEM; SSD, https://arxiv.org/abs/1512.02325, 2.2)."""
    positive = labels > 0
    with paddle.no_grad():
        hardness = paddle.logsumexp(logits, -1) - logits[..., 0]
        hardness = paddle.where(labels == 0, hardness, paddle.full_like(hardness, -1))
        rank = hardness.argsort(1, descending=True).argsort(1)
        wanted = negpos_ratio * positive.astype('int64').sum(1, keepdim=True)
        chosen = paddle.logical_or(positive, paddle.logical_and(rank < wanted, labels == 0))
    return (_cross_entropy(logits, labels, class_weights) * chosen.astype(logits.dtype)).sum()


def focal_loss(logits: Tensor, labels: Tensor, *, alpha: float = 0.25, gamma: float = 2, class_weights: Weights = None,
               **_: object) -> Tensor:
    """Focal loss of every class by itself (https://arxiv.org/abs/1708.02002, equation 5); background has none.

    Args:
        alpha: weight of an anchor's own class; the others weigh 1 - alpha.
        gamma: exponent of the modulating factor.
    """
    target = _one_hot(logits, labels)
    certainty = F.sigmoid(paddle.where(target > 0, logits[..., 1:], -logits[..., 1:]))
    balance = paddle.where(target > 0, paddle.full_like(target, alpha), paddle.full_like(target, 1 - alpha))
    entropy = F.binary_cross_entropy_with_logits(logits[..., 1:], target, reduction='none')
    weights = _anchor_weights(labels, class_weights).unsqueeze(-1)
    return (balance * (1 - certainty) ** gamma * entropy * weights).sum()


def ghm_c_loss(logits: Tensor, labels: Tensor, *, bins: int = 5, divisor: int = 1, class_weights: Weights = None,
               **_: object) -> Tensor:
    """Gradient harmonised classification (GHM-C, https://arxiv.org/abs/1811.05181, equations 8 and 9).

    Every class by itself. Entries are binned by the norm of their gradient, and all bins have equal total weight, so
    that neither the many easy entries nor the few outliers dominate. A mean, over all processes.

    Args:
        bins: number of equal parts of the norm, 0 to 1.
    """
    target, counted = _one_hot(logits, labels), _not_ignored(labels)
    with paddle.no_grad():
        norm = (F.sigmoid(logits[..., 1:]) - target).abs()
        place = paddle.clip((norm * bins).astype('int64'), 0, bins - 1)  # NaN lands in some bin
        members = paddle.expand_as(counted, norm)
        counts = all_reduce(paddle.zeros([bins]).scatter_nd_add(place.reshape([-1, 1]), members.flatten()))
        shares = 1 / paddle.clip(counts, min=1) / paddle.clip((counts > 0).astype('float32').sum(), min=1)
        weights = shares.gather(place.flatten()).reshape(place.shape) * members
    entropy = F.binary_cross_entropy_with_logits(logits[..., 1:], target, reduction='none')
    return (entropy * weights * _anchor_weights(labels, class_weights).unsqueeze(-1)).sum() * divisor


def _cross_entropy(logits: Tensor, labels: Tensor, class_weights: Weights) -> Tensor:
    """float32 [n, a], zero for ignored anchors."""
    entropy = F.cross_entropy(logits, labels.unsqueeze(-1), ignore_index=-1, reduction='none').squeeze(-1)
    return entropy if class_weights is None else entropy * _anchor_weights(labels, class_weights)


def _anchor_weights(labels: Tensor, class_weights: Weights) -> Tensor:
    """float32 [n, a]: the weight of an anchor's class, 1 for background, 0 for ignored anchors."""
    not_ignored = (labels >= 0).astype('float32')
    if class_weights is None:
        return not_ignored
    weights = paddle.to_tensor([1.0, *class_weights])
    return weights.gather(paddle.clip(labels, min=0).flatten()).reshape(labels.shape) * not_ignored


def _one_hot(logits: Tensor, labels: Tensor) -> Tensor:
    """Targets of sigmoid scores, without background: float32 [n, a, num_classes - 1]."""
    return F.one_hot(paddle.clip(labels, min=0), logits.shape[-1])[..., 1:]


def _not_ignored(labels: Tensor) -> Tensor:
    """float32 [n, a, 1] of 0 and 1."""
    return (labels >= 0).astype('float32').unsqueeze(-1)
