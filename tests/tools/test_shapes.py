import json
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.helpers import ROOT
from tools.scene import CATEGORIES, draw_scene
from tools.shapes import draw_image, write_dataset

TRAIN, VAL, TEST = 120, 20, 4


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp('shapes') / 'dataset'
    write_dataset(out, train=TRAIN, val=VAL, test=TEST)
    return out


@pytest.fixture(scope='module')
def scenes():
    return [draw_image(0, 'train', index)[0] for index in range(TRAIN)]


@pytest.fixture(scope='module')
def coco(dataset):
    return COCO(str(dataset / 'annotations' / 'instances_train.json'))


@pytest.fixture(scope='module')
def pairs(coco, scenes):
    """Every object of the training images with its annotation and its annotation's mask."""
    drawn = [drawn for scene in scenes for drawn in scene.objects]
    found = [coco.anns[key] for key in sorted(coco.anns)]
    assert len(drawn) == len(found)
    return [(drawn, found, coco.annToMask(found).astype(bool))
            for drawn, found in zip(drawn, found, strict=True)]


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob('*') if path.is_file()}


def run(*arguments):
    return subprocess.run([sys.executable, '-m', 'tools.shapes', *map(str, arguments)],
                          cwd=ROOT, capture_output=True, text=True)


def longer_side(found):
    return max(found['bbox'][2:])


def holes(mask):
    background = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    return cv2.connectedComponents(background, connectivity=4)[0] - 2


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def test_same_seed_writes_same_bytes(tmp_path):
    for name in ('one', 'two'):
        write_dataset(tmp_path / name, seed=3, train=6, val=2, test=2)
    assert files_of(tmp_path / 'one') == files_of(tmp_path / 'two')
    assert len(files_of(tmp_path / 'one')) == 6 + 2 + 2 + 3


def test_other_seed_draws_other_images():
    assert draw_image(0, 'train', 0)[1] != draw_image(1, 'train', 0)[1]
    assert not np.array_equal(draw_scene(0, 96, 80).image, draw_scene(1, 96, 80).image)


def test_longer_dataset_starts_with_shorter(dataset, tmp_path):
    write_dataset(tmp_path, train=10, val=3, test=2)
    short, long = files_of(tmp_path), files_of(dataset)
    images = {name for name in short if name.endswith('.jpg')}
    assert len(images) == 15
    assert all(short[name] == long[name] for name in images)
    short, long = (json.loads(files['annotations/instances_train.json']) for files in (short, long))
    assert short['images'] == long['images'][:10]
    assert short['annotations'] == long['annotations'][:len(short['annotations'])]


def test_smaller_dataset_replaces_larger(tmp_path):
    write_dataset(tmp_path, train=5, val=2, test=1)
    write_dataset(tmp_path, train=2, val=1, test=0)
    assert len(files_of(tmp_path)) == 2 + 1 + 3


def test_a_dataset_of_an_earlier_version_is_replaced(tmp_path):
    write_dataset(tmp_path, train=2, val=1, test=1)
    for path in (tmp_path / 'annotations').iterdir():
        start = '{"info": {"description": "Shapes drawn by tools.shapes", "version": "1.0"}, '
        content = path.read_text()
        assert content.startswith(start)
        path.write_text(content.replace('tools.shapes', 'data.shapes', 1))
    write_dataset(tmp_path, train=1, val=1, test=0)
    assert len(files_of(tmp_path)) == 1 + 1 + 3
    assert 'data.shapes' not in (tmp_path / 'annotations/instances_train.json').read_text()


def test_no_two_images_are_alike(dataset):
    images = [content for name, content in files_of(dataset).items() if name.endswith('.jpg')]
    assert len(set(images)) == len(images) == TRAIN + VAL + TEST


def test_coco_reads_what_was_written(dataset, coco):
    val = COCO(str(dataset / 'annotations' / 'instances_val.json'))
    assert (len(coco.imgs), len(val.imgs)) == (TRAIN, VAL)
    assert not coco.imgs.keys() & val.imgs.keys()
    assert len(coco.anns) == len(coco.dataset['annotations'])
    assert min(coco.anns) == 1
    for record in coco.imgs.values():
        image = cv2.imread(str(dataset / 'train' / record['file_name']))
        assert image.shape == (record['height'], record['width'], 3)


