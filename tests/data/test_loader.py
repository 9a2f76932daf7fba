from pathlib import Path

import numpy as np
import pytest

from data.augmentation import AUGMENTATIONS, Augmentation
from data.coco import CocoDataset
from data.composition import MAX_OBJECTS
from data.images import ImageError, read_image, write_image
from data.loader import NEIGHBOURS, Batch, Batches
from model.anchors import anchors
from model.box_iou import box_iou
from model.config import preset
from model.matcher import corners
from tests.helpers.bad_annotations import annotation, content, many_objects, write_json
from tools.shapes import write_dataset

HEAVIEST = Augmentation(scale_jitter=0.5, rotation=15.0, vertical_flip=True, quarter_turns=True, mosaic=1.0,
                        copy_paste=1.0)
CONFIG = preset('resnet18dcn_half', num_classes=9, input_size=256)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('shapes')
    write_dataset(folder, train=10, val=0, test=0, width=160, height=120)
    return folder


@pytest.fixture(scope='module')
def dataset(folder: Path) -> CocoDataset:
    return CocoDataset(folder / 'annotations/instances_train.json', folder / 'train')


def equal(batch: Batch, other: Batch) -> bool:
    """Whether two batches are equal to the bit, their problems aside."""
    flat = [[*one[:6], *one.assignment[:3], *one.assignment.masked, one.assignment.mask_weights]
            for one in (batch, other)]
    return len(flat[0]) == len(flat[1]) and all(np.array_equal(a, b) for a, b in zip(*flat))


def test_shapes_of_a_batch(dataset):
    batch = Batches(dataset, CONFIG, 4)[0]
    objects = len(batch.boxes)
    assert batch.images.shape == (4, 256, 256, 3) and batch.images.dtype == np.uint8
    assert batch.classes.shape == (objects,) and objects > 4
    assert batch.masks.shape == (objects, 64, 64)
    assert batch.semantic.shape == (4, 8, 32, 32)
    assert batch.assignment.labels.shape == (4, 9 * (32 ** 2 + 16 ** 2 + 8 ** 2 + 4 ** 2 + 2 ** 2))


def test_positives_overlap_the_objects_of_their_own_image(dataset):
    batches = Batches(dataset, CONFIG, 6)
    batch = batches[0]
    assigned = batch.assignment
    image, anchor = np.divmod(assigned.positives, assigned.labels.shape[1])
    assert set(assigned.matched) == set(range(len(batch.boxes)))  # each is found by some anchor
    np.testing.assert_array_equal(assigned.labels[image, anchor], batch.classes[assigned.matched] + 1)
    overlaps = np.array([box_iou(batch.boxes[[thing]], batches.anchors[[where]])[0, 0]
                         for thing, where in zip(assigned.matched, anchor)])
    assert (overlaps >= 0.5).mean() > 0.7
    assert np.all(np.diff(image[np.argsort(assigned.matched, kind='stable')]) >= 0)


def test_masks_fill_their_boxes(dataset):
    batch = Batches(dataset, CONFIG, 10)[0]
    tight = []
    for box, mask in zip(batch.boxes, batch.masks):
        rows, columns = np.nonzero(mask)
        if len(rows):
            found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 64
            assert (found[:2] > box[:2] - 0.02).all() and (found[2:] < box[2:] + 0.02).all()
            tight.append(np.abs(found - box).max() < 0.025)
    assert np.mean(tight) > 0.85  # not all: a sliver of a covered object may be too thin for the grid


def test_an_epoch_has_every_image_once_in_a_new_order(dataset):
    batches = Batches(dataset, CONFIG, 4)
    ids = np.concatenate([batches[step].image_ids for step in range(5)]).reshape(2, 10)
    assert [sorted(epoch) for epoch in ids] == [[image.id for image in dataset.images]] * 2
    assert list(ids[0]) != list(ids[1])
    assert [batches.epoch(step) for step in (0, 2, 3, 5)] == [0, 0, 1, 2]


def test_batches_depend_only_on_seed_and_step(dataset):
    expected = [Batches(dataset, CONFIG, 3, seed=4)[step] for step in range(2, 7)]
    for workers in (0, 1, 3):
        found = list(Batches(dataset, CONFIG, 3, seed=4).prefetch(2, 7, workers))
        assert len(found) == 5 and all(map(equal, found, expected))
    assert not equal(Batches(dataset, CONFIG, 3, seed=5)[2], expected[0])


def test_processes_divide_the_images_of_a_step(dataset):
    whole = Batches(dataset, CONFIG, 4)
    parts = [Batches(dataset, CONFIG, 2, rank=rank, world_size=2) for rank in (0, 1)]
    for step in (0, 1, 3):
        assert [id for part in parts for id in part[step].image_ids] == whole[step].image_ids
        assert [part.epoch(step) for part in parts] == [whole.epoch(step)] * 2


def test_a_dataset_smaller_than_a_batch(dataset):
    batch = Batches(dataset, CONFIG, 13)[0]
    assert len(set(batch.image_ids)) == 10 and len(batch.image_ids) == 13


def test_augmentation_differs_between_epochs(dataset):
    batches = Batches(dataset, CONFIG, 10)
    first, second = batches[0], batches[1]
    pairs = [(first.images[first.image_ids.index(id)], second.images[second.image_ids.index(id)])
             for id in first.image_ids]
    assert sum(np.array_equal(*pair) for pair in pairs) <= 2


def test_anchors_are_those_of_the_network(dataset):
    batches = Batches(dataset, CONFIG, 2)
    np.testing.assert_array_equal(batches.anchors, corners(anchors(CONFIG)))


