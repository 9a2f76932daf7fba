"""The five losses of YOLACT++ (https://arxiv.org/abs/1904.02689, section 3; https://arxiv.org/abs/1912.06218).

Each is a sum over what it judges. `Criterion` weighs them and divides by the number of positive anchors, the
semantic loss by the number of images.
"""
from dataclasses import dataclass
from typing import NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from model.boxes import ciou, decode, encode
from system.distributed import all_reduce

WEIGHTS = {'box': 1.5, 'mask': 6.125, 'class': 1.0, 'mask_iou': 25.0, 'semantic': 1.0}
MIN_MASK_AREA = 25  # prototype pixels; smaller masks teach the mask-IoU net nothing


class Targets(NamedTuple):
    """What a batch of n images with m objects, crowds apart, is to be recognised as.

    Attributes:
        labels: int64 [n, a], class + 1 of a positive anchor, 0 for background, -1 for neither.
        boxes: float32 [m, 4], x0 y0 x1 y1 relative to their image.
        classes: int64 [m], without background.
        masks: uint8 [m, h, w], 0 and 1, at the size of the prototypes.
        semantic: uint8 [n, num_classes - 1, h / 2, w / 2], 1 where an object of that class is.
        positives: int64 [p], positive anchors, counted through the batch (image × a + anchor).
        objects: int64 [p], the object that each of them is to find.
        masked: for each image int64 [q], which of the p positives learn masks.
        mask_weights: float32 [n], what each of them counts, to make up for those that were left out.
    """
    labels: Tensor
    boxes: Tensor
    classes: Tensor
    masks: Tensor
    semantic: Tensor
    positives: Tensor
    objects: Tensor
    masked: list
    mask_weights: Tensor


def ciou_loss(offsets, anchors, boxes):
    """1 - CIoU of each predicted box, small objects up to twice as heavy: times 2 less the box's area.

    Args:
        offsets: float32 [p, 4], predicted.
        anchors: float32 [p, 4], their anchors.
        boxes: float32 [p, 4], the true ones.
    """
    return ((2 - area(boxes)) * (1 - ciou(decode(offsets, anchors), boxes))).sum()


def smooth_l1_loss(offsets, anchors, boxes):
    """Smooth L1 of the offsets (SSD, https://arxiv.org/abs/1512.02325, equation 2). Arguments as in `ciou_loss`."""
    return F.smooth_l1_loss(offsets, encode(boxes, anchors), reduction='sum')


def ce_loss(logits, labels, areas):
    """Cross entropy of every anchor that is positive or background; positives count 2 less their object's area.

    Args:
        logits: float32 [n, a, num_classes].
        labels: int64 [n, a], as in `Targets`.
        areas: float32 [n, a], area of the object that a positive anchor is to find, relative to the image.
    """
    weights = paddle.where(labels > 0, 2 - areas, paddle.ones_like(areas))
    return (_cross_entropy(logits, labels) * weights).sum()


def ohem_loss(logits, labels, negpos_ratio=3):
    """Cross entropy of the positives and of the hardest background (SSD, https://arxiv.org/abs/1512.02325, 2.2).

    Args:
        logits, labels: as in `ce_loss`.
        negpos_ratio: how many background anchors a positive, in each image.
    """
    positive = labels > 0
    with paddle.no_grad():
        hardness = paddle.logsumexp(logits, -1) - logits[..., 0]
        hardness = paddle.where(labels == 0, hardness, paddle.full_like(hardness, -1))
        rank = hardness.argsort(1, descending=True).argsort(1)
        wanted = negpos_ratio * positive.astype('int64').sum(1, keepdim=True)
        chosen = paddle.logical_or(positive, paddle.logical_and(rank < wanted, labels == 0))
    return (_cross_entropy(logits, labels) * chosen.astype(logits.dtype)).sum()


def focal_loss(logits, labels, alpha=0.25, gamma=2):
    """Focal loss of every class by itself (https://arxiv.org/abs/1708.02002, equation 5); background has none.

    Args:
        logits, labels: as in `ce_loss`.
        alpha: weight of an anchor's own class; the others weigh 1 - alpha.
        gamma: how much less a class counts that is told well.
    """
    truth = _one_hot(logits, labels)
    certainty = F.sigmoid(paddle.where(truth > 0, logits[..., 1:], -logits[..., 1:]))
    balance = paddle.where(truth > 0, paddle.full_like(truth, alpha), paddle.full_like(truth, 1 - alpha))
    entropy = F.binary_cross_entropy_with_logits(logits[..., 1:], truth, reduction='none')
    return (balance * (1 - certainty) ** gamma * entropy * _judged(labels)).sum()


