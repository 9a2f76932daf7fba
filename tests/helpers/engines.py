"""The bundled model, and other checkpoints and detections that tests of the engines share."""
import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from data.images import find_images, read_image
from model.checkpoint import Checkpoint, tensors_of
from model.classes import Classes
from model.config import Config, preset
from model.postprocess import Detections
from model.yolact import Yolact
from prediction import Predictor
from tests.helpers import ROOT
from tests.helpers.networks import SMALL

SHIPPED = ROOT / 'weights/shapes.pd'
IMAGES = find_images(ROOT / 'images/test')
needs_onnx = pytest.mark.skipif(importlib.util.find_spec('onnxruntime') is None,
                                reason='there is no ONNX Runtime for Python 3.10 that has deformable convolution')


def copy_of_shipped(folder: Path) -> Path:
    """A copy of the bundled model in a folder, without a cache."""
    return Path(shutil.copytree(SHIPPED, folder / 'weights.pd'))


def cache_of(weights: Path) -> Path:
    """Where the cache of a checkpoint is."""
    return weights.with_name(f'.{weights.name}.fp32.zip')


def made_up_classes(config: Config) -> Classes:
    """As many classes as a network has."""
    ids = range(1, config.num_classes)
    return Classes(tuple(f'class {i}' for i in ids), tuple(ids))


def small_checkpoint(seed: int = 0, rescore_masks: bool = True) -> Checkpoint:
    """A checkpoint of a small network with random weights."""
    paddle.seed(seed)
    settings: dict[str, Any] = {**SMALL, 'rescore_masks': rescore_masks}
    network = Yolact(preset(**settings))
    return Checkpoint(network.config, made_up_classes(network.config), tensors_of(network))


def detections_of(predictor: Predictor) -> list[Detections]:
    """What it finds in three images of images/test."""
    return predictor([read_image(path) for path in IMAGES[:3]])


def paddle_detections(weights: Path) -> list[Detections]:
    """What Paddle finds in them."""
    return detections_of(Predictor.open(weights, 'cpu', 'paddle', score_threshold=0.3))


def assert_close_detections(found: list[Detections], expected: list[Detections]) -> None:
    """Detections in three images are the same one for one, but for rounding."""
    assert len(found) == len(expected) == 3
    for ours, theirs in zip(found, expected):
        assert len(ours) > 3
        np.testing.assert_array_equal(ours.classes, theirs.classes)
        np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=0.01)
        np.testing.assert_allclose(ours.box_scores, theirs.box_scores, atol=1e-4)
        np.testing.assert_allclose(ours.mask_scores, theirs.mask_scores, atol=1e-4)
        for i in range(len(ours)):
            union = (ours.full_mask(i) | theirs.full_mask(i)).sum()
            assert (ours.full_mask(i) & theirs.full_mask(i)).sum() >= 0.99 * union
