"""The five losses of YOLACT++ (https://arxiv.org/abs/1904.02689, section 3; https://arxiv.org/abs/1912.06218).

Each is a sum. `Criterion` weighs them and divides by the number of positive anchors, the semantic loss by the number of
images. The class and box losses are in modules of their own.
"""
from dataclasses import dataclass
from typing import NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from model import box_losses, class_losses
from model.boxes import box_area
from model.yolact import Outputs, Yolact

WEIGHTS = {'box': 1.5, 'mask': 6.125, 'class': 1.0, 'mask_iou': 25.0, 'semantic': 1.0}
MIN_MASK_AREA = 25  # prototype pixels; smaller masks teach the mask-IoU net nothing


class Targets(NamedTuple):
    """The targets of a batch of n images with m ground-truth objects, crowds apart.

    Attributes:
        labels: int64 [n, a], class + 1 of a positive anchor, 0 for background, -1 for an ignored anchor.
        boxes: float32 [m, 4], x0 y0 x1 y1 relative to their image.
        classes: int64 [m], without background.
        masks: uint8 [m, h, w], 0 and 1, at the size of the prototypes.
        semantic: uint8 [n, num_classes - 1, h / 2, w / 2], 1 where an object of that class is.
        positives: int64 [p], positive anchors, counted through the batch (image × a + anchor).
        matched: int64 [p], index of the ground-truth object that each of them is matched with.
        masked: for each image int64 [q], which of the p positives learn masks.
        mask_weights: float32 [n], what each of them counts, to make up for those that were left out.
    """
    labels: Tensor
    boxes: Tensor
    classes: Tensor
    masks: Tensor
    semantic: Tensor
    positives: Tensor
    matched: Tensor
    masked: list[Tensor]
    mask_weights: Tensor


def mask_loss(logits: Tensor, targets: Tensor, boxes: Tensor) -> Tensor:
    """Binary cross entropy inside the ground-truth box, as a mean over the box (YOLACT, section 3.2, "Cropping Masks").

    Args:
        logits: float32 [h, w, q], prototypes times coefficients.
        targets: float32 [h, w, q], 0 and 1.
        boxes: float32 [q, 4], relative.
    """
    height, width = logits.shape[:2]
    inside = crop(height, width, boxes)
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction='none') * inside
    return (entropy.sum([0, 1]) / box_area(boxes)).sum() / (height * width)


def mask_iou_loss(predicted: Tensor, masks: Tensor, targets: Tensor, classes: Tensor) -> Tensor:
    """Smooth L1 between predicted and real IoU of masks (YOLACT++, section 5.1).

    Args:
        predicted: float32 [q, num_classes - 1], of the mask-IoU net.
        masks: float32 [h, w, q], after sigmoid, cropped to their boxes.
        targets: float32 [h, w, q], 0 and 1, none of them empty.
        classes: int64 [q].
    """
    with paddle.no_grad():
        binary = (masks > 0.5).astype(targets.dtype)
        shared = (binary * targets).sum([0, 1])
        real = shared / (binary.sum([0, 1]) + targets.sum([0, 1]) - shared)
    of_class = (predicted * F.one_hot(classes, predicted.shape[1])).sum(1)
    return F.smooth_l1_loss(of_class, real, reduction='sum')


