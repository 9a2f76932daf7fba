"""Deterministic inputs for the golden files beside this module: weights, images and targets.

Everything here is numpy only and bit-for-bit repeatable (``RandomState`` streams are frozen), so any
framework can build exactly the network, the image and the ground truth that the golden numbers were
computed from. ``tests/helpers/golden.py`` says what each golden file holds.
"""
import zlib
from typing import Any

import numpy as np


def weight(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """The value of one parameter or buffer, a function of its name in the public PyTorch checkpoint.

    Args:
        name: the key in the state dict, e.g. ``"backbone.layers.1.0.conv2.conv_offset_mask.weight"``.
        shape: its shape.
        seed: another seed gives another network.
    Returns:
        float32 array of that shape. Activations stay of order one through the whole network, DCN
        offsets stay around one pixel, and the class scores cross the detection threshold for some anchors.
    """
    rng = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        return rng.uniform(0.6, 1.4, shape).astype(np.float32)
    if leaf == "running_mean":
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    if len(shape) == 1 and leaf == "weight":  # batch norm scale; the last one of a residual branch is small
        scale = 0.3 if ".bn3." in name or ".conv2.1." in name else 1.0
        return (scale * rng.uniform(0.8, 1.2, shape)).astype(np.float32)
    if leaf == "bias":
        return (0.05 * rng.standard_normal(shape)).astype(np.float32)
    if len(shape) == 4:
        fan_in = shape[1] * shape[2] * shape[3]
        gain = 2.0
        for part, value in (("conv_offset_mask", 0.3), ("lat_layers", 0.25), ("conf_layer", 3.0),
                            ("bbox_layer", 0.4), ("mask_layer", 0.4), ("proto_net.10", 0.5)):
            if part in name:
                gain = value
        return (np.sqrt(gain / fan_in) * rng.standard_normal(shape)).astype(np.float32)
    raise ValueError(f"no rule for {name} {shape}")


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth, colourful test image. Returns uint8 array [height, width, 3], channels in BGR order."""
    rng = np.random.RandomState(1000 + seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    out = np.full((height, width, 3), 128.0)
    for _ in range(12):
        fy, fx = rng.uniform(-0.15, 0.15, 2)
        phase, amplitude = rng.uniform(0, 6.28, 3), rng.uniform(5, 22, 3)
        out += amplitude * np.sin((fy * y + fx * x)[..., None] + phase)
    for _ in range(8):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        ry, rx = rng.uniform(0.05, 0.3) * height, rng.uniform(0.05, 0.3) * width
        inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
        out[inside] = 0.35 * out[inside] + 0.65 * rng.uniform(0, 255, 3)
    return np.clip(out, 0, 255).astype(np.uint8)


def targets(size: int, batch: int, seed: int = 0, num_classes: int = 80) -> list[dict[str, Any]]:
    """Ground truth for a training batch: ellipses.

    Args:
        size: side of the square network input, in pixels.
        batch: number of images. The last image's last object is a crowd.
    Returns:
        One dict per image: ``boxes`` float32 [n, 4], x0 y0 x1 y1 relative to the image;
        ``labels`` int64 [n], 0-based classes without background; ``masks`` float32 [n, size, size] of 0
        and 1; ``num_crowds``, how many objects at the end of the lists are crowds.
    """
    rng = np.random.RandomState(2000 + seed)
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    out = []
    for index in range(batch):
        boxes, masks = [], []
        count = 3 + index % 3
        for _ in range(count):
            cx, cy = rng.uniform(0.25, 0.75, 2)
            rx, ry = rng.uniform(0.06, 0.24, 2)
            masks.append((((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1).astype(np.float32))
            boxes.append([cx - rx, cy - ry, cx + rx, cy + ry])
        out.append({
            "boxes": np.asarray(boxes, np.float32),
            "labels": rng.randint(0, num_classes, count).astype(np.int64),
            "masks": np.stack(masks),
            "num_crowds": 1 if index == batch - 1 else 0,
        })
    return out


def sample(array: np.ndarray, count: int = 2000, seed: int = 0) -> np.ndarray:
    """``count`` entries of an array at repeatable places, as float64 [count]."""
    flat = np.asarray(array, np.float64).reshape(-1)
    return flat[np.random.RandomState(3000 + seed).randint(0, flat.size, count)]


def predictions(num_priors: int, proto_size: int, seed: int = 0, num_classes: int = 81, mask_dim: int = 32,
                candidates: int = 1500) -> dict[str, np.ndarray]:
    """Network outputs for testing what follows the network: decoding, NMS and mask assembly.

    Args:
        num_priors: number of anchors; the last ones are the largest.
        proto_size: side of the square prototype maps.
    Returns:
        dict of float32 arrays: ``loc`` [num_priors, 4], ``conf`` [num_priors, num_classes] after softmax,
        ``mask`` [num_priors, mask_dim] in [-1, 1], ``proto`` [proto_size, proto_size, mask_dim],
        non-negative.
    """
    rng = np.random.RandomState(4000 + seed)
    logits = np.zeros((num_priors, num_classes))
    logits[:, 0] = 12.0
    chosen = np.concatenate([  # a third of the candidates anywhere, the rest among the large anchors
        rng.randint(0, num_priors, candidates // 3),
        rng.randint(int(num_priors * 0.93), num_priors, candidates - candidates // 3)])
    logits[chosen, rng.randint(1, 13, candidates)] = rng.uniform(7, 16, candidates)
    exp = np.exp(logits - logits.max(1, keepdims=True))
    y, x = np.mgrid[0:proto_size, 0:proto_size] / proto_size
    waves = [np.sin(6.28 * (rng.uniform(-4, 4) * y + rng.uniform(-4, 4) * x) + rng.uniform(0, 6.28))
             for _ in range(mask_dim)]
    return {
        "loc": (0.8 * rng.standard_normal((num_priors, 4))).astype(np.float32),
        "conf": (exp / exp.sum(1, keepdims=True)).astype(np.float32),
        "mask": np.tanh(rng.standard_normal((num_priors, mask_dim))).astype(np.float32),
        "proto": np.maximum(np.stack(waves, -1), 0).astype(np.float32),
    }
