import json
import os
from collections import Counter

import cv2
import numpy as np
import pytest

from data import near_copies
from data.coco import CocoDataset
from data.near_copies import group_near_copies, original_path, thumbnail
from data.stratification import stratify
from system.command import exit_status
from tools.scene import draw_scene
from tools.split import SPLITS, main


def augmented(image, rng):
    """A copy as augmentation tools make them: turned, mirrored, brighter or darker, with noise."""
    image = np.rot90(image[:, ::-1] if rng.random() < 0.5 else image, rng.integers(4))
    noisy = image * rng.uniform(0.7, 1.1) + rng.uniform(0, 20) + rng.normal(0, 5, image.shape)
    return np.ascontiguousarray(np.clip(noisy, 0, 255).astype(np.uint8))


def write_dataset(folder, scenes, copies, name='{scene:03}_{copy}.png'):
    """Copies of drawn scenes, with objects of 'common' in all, 'some' in every third and 'rare' in three scenes."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for scene in range(scenes):
        drawn = draw_scene([scene], 128, 128).image
        for copy in range(copies):
            image_id = 1000 + len(images)
            file_name = name.format(scene=scene, copy=copy)
            cv2.imwrite(str(folder / file_name), augmented(drawn, rng))
            images.append({'id': image_id, 'file_name': file_name, 'width': 128, 'height': 128, 'license': 4})
            for category in (1, *[2] * (scene % 3 == 0), *[7] * (scene in (4, 5, 7))):
                annotations.append({'id': len(annotations), 'image_id': image_id, 'category_id': category, 'iscrowd': 0,
                                    'bbox': [10, 10, 20, 20], 'area': 400, 'attributes': {'by': 'me'},
                                    'segmentation': [[10, 10, 30, 10, 30, 30, 10, 30]]})
    categories = [{'id': 1, 'name': 'common'}, {'id': 2, 'name': 'some'}, {'id': 7, 'name': 'rare'}]
    content = {'info': {'year': 2024}, 'images': images, 'annotations': annotations, 'categories': categories}
    (folder / 'all.json').write_text(json.dumps(content))
    return content


@pytest.fixture(scope='module')
def copied(tmp_path_factory):
    """Three copies of each of thirty scenes, whose names do not say so."""
    folder = tmp_path_factory.mktemp('copied')
    write_dataset(folder, 30, 3)
    return folder


def split(folder, out, *flags):
    status = main([str(folder / 'all.json'), str(folder), '--out', str(out), *flags])
    return status, {name: json.loads((out / f'{name}.json').read_text()) for name in SPLITS
                    if (out / f'{name}.json').exists()}


def names(part):
    return {image['file_name'] for image in part['images']}


def test_near_copies_are_in_one_split_and_each_split_has_its_share_and_every_class(copied, tmp_path):
    status, parts = split(copied, tmp_path)
    assert status == 0
    scenes = {name: {file_name[:3] for file_name in names(part)} for name, part in parts.items()}
    assert sum(map(len, scenes.values())) == len(set.union(*scenes.values())) == 30
    for share, (name, part) in zip((0.8, 0.1, 0.1), parts.items()):
        assert abs(len(part['images']) - share * 90) <= 3, name
        assert {record['category_id'] for record in part['annotations']} == {1, 2, 7}, name
    some = [sum(record['category_id'] == 2 for record in part['annotations']) for part in parts.values()]
    assert some == [24, 3, 3]  # of ten scenes: eight, one and one


def test_the_files_hold_every_record_as_it_was_and_can_be_read(copied, tmp_path):
    before = json.loads((copied / 'all.json').read_text())
    _, parts = split(copied, tmp_path)
    for key in ('images', 'annotations'):
        together = [record for part in parts.values() for record in part[key]]
        assert sorted(together, key=lambda record: record['id']) == before[key]
    for name, part in parts.items():
        assert (part['info'], part['categories']) == (before['info'], before['categories'])
        dataset = CocoDataset(tmp_path / f'{name}.json', copied)
        dataset.check_folder()
        assert not dataset.warnings and all(image.path.exists() for image in dataset.images)


def test_a_seed_always_splits_alike_and_another_one_otherwise(copied, tmp_path):
    parts = [split(copied, tmp_path / str(i), '--seed', seed)[1] for i, seed in enumerate('334')]
    assert parts[0] == parts[1] != parts[2]


def test_a_share_of_0_leaves_a_split_out(copied, tmp_path, capsys):
    status, parts = split(copied, tmp_path, '--shares', '0.7', '0.3', '0')
    assert status == 0 and {name: len(part['images']) for name, part in parts.items()} == {'train': 63, 'val': 27}
    flags = [str(copied / 'all.json'), str(copied), '--out', str(tmp_path), '--shares', '1', '0', '0']
    capsys.readouterr()
    assert exit_status(main, flags) == 2
    assert f'{tmp_path}/val.json: is there, but its share is 0; remove it' in capsys.readouterr().err


def test_the_table_counts_images_groups_and_objects(copied, tmp_path, capsys):
    _, parts = split(copied, tmp_path)
    rows = {line[:20].strip(): line[20:].split() for line in capsys.readouterr().out.splitlines()}
    assert rows['images'] == [str(len(part['images'])) for part in parts.values()] == ['72', '9', '9']
    assert rows['groups of near copie'][-3:] == ['24', '3', '3']
    assert rows['common'] == ['72', '9', '9'] and rows['rare'] == ['3', '3', '3']


def test_copies_of_damaged_images_are_known_by_name(tmp_path, capsys):
    write_dataset(tmp_path, 8, 3, name='{scene}_png.rf.{copy}a0b.png')
    for path in tmp_path.glob('*.rf.1a0b.png'):
        path.write_bytes(path.read_bytes()[:200])
    status, parts = split(tmp_path, tmp_path / 'out', '--shares', '0.5', '0.5', '0')
    assert status == 1
    err = capsys.readouterr().err
    assert f'{tmp_path}/0_png.rf.1a0b.png: the image ends too early' in err and 'by name only: 8;' in err
    scenes = [{name[0] for name in names(part)} for part in parts.values()]
    assert sorted(map(len, scenes)) == [4, 4] and not scenes[0] & scenes[1]


def test_at_a_similarity_of_1_images_are_not_read(tmp_path):
    write_dataset(tmp_path, 8, 2, name='{scene}_png.rf.{copy}a0b.png')
    for path in list(tmp_path.glob('*.png'))[1:]:
        path.write_bytes(b'')
    status, parts = split(tmp_path, tmp_path / 'out', '--similarity', '1')
    assert status == 0 and [len(part['images']) % 2 for part in parts.values()] == [0, 0, 0]


@pytest.mark.parametrize(('flags', 'line'), [
    (['--shares', '0.8', '0.1', '0.2'], '--shares: 0.8 + 0.1 + 0.2 is 1.1; give shares that add up to 1'),
    (['--shares', '0.8', '0.2'], 'argument --shares: expected 3 arguments'),
    (['--similarity', '2'], 'argument --similarity: 2 is not from 0 to 1')])
def test_wrong_flags_are_one_line(copied, tmp_path, capsys, flags, line):
    with pytest.raises(SystemExit, match='2'):
        main([str(copied / 'all.json'), str(copied), '--out', str(tmp_path), *flags])
    assert capsys.readouterr().err == f'python -m tools.split: error: {line}\n'


def test_the_input_is_not_overwritten(copied, tmp_path, capsys):
    (tmp_path / 'train.json').write_bytes((copied / 'all.json').read_bytes())
    before = (tmp_path / 'train.json').read_bytes()
    assert exit_status(main, [str(tmp_path / 'train.json'), str(copied), '--out', str(tmp_path)]) == 2
    assert 'is an input' in capsys.readouterr().err
    assert (tmp_path / 'train.json').read_bytes() == before and os.listdir(tmp_path) == ['train.json']


def test_too_few_groups_are_one_line(tmp_path, capsys):
    write_dataset(tmp_path, 2, 4)
    assert exit_status(main, [str(tmp_path / 'all.json'), str(tmp_path), '--out', str(tmp_path / 'out')]) == 2
    assert capsys.readouterr().err == (f'tools.split: error: {tmp_path}/all.json: has 2 groups of near copies, too few '
                                       'for 3 splits; add images, set a share to 0, or raise --similarity\n')


def test_images_of_other_scenes_and_empty_ones_are_no_copies(tmp_path):
    drawn = [thumbnail(draw_scene([scene], 128, 128).image) for scene in range(40)]
    empty = [np.full((32, 32), level, np.float32) for level in (0, 100, 255)]
    paths = [tmp_path / f'{i}.png' for i in range(43)]
    assert group_near_copies(paths, drawn + empty).tolist() == list(range(43))


def test_groups_do_not_depend_on_how_many_are_compared_at_a_time(monkeypatch, tmp_path):
    rng = np.random.default_rng(1)
    scenes = [draw_scene([scene], 128, 128).image for scene in range(12)]
    which = rng.integers(0, 12, 60)
    thumbnails = [thumbnail(augmented(scenes[scene], rng)) for scene in which]
    paths = [tmp_path / f'{i}.png' for i in range(60)]
    groups = group_near_copies(paths, thumbnails)
    assert len(set(zip(groups.tolist(), which.tolist()))) == len(set(which.tolist())) == groups.max() + 1
    monkeypatch.setattr(near_copies, '_BLOCK', 7)
    assert (group_near_copies(paths, thumbnails) == groups).all()


@pytest.mark.parametrize(('name', 'original'), [
    ('IMG_1_jpg.rf.0a1b2c.jpg', 'IMG_1.jpg'), ('a_png.rf.Zx9.jpg', 'a.png'), ('cat.jpg', 'cat.jpg'),
    ('x.rf.jpg', 'x.rf.jpg')])
def test_names_of_copies_by_roboflow(tmp_path, name, original):
    assert original_path(tmp_path / name) == tmp_path / original


@pytest.mark.parametrize('seed', range(5))
def test_stratification_gives_each_split_its_share_and_every_class_of_three_groups(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, 300)
    present = rng.random((300, 8)) < rng.uniform(0.05, 0.6, 8)
    counts = np.minimum(present * rng.integers(1, 5, (300, 8)), sizes[:, None])
    counts[:, 0] = 0
    counts[rng.permutation(300)[:3], 0] = 1
    splits = stratify(counts, sizes, (0.7, 0.2, 0.1), seed)
    for split, share in enumerate((0.7, 0.2, 0.1)):
        mine = splits == split
        assert abs(sizes[mine].sum() - share * sizes.sum()) <= sizes.max()
        assert (counts[mine] > 0).any(0).all()
        assert (np.abs(counts[mine, 1:].sum(0) - share * counts[:, 1:].sum(0)) <= 8 + 0.05 * counts[:, 1:].sum(0)).all()
    assert Counter(splits[counts[:, 0] > 0].tolist()) == {0: 1, 1: 1, 2: 1}