def semantic_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross entropy of every class at every pixel, as a mean over pixels (YOLACT, section 4.3).

    Args:
        logits: float32 [n, num_classes - 1, h, w].
        targets: the same of 0 and 1.
    """
    height, width = logits.shape[2:]
    return F.binary_cross_entropy_with_logits(logits, targets, reduction='sum') / (height * width)


def crop(height: int, width: int, boxes: Tensor) -> Tensor:
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


@dataclass(frozen=True)
class Criterion:
    """All losses of a batch.

    Args:
        conf_loss: a key of `loss_names.CLASS_LOSSES`.
        box_loss: one of `loss_names.BOX_LOSSES`.
        negpos_ratio: background anchors a positive, for 'ohem_loss'.
        box_weight: weight of the box loss.
        class_weights: weight of each class in the class loss, without background; None for 1.
    """
    conf_loss: str = 'ce_loss'
    box_loss: str = 'ciou'
    negpos_ratio: int = 3
    box_weight: float = WEIGHTS['box']
    class_weights: tuple[float, ...] | None = None

    def __call__(self, network: Yolact, outputs: Outputs, targets: Targets, positives: int | None = None,
                 images: int | None = None) -> dict[str, Tensor]:
        """
        Args:
            network: gave the outputs; its anchors and mask-IoU net are used.
            outputs: of a forward pass in training.
            targets: of the same images.
            positives, images: how many there are in the whole batch, where this is only a part of it.
        Returns:
            Weighted scalars by name: box, mask, class, mask_iou (YOLACT++ only), semantic.
        """
        names = [name for name in WEIGHTS if name != 'mask_iou' or network.config.rescore_masks]
        sums = dict.fromkeys(names, paddle.zeros([]))
        divisor = max(positives or len(targets.positives), 1)
        sums['class'] = self._class_loss(outputs.logits, targets, divisor)
        if len(targets.positives):
            sums['box'] = self._box_loss(network, outputs, targets)
            sums.update(_mask_losses(network, outputs, targets))
        weights = {**WEIGHTS, 'box': self.box_weight}
        losses = {name: value * weights[name] / divisor for name, value in sums.items()}
        assert outputs.semantic is not None  # in training
        semantic = semantic_loss(outputs.semantic, targets.semantic.astype('float32'))
        losses['semantic'] = semantic * WEIGHTS['semantic'] / (images or len(outputs.semantic))
        return losses

    def _class_loss(self, logits: Tensor, targets: Targets, divisor: int) -> Tensor:
        areas = paddle.zeros([targets.labels.size])
        if len(targets.positives):
            areas = paddle.scatter(areas, targets.positives, box_area(targets.boxes.gather(targets.matched)))
        loss = getattr(class_losses, self.conf_loss)
        return loss(logits, targets.labels, areas=areas.reshape(targets.labels.shape), negpos_ratio=self.negpos_ratio,
                    divisor=divisor, class_weights=self.class_weights)

    def _box_loss(self, network: Yolact, outputs: Outputs, targets: Targets) -> Tensor:
        offsets = outputs.offsets.reshape([-1, 4]).gather(targets.positives)
        anchors = network.anchors.gather(targets.positives % len(network.anchors))
        loss = getattr(box_losses, self.box_loss)
        return loss(offsets, anchors, targets.boxes.gather(targets.matched))


def _mask_losses(network: Yolact, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
    """The mask loss, and of a network that re-scores its masks the mask-IoU loss."""
    total, assembled = paddle.zeros([]), []
    coefficients = outputs.coefficients.reshape([-1, outputs.coefficients.shape[-1]])
    for image, masked in enumerate(targets.masked):
        if not len(masked):
            continue
        matched = targets.matched.gather(masked)
        boxes = targets.boxes.gather(matched)
        target = targets.masks.gather(matched).transpose([1, 2, 0]).astype('float32')
        logits = outputs.prototypes[image] @ coefficients.gather(targets.positives.gather(masked)).T
        total += mask_loss(logits, target, boxes) * targets.mask_weights[image]
        masks = F.sigmoid(logits) * crop(logits.shape[0], logits.shape[1], boxes)
        assembled.append((masks, target, targets.classes.gather(matched)))
    losses = {'mask': total}
    if network.config.rescore_masks:
        losses['mask_iou'] = _rescoring_loss(network, assembled)
    return losses


def _rescoring_loss(network: Yolact, assembled: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The mask-IoU loss of masks, their targets and classes, image by image, without those that are too small."""
    masks, targets = (paddle.concat([part[k] for part in assembled], -1) for k in (0, 1))
    classes = paddle.concat([part[2] for part in assembled])
    large = (targets.sum([0, 1]) > MIN_MASK_AREA).nonzero().flatten()
    if not len(large):
        return paddle.zeros([])
    # Not gather: along an axis other than the first, its gradient may be wrong in Paddle 2.6.
    masks, targets = (paddle.index_select(part, large, axis=2) for part in (masks, targets))
    classes = classes.gather(large)
    return mask_iou_loss(network.maskiou_net(masks.transpose([2, 0, 1]).unsqueeze(1)), masks, targets, classes)
