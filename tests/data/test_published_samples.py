"""The augmentations full and light make the samples that they made before there was any other."""
import numpy as np
import pytest

from data.augmentation import AUGMENTATIONS
from data.coco import Objects
from data.composition import Source, compose_sample
from model.config import preset
from tests.helpers import GOLDEN

CONFIG = preset('resnet18dcn_half', num_classes=4, input_size=256)
ELLIPSES = ((40, 30, 20, 1.2), (90, 60, 25, 0.7), (120, 20, 12, 0.5), (70, 45, 9, 2))  # x, y, radius, stretch


def drawn() -> Source:
    """An image of 140 x 90 with three objects and a crowd."""
    y, x = np.mgrid[:90, :140]
    image = np.stack([(x * 3 + y) % 256, (y * 2 + x * y // 50) % 256, (x + 2 * y) % 256], -1).astype(np.uint8)
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    polygons = [np.stack([cx + radius * np.cos(angles), cy + radius * stretch * np.sin(angles)], 1).round(2)
                for cx, cy, radius, stretch in ELLIPSES]
    boxes = np.float32([[*polygon.min(0), *polygon.max(0)] for polygon in polygons])
    return image, Objects(np.array([0, 2, 1, 1]), boxes, [[polygon] for polygon in polygons], 1)


def no_other() -> Source:
    raise AssertionError('another image is read')


@pytest.mark.parametrize('name', ['full', 'light'])
def test_samples_are_the_recorded_ones(name):
    """Twelve of each, recorded at commit fde22d5. Of the images every eighth pixel is recorded."""
    with np.load(GOLDEN / 'augmented_samples.npz') as file:
        expected = {key.removeprefix(f'{name}_'): file[key] for key in file if key.startswith(name)}
    samples = [compose_sample(drawn(), CONFIG, np.random.default_rng(seed), AUGMENTATIONS[name], no_other)
               for seed in range(12)]
    found = {'images': np.array([sample.image[4::8, 4::8] for sample in samples]),
             'masks': np.packbits(np.concatenate([sample.masks for sample in samples])),
             'semantic': np.packbits(np.array([sample.semantic for sample in samples])),
             **{field: np.concatenate([getattr(sample, field) for sample in samples])
                for field in ('boxes', 'labels', 'crowds')}}
    assert found.keys() == expected.keys()
    images = found.pop('images').astype(int), expected.pop('images').astype(int)
    np.testing.assert_allclose(*images, atol=1)  # since how OpenCV rounds floats depends on the processor
    for field, values in found.items():
        np.testing.assert_array_equal(values, expected[field], field)
