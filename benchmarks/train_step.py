"""Seconds of one training step on this machine: forward, losses, backward and update.

    python -m benchmarks.train_step
    python -m benchmarks.train_step --public ../yolact    # beside the public code, which needs PyTorch
"""
import argparse

import cv2
import numpy as np

from benchmarks.public_code import CONFIGS, open_public_code
from benchmarks.turns import take_turns
from model.config import preset

OBJECTS = 9  # an image


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--public', help='folder of a checkout of the public code to compare with')
    parser.add_argument('--backbone_name', choices=CONFIGS, default='resnet50dcn')
    parser.add_argument('--batch_size', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=3)
    args = parser.parse_args()
    what = args.backbone_name, args.batch_size
    contestants = {'ours': (our_step, *what), "ours, with Paddle's deformable convolution": (native_step, *what)}
    if args.public:
        contestants['public code'] = public_step, args.public, *what
    seconds = take_turns(contestants, args.rounds)
    print(f'{args.backbone_name}, {args.batch_size} images of 550x550, best of {args.rounds}')
    for name, best in seconds.items():
        print(f'{best:7.2f} s  {best / seconds["ours"]:5.2f}  {name}')


def scenes(batch_size, size):
    """Noise with ellipses for objects: images uint8 [n, size, size, 3], boxes, labels and masks at that size."""
    rng = np.random.default_rng(0)
    for _ in range(batch_size):
        corner = rng.uniform(0, 0.6, (OBJECTS, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (OBJECTS, 2))], 1).astype(np.float32)
        masks = np.zeros((OBJECTS, size, size), np.uint8)
        for mask, box in zip(masks, (boxes * size).astype(int)):
            cv2.ellipse(mask, (box[:2] + box[2:]) // 2, (box[2:] - box[:2]) // 2, 0, 0, 360, 1, -1)
        yield rng.integers(0, 256, (size, size, 3), np.uint8), boxes, rng.integers(0, 80, OBJECTS), masks


def our_step(backbone_name, batch_size):
    """A callable that takes a step of ours."""
    import paddle

    from data.augmentation import Sample
    from data.loader import Batches
    from model.losses import Criterion
    from model.yolact import Yolact
    from system.device import choose_device
    from training.optimizer import make_optimizer
    from training.step import targets_of
    choose_device('cpu')
    config = preset(backbone_name)
    samples = []
    for image, boxes, labels, masks in scenes(batch_size, config.input_size):
        semantic = np.zeros((config.num_classes - 1, *[config.level_sizes[0]] * 2), bool)
        samples.append(Sample(image, boxes, labels, np.zeros((0, 4), np.float32),
                              at_size(masks, config.prototype_size), semantic))
        for label, mask in zip(labels, at_size(masks, config.level_sizes[0])):
            semantic[label] |= mask
    network = Yolact(config)
    network.train()
    optimizer, criterion = make_optimizer(network), Criterion('ohem_loss', 'smooth_l1')
    batch = Batches([None], config, batch_size).collate(range(batch_size), samples, [], np.random.default_rng(0))

    def step():
        outputs = network(paddle.to_tensor(batch.images))
        sum(criterion(network, outputs, targets_of(batch)).values()).backward()
        optimizer.step()
        optimizer.clear_grad()
    return step


def at_size(masks, size):
    return np.array([cv2.resize(mask, (size, size)) for mask in masks], bool)


def native_step(backbone_name, batch_size):
    """The same with the operator that a GPU would use."""
    from paddle.vision.ops import deform_conv2d

    from model.backbones import deform_conv
    deform_conv.sampled_deform_conv = lambda x, offsets, weights, kernel, bias, stride: deform_conv2d(
        x, offsets, kernel, bias, stride, 1, mask=weights)
    return our_step(backbone_name, batch_size)


def public_step(checkout, backbone_name, batch_size):
    """A callable that takes a step of the public code's."""
    config = open_public_code(checkout, backbone_name)
    import torch
    from layers.modules import MultiBoxLoss
    from utils.augmentations import FastBaseTransform
    from yolact import Yolact
    images, boxes, labels, masks = zip(*scenes(batch_size, config.max_size))
    truth = [torch.from_numpy(np.concatenate([b, c[:, None]], 1).astype(np.float32)) for b, c in zip(boxes, labels)]
    images = torch.from_numpy(np.stack(images)).float()
    network = Yolact()
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), 1e-4, 0.9, weight_decay=5e-4)
    criterion = MultiBoxLoss(config.num_classes, config.positive_iou_threshold, config.negative_iou_threshold,
                             config.ohem_negpos_ratio)
    normalize = FastBaseTransform()

    def step():
        optimizer.zero_grad()
        outputs = network(normalize(images))
        losses = criterion(network, outputs, truth, [torch.from_numpy(mask.copy()) for mask in masks],
                           [0] * batch_size)
        sum(losses.values()).backward()
        optimizer.step()
    return step


if __name__ == '__main__':
    main()