def ghm_c_loss(logits, labels, bins=5):
    """Gradient harmonised classification (GHM-C, https://arxiv.org/abs/1811.05181, equations 8 and 9).

    Every class by itself. What is told about equally well lies in one bin, and all bins weigh the same in all, so
    that neither the many easy ones nor the few hopeless ones decide. Unlike the others it is a mean, over what all
    processes see.

    Args:
        logits, labels: as in `ce_loss`.
        bins: into how many equal parts the norm of the gradient, 0 to 1, is divided.
    """
    truth, judged = _one_hot(logits, labels), _judged(labels)
    with paddle.no_grad():
        norm = (F.sigmoid(logits[..., 1:]) - truth).abs()
        place = paddle.clip((norm * bins).astype('int64'), 0, bins - 1)  # whatever is not finite is somewhere
        members = paddle.expand_as(judged, norm)
        counts = all_reduce(paddle.zeros([bins]).scatter_nd_add(place.reshape([-1, 1]), members.flatten()))
        shares = 1 / paddle.clip(counts, min=1) / paddle.clip((counts > 0).astype('float32').sum(), min=1)
        weights = shares.gather(place.flatten()).reshape(place.shape) * members
    return (F.binary_cross_entropy_with_logits(logits[..., 1:], truth, reduction='none') * weights).sum()


def mask_loss(logits, truth, boxes):
    """Binary cross entropy inside the true box, as a mean over the box (YOLACT, section 3.2, "Cropping Masks").

    Args:
        logits: float32 [h, w, q], prototypes times coefficients.
        truth: float32 [h, w, q], 0 and 1.
        boxes: float32 [q, 4], relative.
    """
    height, width = logits.shape[:2]
    inside = crop(height, width, boxes)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction='none') * inside
    return (entropy.sum([0, 1]) / area(boxes)).sum() / (height * width)


def mask_iou_loss(predicted, masks, truth, classes):
    """Smooth L1 between predicted and real IoU of masks (YOLACT++, section 5.1).

    Args:
        predicted: float32 [q, num_classes - 1], of the mask-IoU net.
        masks: float32 [h, w, q], after sigmoid, cropped to their boxes.
        truth: float32 [h, w, q], 0 and 1, none of them empty.
        classes: int64 [q].
    """
    with paddle.no_grad():
        binary = (masks > 0.5).astype(truth.dtype)
        shared = (binary * truth).sum([0, 1])
        real = shared / (binary.sum([0, 1]) + truth.sum([0, 1]) - shared)
    of_class = (predicted * F.one_hot(classes, predicted.shape[1])).sum(1)
    return F.smooth_l1_loss(of_class, real, reduction='sum')


def semantic_loss(logits, truth):
    """Binary cross entropy of every class at every pixel, as a mean over pixels (YOLACT, section 4.3).

    Args:
        logits: float32 [n, num_classes - 1, h, w].
        truth: the same of 0 and 1.
    """
    height, width = logits.shape[2:]
    return F.binary_cross_entropy_with_logits(logits, truth, reduction='sum') / (height * width)


def crop(height, width, boxes):
    """Which pixels of a grid belong to a box, one pixel more on every side.

    Args:
        boxes: float32 [q, 4], relative.
    Returns:
        float32 [height, width, q] of 0 and 1.
    """
    x = paddle.arange(width, dtype=boxes.dtype).reshape([1, width, 1])
    y = paddle.arange(height, dtype=boxes.dtype).reshape([height, 1, 1])
    x0, y0, x1, y1 = boxes.unbind(1)
    across = paddle.logical_and(x >= x0 * width - 1, x < x1 * width + 1)
    down = paddle.logical_and(y >= y0 * height - 1, y < y1 * height + 1)
    return paddle.logical_and(across, down).astype(boxes.dtype)


def area(boxes):
    """Of boxes, float32 [n, 4], as float32 [n]."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _cross_entropy(logits, labels):
    """float32 [n, a], zero for neutral anchors."""
    return F.cross_entropy(logits, labels.unsqueeze(-1), ignore_index=-1, reduction='none').squeeze(-1)


def _one_hot(logits, labels):
    """Which classes, without background, are an anchor's own: float32 [n, a, num_classes - 1]."""
    return F.one_hot(paddle.clip(labels, min=0), logits.shape[-1])[..., 1:]


