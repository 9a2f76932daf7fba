"""Seconds of one training step: forward, losses, backward and update.

    python -m benchmarks.train_step
    python -m benchmarks.train_step --public ../yolact    # beside the public code, which needs PyTorch
"""
import argparse
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from benchmarks.public_code import CONFIGS, open_public_code, public_module
from benchmarks.turns import Contestants, take_turns
from model.config import preset

OBJECTS = 9  # in each image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--public', help='folder of a checkout of the public code to compare with')
    parser.add_argument('--backbone_name', choices=CONFIGS, default='resnet50dcn')
    parser.add_argument('--batch_size', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=3)
    args = parser.parse_args()
    workload = args.backbone_name, args.batch_size
    contestants: Contestants = {'ours': (our_step, *workload),
                                "ours, with Paddle's deformable convolution": (native_step, *workload)}
    if args.public:
        contestants['public code'] = public_step, args.public, *workload
    seconds = take_turns(contestants, args.rounds)
    print(f'{args.backbone_name}, {args.batch_size} images of 550x550, best of {args.rounds}')
    for name, best in seconds.items():
        print(f'{best:7.2f} s  {best / seconds["ours"]:5.2f}  {name}')


def scenes(batch_size: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Images of noise with ellipses as objects.

    Yields:
        image uint8 [size, size, 3]; boxes float32 [n, 4], relative to it; labels int64 [n]; and masks uint8 [n, size,
        size], 0 or 1.
    """
    rng = np.random.default_rng(0)
    for _ in range(batch_size):
        corner = rng.uniform(0, 0.6, (OBJECTS, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (OBJECTS, 2))], 1).astype(np.float32)
        masks = np.zeros((OBJECTS, size, size), np.uint8)
        for mask, box in zip(masks, (boxes * size).astype(int)):
            cv2.ellipse(mask, (box[:2] + box[2:]) // 2, (box[2:] - box[:2]) // 2, 0, 0, 360, 1, -1)
        yield rng.integers(0, 256, (size, size, 3), np.uint8), boxes, rng.integers(0, 80, OBJECTS), masks


def our_step(backbone_name: str, batch_size: int) -> Callable[[], None]:
    """A callable that takes a training step with our code."""
    import paddle

    from data.augmentation import Sample
    from data.loader import Batches
    from model.losses import Criterion
    from model.yolact import Yolact
    from system.device import choose_device
    from training.optimizer import make_optimizer
    from training.recipe import PUBLISHED
    from training.step import targets_of
    choose_device('cpu')
    config = preset(backbone_name)
    samples = []
    for image, boxes, labels, masks in scenes(batch_size, config.input_size):
        semantic = np.zeros((config.num_classes - 1, *[config.level_sizes[0]] * 2), bool)
        samples.append(Sample(image, boxes, labels, np.zeros((0, 4), np.float32),
                              resized(masks, config.prototype_size), semantic))
        for label, mask in zip(labels, resized(masks, config.level_sizes[0])):
            semantic[label] |= mask
    network = Yolact(config)
    network.train()
    optimizer, criterion = make_optimizer(network, PUBLISHED), Criterion('ohem_loss', 'smooth_l1')
    dataset: Any = [None]  # collate does not use it
    batch = Batches(dataset, config, batch_size).collate(list(range(batch_size)), samples, [], np.random.default_rng(0))

    def step() -> None:
        outputs = network(paddle.to_tensor(batch.images))
        loss: Any = sum(criterion(network, outputs, targets_of(batch)).values())  # sum's type has the int 0, too
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    return step


def resized(masks: np.ndarray, size: int) -> np.ndarray:
    """Masks at another size: bool [n, size, size]."""
    return np.array([cv2.resize(mask, (size, size)) for mask in masks], bool)


def native_step(backbone_name: str, batch_size: int) -> Callable[[], None]:
    """The same with the operator that a GPU would use."""
    from paddle.vision.ops import deform_conv2d

    from model.backbones import deform_conv
    deform_conv.sampled_deform_conv = lambda x, offsets, masks, kernel, bias, stride: deform_conv2d(
        x, offsets, kernel, bias, stride, 1, mask=masks)
    return our_step(backbone_name, batch_size)


def public_step(checkout: str, backbone_name: str, batch_size: int) -> Callable[[], None]:
    """A callable that takes a training step with the public code."""
    config = open_public_code(checkout, backbone_name)
    import torch
    images, boxes, labels, masks = zip(*scenes(batch_size, config.max_size))
    targets = [torch.from_numpy(np.concatenate([b, c[:, None]], 1).astype(np.float32)) for b, c in zip(boxes, labels)]
    inputs = torch.from_numpy(np.stack(images)).float()
    network = public_module('yolact').Yolact()
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), 1e-4, 0.9, weight_decay=5e-4)
    criterion = public_module('layers.modules').MultiBoxLoss(
        config.num_classes, config.positive_iou_threshold, config.negative_iou_threshold, config.ohem_negpos_ratio)
    normalize = public_module('utils.augmentations').FastBaseTransform()

    def step() -> None:
        optimizer.zero_grad()
        outputs = network(normalize(inputs))
        losses = criterion(network, outputs, targets, [torch.from_numpy(mask.copy()) for mask in masks],
                           [0] * batch_size)
        sum(losses.values()).backward()
        optimizer.step()
    return step


if __name__ == '__main__':
    main()
