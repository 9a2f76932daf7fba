"""demo.py on everything that it takes, and everything that it saves."""
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

import demo
from data.coco import CocoDataset
from data.labelme import main as labelme
from data.labelme import read_labelme
from data.pictures import PictureError, read_picture
from data.sources import find_sources
from data.video import Video, VideoError, read_ahead, writing

ROOT = Path(demo.__file__).parent
TEST = ROOT / 'images/test'


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """Three of the pictures that come along."""
    folder = tmp_path_factory.mktemp('pictures')
    for path in sorted(TEST.glob('*.jpg'))[:3]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope='module')
def film(pictures, tmp_path_factory):
    """A video of 12 frames, in which a picture moves."""
    path = tmp_path_factory.mktemp('film') / 'film.avi'
    still = cv2.resize(read_picture(sorted(pictures.iterdir())[0]), (320, 240))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 12.5, (320, 240))
    for shift in range(12):
        writer.write(np.roll(still, 2 * shift, 1))
    writer.release()
    return path


def run(*flags):
    return demo.main(['--device', 'cpu', *map(str, flags)])


def test_files_folders_patterns_and_videos_are_told_apart(pictures, film, tmp_path):
    shutil.copy(film, tmp_path)
    shutil.copy(next(pictures.iterdir()), tmp_path / 'one.jpg')
    (tmp_path / '[odd].png').touch()
    (tmp_path / '7').mkdir()
    found = find_sources([tmp_path, f'{pictures}/*.jpg', '0', tmp_path / '[odd].png'])
    assert found.pictures == [tmp_path / '[odd].png', tmp_path / 'one.jpg', *sorted(pictures.iterdir()),
                              tmp_path / '[odd].png']
    assert (found.videos, found.cameras) == ([tmp_path / 'film.avi'], [0])
    for name, reason in ((tmp_path / '*.gif', 'no file has such a name'), (tmp_path / 'none', 'no such folder'),
                         (tmp_path / '7', 'no pictures in this folder')):
        with pytest.raises(PictureError, match=reason):
            find_sources([name])


def test_a_video_comes_out_as_long_as_it_was_with_objects_drawn(film, tmp_path, capsys):
    assert run('--images', film, '--out', tmp_path, '--save_json', tmp_path / 'film.json', '--batch_size', '5') == 0
    assert 'film.avi: ' in capsys.readouterr().out
    before, after = Video(film), Video(tmp_path / 'film.mp4')
    assert after.fps == before.fps == 12.5
    frames = list(zip(before, after, strict=True))
    assert len(frames) == 12
    # The network finds nearly the same in all of them; what is drawn differs from what was there, and goes along.
    content = json.loads((tmp_path / 'film.json').read_text())
    assert [image['file_name'] for image in content['images']] == [f'film.avi#{i:06d}' for i in range(1, 13)]
    numbers = np.bincount([one['image_id'] for one in content['annotations']], minlength=13)[1:]
    assert numbers.min() > 3
    for frame, drawn in frames:
        assert frame.shape == drawn.shape
        assert (np.abs(frame.astype(int) - drawn).max(2) > 60).mean() > 0.01
    assert sorted(path.name for path in tmp_path.iterdir()) == ['film.json', 'film.mp4']


def test_a_long_video_takes_no_more_memory_than_a_short_one(tmp_path):
    """Its frames alone would be 900 MB."""
    with writing(tmp_path / 'long.mp4', 25) as write:
        for i in range(300):
            write(np.full((720, 1280, 3), i % 256, np.uint8))
    before, most = psutil.Process().memory_info().rss, 0
    for _ in read_ahead(Video(tmp_path / 'long.mp4'), 4):
        most = max(most, psutil.Process().memory_info().rss)
    assert most - before < 300e6


def test_what_is_no_video_is_named_and_the_rest_is_done(film, pictures, tmp_path, capfd):
    damaged, cut = tmp_path / 'damaged.mp4', tmp_path / 'cut.avi'
    damaged.write_bytes(b'no video' * 100)
    cut.write_bytes(film.read_bytes()[:300])
    assert run('--images', damaged, cut, film, '--out', tmp_path / 'out') == 1
    out, err = capfd.readouterr()
    assert 'film.avi: ' in out
    assert [line.split(': ')[1] for line in err.splitlines() if line.startswith('skipped')] == [str(damaged), str(cut)]
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['film.mp4']
    with pytest.raises(VideoError, match='camera 77: cannot be opened'):
        Video(77)


def test_an_interrupted_video_leaves_nothing_half_written(tmp_path):
    with writing(tmp_path / 'long.mp4', 25) as write:
        for i in range(3000):
            write(np.full((120, 160, 3), i % 256, np.uint8))
    process = subprocess.Popen([sys.executable, ROOT / 'demo.py', '--images', tmp_path / 'long.mp4', '--out',
                                tmp_path / 'out', '--save_json', tmp_path / 'out/found.json'], stderr=subprocess.PIPE)
    while not list((tmp_path / 'out').glob('.*.mp4')):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert list((tmp_path / 'out').iterdir()) == []