def test_images_vary_in_size_and_orientation(coco):
    sizes = [(image['width'], image['height']) for image in coco.imgs.values()]
    assert 0.2 < np.mean([width < height for width, height in sizes]) < 0.5
    assert len(set(sizes)) > 20
    assert max(map(max, sizes)) == 320


def test_jpeg_is_the_scene():
    scene, jpeg = draw_image(0, 'val', 1)
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded.astype(int) - scene.image).mean() < 6


def test_annotation_masks_are_the_drawn_masks(pairs):
    for drawn, found, mask in pairs:
        assert CATEGORIES[drawn.category].id == found['category_id']
        exact = isinstance(found['segmentation'], dict)
        assert overlap(mask, drawn.mask) >= (1 if exact else 0.95 if longer_side(found) > 24 else 0.85)


def test_polygons_are_not_biased(pairs):
    outlined = [(drawn.mask, mask) for drawn, found, mask in pairs if isinstance(found['segmentation'], list)]
    assert len(outlined) > 100
    assert abs(np.mean([mask.sum() / drawn.sum() - 1 for drawn, mask in outlined])) < 0.003


def test_area_and_box_are_tight(pairs):
    for drawn, found, _ in pairs:
        assert found['area'] == drawn.mask.sum()
        x, y, width, height = found['bbox']
        cut = drawn.mask[y:y + height, x:x + width]
        assert cut.sum() == drawn.mask.sum()
        assert cut[0].any() and cut[-1].any() and cut[:, 0].any() and cut[:, -1].any()


def test_segmentation_format_follows_from_the_mask(pairs):
    for drawn, found, _ in pairs:
        segmentation = found['segmentation']
        assert found['iscrowd'] == drawn.crowd
        if drawn.crowd:
            assert isinstance(segmentation['counts'], list)
        elif holes(drawn.mask):
            assert isinstance(segmentation['counts'], str)
        else:
            assert all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in segmentation)


def test_mask_edges_lie_on_image_edges(scenes):
    moves = [(5, 0), (-5, 0), (0, 5), (0, -5)]
    sharper = []
    for scene in scenes:
        image = scene.image.astype(np.float32)
        change = sum(np.abs(cv2.Sobel(image, cv2.CV_32F, *along)).sum(2) for along in ((1, 0), (0, 1)))
        for drawn in scene.objects:
            if drawn.mask.sum() > 600 and not drawn.crowd:
                mask = drawn.mask.astype(np.uint8)
                edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
                elsewhere = np.mean([change[np.roll(edge, move, (0, 1))].mean() for move in moves])
                sharper.append(change[edge].mean() > 1.2 * elsewhere)
    assert len(sharper) > 100
    assert np.mean(sharper) > 0.95


def test_masks_of_a_scene_are_disjoint(scenes):
    assert all(sum(drawn.mask.astype(int) for drawn in scene.objects).max() == 1
               for scene in scenes if scene.objects)


def test_later_shapes_cover_earlier_ones(scenes):
    hearts = [drawn.mask for scene in scenes for drawn in scene.objects
              if CATEGORIES[drawn.category].name == 'heart' and not drawn.crowd]
    split = [cv2.connectedComponents(mask.astype(np.uint8))[0] > 2 or holes(mask) for mask in hearts]
    assert 0 < sum(split) < len(split)


def test_rings_frames_and_gears_have_one_hole_and_others_none(scenes):
    seen = set()
    for top in (scene.objects[-1] for scene in scenes if scene.objects):
        cut = top.mask[[0, -1]].any() or top.mask[:, [0, -1]].any()
        if not (top.crowd or cut) and top.mask.sum() > 100:
            name = CATEGORIES[top.category].name
            assert holes(top.mask) == (name in ('ring', 'frame', 'gear')), name
            seen.add(name)
    assert len(seen) == len(CATEGORIES)


def test_annotation_keeps_the_hole_of_a_ring(pairs):
    rings = [(found, mask) for drawn, found, mask in pairs
             if CATEGORIES[drawn.category].name == 'ring' and not drawn.crowd and holes(drawn.mask) == 1]
    assert len(rings) > 10
    for found, mask in rings:
        assert isinstance(found['segmentation']['counts'], str)
        assert holes(mask) == 1