def test_damaged_images_are_named_and_replaced(tmp_path):
    write_dataset(tmp_path, train=6, val=0, test=0, width=160, height=120)
    dataset = CocoDataset(tmp_path / 'annotations/instances_train.json', tmp_path / 'train')
    broken = dataset.images[2]
    broken.path.write_bytes(broken.path.read_bytes()[:500])
    batch = Batches(dataset, CONFIG, 6)[0]
    assert len(batch.image_ids) == 6 and broken.id not in batch.image_ids
    assert len(batch.problems) >= 1 and all(str(broken.path) in problem for problem in batch.problems)


def test_an_image_of_another_size_than_annotated_is_replaced(tmp_path):
    write_dataset(tmp_path, train=4, val=0, test=0, width=160, height=120)
    dataset = CocoDataset(tmp_path / 'annotations/instances_train.json', tmp_path / 'train')
    wrong = dataset.images[1]
    write_image(wrong.path, np.zeros((wrong.height + 1, wrong.width, 3), np.uint8))
    batch = Batches(dataset, CONFIG, 4)[0]
    assert wrong.id not in batch.image_ids
    assert 'but the annotation file says' in batch.problems[0]


def test_a_dataset_of_damaged_images_is_an_error(tmp_path):
    write_dataset(tmp_path, train=3, val=0, test=0, width=160, height=120)
    dataset = CocoDataset(tmp_path / 'annotations/instances_train.json', tmp_path / 'train')
    for image in dataset.images:
        image.path.write_bytes(b'')
    for workers in (0, 1):
        with pytest.raises(ImageError, match='20 images in a row could not be read'):
            list(Batches(dataset, CONFIG, 2).prefetch(0, 2, workers))


def test_an_image_with_too_many_objects_is_named_and_replaced(tmp_path):
    for name in ('7.jpg', '8.jpg'):
        write_image(tmp_path / name, np.zeros((60, 80, 3), np.uint8))
    config = preset('resnet18dcn_half', num_classes=2, input_size=256)
    for number, others in ((MAX_OBJECTS, 0), (MAX_OBJECTS + 1, 1)):
        records = [*many_objects(number), annotation(0, image_id=8)]
        dataset = CocoDataset(write_json(tmp_path / 'many.json', content(records)), tmp_path)
        batch = Batches(dataset, config, 2, augmentation=AUGMENTATIONS['light'])[0]
        assert len(batch.problems) == others == (batch.image_ids == [8, 8])
    assert batch.problems == [f'{tmp_path}/7.jpg: has 5001 annotated objects, more than the 5000 that can be trained '
                              'on; cut it into tiles or correct the annotations']


def test_combined_images_depend_only_on_seed_and_step(dataset):
    """Whatever worker makes them, whatever is in its memory, and however large the batches are."""
    expected = [Batches(dataset, CONFIG, 3, seed=4, augmentation=HEAVIEST)[step] for step in range(2, 7)]
    for workers in (0, 1, 3):
        found = list(Batches(dataset, CONFIG, 3, seed=4, augmentation=HEAVIEST).prefetch(2, 7, workers))
        assert len(found) == 5 and all(map(equal, found, expected))
    single = Batches(dataset, CONFIG, 1, seed=4, augmentation=HEAVIEST)
    images = np.concatenate([single[step].images for step in range(6, 21)])
    np.testing.assert_array_equal(images, np.concatenate([batch.images for batch in expected]))
    assert not equal(Batches(dataset, CONFIG, 3, seed=5, augmentation=HEAVIEST)[2], expected[0])


def test_a_run_can_stop_making_mosaics_at_a_step(dataset):
    mosaics = Augmentation(mosaic=1.0)
    with_mosaics, light = (Batches(dataset, CONFIG, 2, augmentation=some) for some in (mosaics, Augmentation()))
    asked: list[int] = []

    def before_3(step: int) -> bool:
        asked.append(step)
        return step < 3
    for workers in (0, 2):
        found = list(Batches(dataset, CONFIG, 2, augmentation=mosaics).prefetch(0, 6, workers, before_3))
        assert all(equal(batch, with_mosaics[step]) for step, batch in enumerate(found[:3]))
        assert not any(equal(batch, with_mosaics[step]) for step, batch in enumerate(found[3:], 3))
        assert all(equal(batch, light[step]) for step, batch in enumerate(found[3:], 3))
    assert asked == [*range(6)] * 2


@pytest.mark.parametrize('max_bytes, times', [(2 ** 26, 1), (0, 5)])
def test_each_image_that_is_combined_is_decoded_once(dataset, monkeypatch, max_bytes, times):
    """A batch of neighbours in the order of the epoch; unless images are too large to remember."""
    monkeypatch.setattr('data.loader.MAX_RECENT_BYTES', max_bytes)
    read: list[Path] = []

    def watch(path: Path) -> np.ndarray:
        read.append(path)
        return read_image(path)
    monkeypatch.setattr('data.annotation_file.read_image', watch)
    Batches(dataset, CONFIG, NEIGHBOURS, augmentation=HEAVIEST)[0]
    assert len(read) == NEIGHBOURS * times and len(set(read)) == NEIGHBOURS


def test_damaged_images_are_not_combined(tmp_path):
    write_dataset(tmp_path, train=6, val=0, test=0, width=160, height=120)
    dataset = CocoDataset(tmp_path / 'annotations/instances_train.json', tmp_path / 'train')
    broken = dataset.images[2]
    broken.path.write_bytes(broken.path.read_bytes()[:500])
    batches = [list(Batches(dataset, CONFIG, 2, augmentation=HEAVIEST).prefetch(0, 6, workers)) for workers in (0, 2)]
    assert all(map(equal, *batches))
    for batch in batches[0]:
        assert broken.id not in batch.image_ids and set(batch.problems) <= {batches[0][0].problems[0]}
