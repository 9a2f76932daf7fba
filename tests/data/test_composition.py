"""Several images in one sample: what is where, and what is left of what is covered."""
import dataclasses
from functools import partial

import numpy as np
import pytest

from data.augmentation import AUGMENTATIONS, FILL_COLOUR, Augmentation
from data.coco import CocoDataset, Objects
from data.composition import compose_sample
from data.loader import Batches
from model.config import preset
from tools.shapes import write_dataset

CONFIG = preset('resnet18dcn_half', num_classes=9, input_size=320)
MOSAIC, PASTE = Augmentation(mosaic=1.0), Augmentation(copy_paste=1.0)


def square(x0, y0, x1, y1):
    return [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)]


def source(grey, label, *boxes, size=100):
    """A grey image with squares of twice that brightness."""
    image = np.full((size, size, 3), grey, np.uint8)
    for x0, y0, x1, y1 in boxes:
        image[y0:y1, x0:x1] = 2 * grey
    return image, Objects(np.full(len(boxes), label), np.float32(boxes).reshape(-1, 4),
                          [square(*box) for box in boxes], 0)


def bounds(mask):
    y, x = np.nonzero(mask)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) / len(mask)


@pytest.fixture
def undistorted(monkeypatch):
    monkeypatch.setattr('data.augmentation.photometric_distortion', lambda image, rng: image)


def test_a_mosaic_has_four_images_around_a_point(undistorted):
    greys = [20, 40, 60, 80]
    for seed in range(30):
        others = iter([source(grey, label, (30, 30, 70, 70)) for label, grey in enumerate(greys[1:], 1)])
        sample = compose_sample(source(greys[0], 0, (30, 30, 70, 70)), CONFIG, np.random.default_rng(seed), MOSAIC,
                                partial(next, others))
        pixels = sample.image[..., 0]
        seen = [np.isin(pixels, (grey, 2 * grey)) for grey in (20, 60)]  # 40 is 2 * 20, 80 is 2 * 40
        assert seen[0].any() and seen[1].any()
        for box, label, mask in zip(sample.boxes, sample.labels, sample.masks, strict=True):
            np.testing.assert_allclose(bounds(mask), box, atol=1.01 / CONFIG.prototype_size)
            x0, y0, x1, y1 = (box * 320).round().astype(int)
            assert (pixels[y0 + 2:y1 - 2, x0 + 2:x1 - 2] == 2 * greys[label]).all()
            assert (sample.semantic[label] >= 0).all() and sample.semantic[label].any()
        fill = (sample.image == FILL_COLOUR).all(-1)
        assert not fill.all()


def test_objects_that_a_mosaic_cuts_off_are_left_out():
    """Each kept box has a quarter of its area in its part of the mosaic at least."""
    numbers = [len(compose_sample(source(20, 0, (0, 0, 100, 100)), CONFIG, np.random.default_rng(seed), MOSAIC,
                                  lambda: source(40, 1, (0, 0, 100, 100))).boxes) for seed in range(30)]
    assert min(numbers) >= 1 and max(numbers) <= 4


def test_a_pasted_object_covers_what_is_under_it(undistorted):
    """The whole image is an object; what is pasted is cut out of its mask, its semantic target and its pixels."""
    found = 0
    for seed in range(30):
        sample = compose_sample(source(20, 0, (0, 0, 100, 100)), CONFIG, np.random.default_rng(seed), PASTE,
                                lambda: source(60, 1, (10, 20, 50, 70)))
        assert sample.labels.tolist() == [0, 1]
        under, over = sample.masks
        assert not (under & over).any() and (under | over).all()
        assert not (sample.semantic[0] & sample.semantic[1]).any()
        np.testing.assert_allclose(bounds(over), sample.boxes[1], atol=1.01 / CONFIG.prototype_size)
        assert sample.boxes[0].tolist() == [0, 0, 1, 1]
        pixels = sample.image[..., 0]
        assert (pixels > 80).mean() == pytest.approx(0.2, abs=0.005)  # its edges are interpolated
        assert np.isin(pixels, (40, 120)).mean() > 0.98
        found += 1
    assert found == 30


@pytest.mark.parametrize('box, left', [((10, 20, 40, 70), False), ((0, 20, 100, 70), True), ((10, 20, 60, 70), True)])
def test_an_object_with_little_left_is_left_out_and_one_with_more_gets_a_smaller_box(undistorted, box, left):
    """Pasted: x 10 to 50, y 20 to 70, or mirrored."""
    for seed in range(10):
        sample = compose_sample(source(20, 0, box), CONFIG, np.random.default_rng(seed), PASTE,
                                lambda: source(60, 1, (10, 20, 50, 70)))
        mirrored = sample.boxes[-1][0] > 0.2
        covered = np.float32([0.5, 0.2, 0.9, 0.7] if mirrored else [0.1, 0.2, 0.5, 0.7])
        np.testing.assert_allclose(sample.boxes[-1], covered, atol=1e-6)
        for kept, mask in zip(sample.boxes[:-1], sample.masks[:-1]):
            np.testing.assert_allclose(bounds(mask), kept, atol=1.01 / CONFIG.prototype_size)
        if box == (0, 20, 100, 70):
            assert len(sample.boxes) == 2
        elif not left and len(sample.boxes) == 2:  # the image was mirrored, but not what is pasted, or the reverse
            assert sample.boxes[0][0] != pytest.approx(covered[0])


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shapes')
    write_dataset(folder, train=6, val=0, test=0, width=160, height=120)
    return CocoDataset(folder / 'annotations/instances_train.json', folder / 'train')


HEAVIEST = dataclasses.replace(AUGMENTATIONS['strong'], rotation=30.0, vertical_flip=True, mosaic=0.5, copy_paste=0.5)


def test_masks_lie_in_their_boxes_and_fill_them_unless_they_are_cut_off(dataset):
    batches = Batches(dataset, CONFIG, 1, augmentation=HEAVIEST)
    filled = []
    for step in range(40):
        batch = batches[step]
        assert len(batch.boxes) == len(batch.masks) == len(batch.classes)
        for box, mask in zip(batch.boxes, batch.masks):
            if mask.any():
                tight, pixel = bounds(mask), 1 / CONFIG.prototype_size
                assert (tight[:2] >= box[:2] - pixel).all() and (tight[2:] <= box[2:] + pixel).all()
                filled.append(np.abs(tight - box).max() <= 1.6 * pixel)
    assert len(filled) > 60 and np.mean(filled) > 0.8


def test_samples_depend_on_seed_and_step_alone(dataset):
    batches = Batches(dataset, CONFIG, 2, seed=3, augmentation=HEAVIEST)
    for ours, prefetched in zip((batches[step] for step in range(6)), batches.prefetch(0, 6, workers=2)):
        for one, other in zip(ours[1:6], prefetched[1:6]):
            np.testing.assert_array_equal(one, other)
