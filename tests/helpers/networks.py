"""Networks and batches that tests share."""
import numpy as np
import paddle
import paddle.nn.functional as F

from model.config import preset
from model.losses import Targets
from model.matcher import assign, corners, match
from model.parameter_names import public_name
from model.yolact import Yolact
from tests.helpers.golden import inputs

SMALL = dict(backbone_name='resnet18dcn_half', num_classes=9, input_size=256)


def golden_network(name: str) -> Yolact:
    """The preset's network with the weights that the golden numbers were computed from."""
    network = Yolact(preset(name))
    for key, value in network.state_dict().items():
        value.set_value(inputs.weight(public_name(key), tuple(value.shape)))
    return network


def golden_targets(network: Yolact, batch: int = 2) -> Targets:
    """The ground truth of the golden training steps, as the losses take it."""
    config, boxes, labels, masks, semantic, matches = network.config, [], [], [], [], []
    anchors = corners(network.anchors.numpy())
    for truth in inputs.targets(config.input_size, batch):
        real = slice(0, len(truth['boxes']) - truth['num_crowds'])
        crowds = truth['boxes'][real.stop:]
        matches.append(match(truth['boxes'][real], truth['labels'][real], crowds, anchors))
        boxes.append(truth['boxes'][real])
        labels.append(truth['labels'][real])
        masks.append(shrink(truth['masks'][real], config.prototype_size))
        present = np.zeros((config.num_classes - 1, *[config.level_sizes[0]] * 2), np.uint8)
        for label, mask in zip(labels[-1], shrink(truth['masks'][real], config.level_sizes[0])):
            present[label] |= mask
        semantic.append(present)
    assigned = assign(matches, [len(some) for some in boxes], np.random.default_rng(0))
    to = paddle.to_tensor
    return Targets(to(assigned.labels), to(np.concatenate(boxes)), to(np.concatenate(labels)),
                   to(np.concatenate(masks)), to(np.stack(semantic)), to(assigned.positives), to(assigned.matched),
                   [to(rows) for rows in assigned.masked], to(assigned.mask_weights))


def shrink(masks: np.ndarray, size: int) -> np.ndarray:
    """Masks float32 [n, h, w] at another size as the public code shrinks them: uint8 [n, size, size]."""
    small = F.interpolate(paddle.to_tensor(masks[None]), [size, size], mode='bilinear')
    return (small.numpy()[0] > 0.5).astype(np.uint8)