def _judged(labels):
    """Anchors that are not neutral: float32 [n, a, 1] of 0 and 1."""
    return (labels >= 0).astype('float32').unsqueeze(-1)


BOX_LOSSES = {'ciou': ciou_loss, 'smooth_l1': smooth_l1_loss}


@dataclass(frozen=True)
class Criterion:
    """All losses of a batch.

    Args:
        conf_loss: 'ce_loss', 'ohem_loss', 'focal_loss' or 'ghm_c_loss'.
        box_loss: 'ciou' or 'smooth_l1'.
        negpos_ratio: background anchors a positive, for 'ohem_loss'.
    """
    conf_loss: str = 'ce_loss'
    box_loss: str = 'ciou'
    negpos_ratio: int = 3

    def __call__(self, network, outputs, targets, positives=None, images=None):
        """
        Args:
            network: the `Yolact` that gave the outputs (its anchors and mask-IoU net are used).
            outputs: `Outputs` in training.
            targets: `Targets`.
            positives, images: how many there are in the whole batch, where this is only a part of it.
        Returns:
            dict of scalars by name, weighted: box, mask, class, mask_iou (YOLACT++ only), semantic.
        """
        names = [name for name in WEIGHTS if name != 'mask_iou' or network.config.rescore_masks]
        sums = dict.fromkeys(names, paddle.zeros([]))
        count = max(positives or len(targets.positives), 1)
        sums['class'] = self._classes(outputs.logits, targets)
        if self.conf_loss == 'ghm_c_loss':  # a mean of its own
            sums['class'] *= count
        if len(targets.positives):
            sums['box'] = self._boxes(network, outputs, targets)
            sums.update(_masks(network, outputs, targets))
        losses = {name: value * WEIGHTS[name] / count for name, value in sums.items()}
        semantic = semantic_loss(outputs.semantic, targets.semantic.astype('float32'))
        losses['semantic'] = semantic * WEIGHTS['semantic'] / (images or len(outputs.semantic))
        return losses

    def _classes(self, logits, targets):
        if self.conf_loss == 'ohem_loss':
            return ohem_loss(logits, targets.labels, self.negpos_ratio)
        if self.conf_loss == 'focal_loss':
            return focal_loss(logits, targets.labels)
        if self.conf_loss == 'ghm_c_loss':
            return ghm_c_loss(logits, targets.labels)
        areas = paddle.zeros([targets.labels.size])
        if len(targets.positives):
            areas = paddle.scatter(areas, targets.positives, area(targets.boxes.gather(targets.objects)))
        return ce_loss(logits, targets.labels, areas.reshape(targets.labels.shape))

    def _boxes(self, network, outputs, targets):
        offsets = outputs.offsets.reshape([-1, 4]).gather(targets.positives)
        anchors = network.anchors.gather(targets.positives % len(network.anchors))
        return BOX_LOSSES[self.box_loss](offsets, anchors, targets.boxes.gather(targets.objects))


def _masks(network, outputs, targets):
    """The mask loss, and where the network judges its masks, the mask-IoU loss."""
    total, judged = 0, []
    coefficients = outputs.coefficients.reshape([-1, outputs.coefficients.shape[-1]])
    for image, masked in enumerate(targets.masked):
        if not len(masked):
            continue
        objects = targets.objects.gather(masked)
        boxes = targets.boxes.gather(objects)
        truth = targets.masks.gather(objects).transpose([1, 2, 0]).astype('float32')
        logits = outputs.prototypes[image] @ coefficients.gather(targets.positives.gather(masked)).T
        total += mask_loss(logits, truth, boxes) * targets.mask_weights[image]
        judged.append((F.sigmoid(logits) * crop(*logits.shape[:2], boxes), truth, targets.classes.gather(objects)))
    losses = {'mask': total}
    if network.config.rescore_masks:
        losses['mask_iou'] = _judgement(network, judged)
    return losses


def _judgement(network, judged):
    masks, truth = (paddle.concat(parts, -1) for parts in list(zip(*judged))[:2])
    classes = paddle.concat([part[2] for part in judged])
    large = (truth.sum([0, 1]) > MIN_MASK_AREA).nonzero().flatten()
    if not len(large):
        return paddle.zeros([])
    # Not gather: along an axis other than the first, its gradient may be wrong in Paddle 2.6.
    masks, truth = (paddle.index_select(part, large, axis=2) for part in (masks, truth))
    classes = classes.gather(large)
    return mask_iou_loss(network.maskiou_net(masks.transpose([2, 0, 1]).unsqueeze(1)), masks, truth, classes)