def test_a_full_disk_is_told_for_a_video(film, tmp_path):
    with pytest.raises(VideoError, match='cannot be written'), writing(tmp_path / 'none/film.mp4', 25) as write:
        write(next(iter(Video(film))))


@pytest.mark.parametrize('flags', [(), ('--polygons',)])
def test_saved_annotations_are_a_dataset_with_the_masks_that_were_found(pictures, tmp_path, flags):
    path = tmp_path / 'new/found.json'
    assert run('--images', pictures, '--no_draw', '--save_json', path, *flags) == 0
    dataset = CocoDataset(path, pictures)
    assert dataset.warnings == [] and len(dataset) == 3
    content = json.loads(path.read_text())
    kinds = {type(one['segmentation']) for one in content['annotations']}
    assert kinds == {list if flags else dict}
    predictor = demo.predictor_of(demo.parse_arguments(['--device', 'cpu']))
    for i, picture in enumerate(dataset.images):
        found, = predictor([picture.read()])
        outlined = np.array([mask.any() or not flags for mask in found.masks])  # nothing has no outline
        found = found.select((found.box_scores > 0.3) & outlined)
        kept = list(dataset.annotations(i))
        assert len(kept) == len(found) > 3
        for j, one in enumerate(kept):
            assert one['category_id'] == predictor.classes.ids[found.classes[j]]
            x0, y0, x1, y1 = found.boxes[j]
            np.testing.assert_allclose(one['bbox'], [x0, y0, x1 - x0, y1 - y0], atol=0.01)
            mask, again = found.full_mask(j), mask_of(one['segmentation'])
            assert one['area'] == mask.sum()
            union = (mask | again).sum()
            assert (mask & again).sum() >= (0.8 if flags else 1) * union


def mask_of(rle):
    from pycocotools import mask
    return mask.decode(rle).astype(bool)


def test_masks_are_saved_as_numbers_or_one_by_one(pictures, tmp_path):
    one = sorted(pictures.iterdir())[0]
    assert run('--images', one, '--no_draw', '--save_masks', 'ids', '--out', tmp_path / 'ids') == 0
    assert run('--images', one, '--no_draw', '--save_masks', 'objects', '--out', tmp_path / 'objects') == 0
    ids = cv2.imread(str(tmp_path / 'ids' / f'{one.name}.ids.png'), cv2.IMREAD_UNCHANGED)
    assert ids.dtype == np.uint16 and ids.shape == read_picture(one).shape[:2]
    files = sorted((tmp_path / 'objects').iterdir())
    assert 3 < len(np.unique(ids)) - 1 <= len(files)  # masks may be hidden or empty
    best = cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(best)) == {0, 255}
    np.testing.assert_array_equal(ids == 1, best == 255)  # the best lies on top
    assert files[0].name.startswith(f'{one.name}.001_')


def test_labelme_s_files_come_back_as_a_dataset_to_train_on(pictures, tmp_path, capsys):
    mine = shutil.copytree(pictures, tmp_path / 'mine')
    assert run('--images', mine, '--no_draw', '--save_labelme', mine) == 0
    assert sorted(path.suffix for path in mine.iterdir()) == ['.jpg'] * 3 + ['.json'] * 3
    for path in mine.glob('*.json'):
        picture, size, objects, problems = read_labelme(path)
        assert picture == path.with_suffix('.jpg') and size == list(read_picture(picture).shape[:2]) or tuple(size)
        assert len(objects) > 3 and problems == []
    assert labelme([str(mine), '--out', str(tmp_path / 'mine.json')]) == 0
    dataset = CocoDataset(tmp_path / 'mine.json', mine)
    assert dataset.warnings == [] and len(dataset) == 3
    dataset.check_folder()
    total = sum(len(dataset.objects(i)) for i in range(3))
    assert total == sum(len(read_labelme(path)[2]) for path in mine.glob('*.json'))


@pytest.mark.parametrize(('flags', 'message'), [
    (['--polygons'], '--polygons says what to write into --save_json FILE'),
    (['--no_draw'], '--no_draw leaves nothing to do')])
def test_flags_that_mean_nothing_are_refused(flags, message, capsys):
    with pytest.raises(SystemExit, match='2'):
        demo.main(flags)
    assert message in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_told_before_the_work(pictures, tmp_path, capsys):
    (tmp_path / 'file').touch()
    assert run('--images', pictures, '--save_json', tmp_path / 'file/x.json', '--out', tmp_path / 'out') == 2
    assert capsys.readouterr().err.startswith(f'demo.py: error: {tmp_path / "file"}')