def test_sample_has_crowds_and_empty_images(scenes):
    assert 2 <= sum(any(drawn.crowd for drawn in scene.objects) for scene in scenes) <= 15
    assert 2 <= sum(not scene.objects for scene in scenes) <= 15
    assert np.mean([len(scene.objects) for scene in scenes]) > 3


def test_sample_has_every_category_and_size(pairs):
    singles = [found for drawn, found, _ in pairs if not drawn.crowd]
    sides = np.array([longer_side(found) for found in singles])
    assert {found['category_id'] for found in singles} == {3, 4, 8, 11, 17, 23, 42, 90}
    assert sides.min() <= 10
    assert sides.max() > 160
    assert 0.04 < np.mean(sides < 16) < 0.16
    assert np.mean((sides >= 24) & (sides <= 160)) > 0.5


def test_crowd_has_many_members(pairs):
    members = [cv2.connectedComponents(drawn.mask.astype(np.uint8))[0] - 1
               for drawn, _, _ in pairs if drawn.crowd]
    assert np.median(members) >= 5


def test_test_file_lists_images_without_annotations(dataset):
    content = json.loads((dataset / 'annotations' / 'image_info_test.json').read_text())
    assert 'annotations' not in content
    assert len(content['images']) == TEST
    assert {image['file_name'] for image in content['images']} == {
        path.name for path in (dataset / 'test').iterdir()}
    assert [category['id'] for category in content['categories']] == [3, 4, 8, 11, 17, 23, 42, 90]


def test_smallest_and_large_images_can_be_drawn():
    assert all(draw_scene(seed, 64, 64).image.shape == (64, 64, 3) for seed in range(40))
    assert draw_scene(0, 640, 480).image.shape == (480, 640, 3)
    with pytest.raises(ValueError, match='63x64'):
        draw_scene(0, 63, 64)


def test_command_says_what_it_wrote(tmp_path):
    done = run(tmp_path, '--train', 2, '--val', 1, '--test', 1, '--width', 96, '--height', 64)
    assert done.returncode == 0
    assert done.stdout == f'Wrote 2 train, 1 val and 1 test images and their annotations to {tmp_path}\n'
    assert len(files_of(tmp_path)) == 4 + 3


@pytest.mark.parametrize('arguments, words', [
    (('--train', '-1'), 'train is -1'),
    (('--seed', '-5'), 'seed is -5'),
    (('--width', '63'), 'width is 63'),
    (('--width', '100000'), 'width is 100000'),
    (('--height', '10'), 'height is 10'),
])
def test_bad_number_is_one_line_and_status_2(tmp_path, arguments, words):
    done = run(tmp_path / 'out', *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count('\n') == 1
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', ['notes.txt', 'train/cat.jpg', 'annotations/instances_train.json'])
def test_other_files_are_left_alone(tmp_path, name):
    foreign = tmp_path / name
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text('{"images": []}')
    done = run(tmp_path, '--train', 1)
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1
    assert f'holds {name}' in done.stderr
    assert files_of(tmp_path) == {name: b'{"images": []}'}


def test_unwritable_folder_is_one_line_and_status_2(tmp_path):
    (tmp_path / 'file').write_text('')
    for out in (tmp_path / 'file', tmp_path / 'file' / 'below'):
        done = run(out, '--train', 1)
        assert done.returncode == 2
        assert str(tmp_path / 'file') in done.stderr
        assert done.stderr.count('\n') == 1


def test_folder_with_a_line_break_in_its_name_is_reported_in_one_line(tmp_path):
    (tmp_path / 'a\nb').write_text('')
    done = run(tmp_path / 'a\nb', '--train', 1)
    assert (done.returncode, done.stderr.count('\n')) == (2, 1)
    assert 'a\\nb: File exists; check the path' in done.stderr


def test_interruption_is_one_line_and_leaves_what_can_be_replaced(tmp_path):
    process = subprocess.Popen([sys.executable, '-m', 'tools.shapes', tmp_path, '--train', '100000'], cwd=ROOT,
                               stderr=subprocess.PIPE, text=True)
    while not (tmp_path / 'train/shapes_0000003.jpg').exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.splitlines()[-1] == f'tools.shapes: interrupted; what is in {tmp_path} is not complete'
    assert 'Traceback' not in err
    write_dataset(tmp_path, train=1, val=0, test=0)
    assert len(files_of(tmp_path)) == 1 + 3
