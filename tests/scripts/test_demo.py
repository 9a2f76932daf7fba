"""demo.py on everything that it takes, and everything that it saves."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from typing import NamedTuple

import cv2
import numpy as np
import psutil
import pytest

import demo
from data.coco import CocoDataset
from data.images import ImageError, read_image, write_image
from data.labelme import read_labelme
from model.classes import Classes
from model.postprocess import Detections
from prediction import run as prediction_run
from prediction import video_run
from prediction.predictor import visible
from prediction.sources import find_sources
from prediction.video import Video, VideoWriter, prefetch
from system.command import exit_status
from tests.helpers import ROOT
from tests.helpers.squares import SIDE, found, joined
from tools.check import main as check_dataset
from tools.convert import main as labelme

TEST = ROOT / 'images/test'


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Three of the images that come along."""
    folder = tmp_path_factory.mktemp('images')
    for path in sorted(TEST.glob('*.jpg'))[:3]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope='module')
def film(images, tmp_path_factory):
    """A video of 12 frames, in which an image moves."""
    path = tmp_path_factory.mktemp('film') / 'film.avi'
    still = cv2.resize(read_image(sorted(images.iterdir())[0]), (320, 240))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 12.5, (320, 240))
    for shift in range(12):
        writer.write(np.roll(still, 2 * shift, 1))
    writer.release()
    return path


class Known(NamedTuple):
    """A predictor that sees the same in all images."""
    detections: Detections
    classes: Classes = Classes(('a', 'b'), (10, 20))

    def __call__(self, images):
        return [self.predict(image) for image in images]

    def predict(self, image):
        return visible(self.detections, 0)


@pytest.fixture
def see(monkeypatch):
    """Makes the predictor see these `Detections`, whatever it looks at."""
    def see(*detections):
        monkeypatch.setattr(demo, 'open_predictor', lambda args: Known(joined(*detections)))
    see(found(20), found(70, label=1, box_score=0.6))
    return see


@pytest.fixture
def squares(see, tmp_path):
    """A folder of two grey images."""
    folder = tmp_path / 'squares'
    folder.mkdir()
    for name in ('one.png', 'two.png'):
        write_image(folder / name, np.full((SIDE, SIDE, 3), 90, np.uint8))
    return folder


def write_film(path, frames=3, fps=10):
    path.parent.mkdir(exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), fps, (SIDE, SIDE))
    for i in range(frames):
        writer.write(np.full((SIDE, SIDE, 3), 10 * i % 256, np.uint8))
    writer.release()
    return path


class Camera:
    """It sees three grey frames, and in the fourth moment somebody presses Ctrl-C. Nothing follows on that."""
    fps = 25.0

    def __init__(self, number):
        pass

    def __iter__(self):
        for _ in range(3):
            yield np.full((SIDE, SIDE, 3), 90, np.uint8)
        os.kill(os.getpid(), signal.SIGINT)
        yield np.full((SIDE, SIDE, 3), 90, np.uint8)
        raise AssertionError('it goes on after Ctrl-C')

    def close(self):
        pass


def run(*flags):
    return exit_status(demo.main, ['--device', 'cpu', *map(str, flags)])


def test_files_folders_patterns_and_videos_are_told_apart(images, film, tmp_path):
    shutil.copy(film, tmp_path)
    shutil.copy(next(images.iterdir()), tmp_path / 'one.jpg')
    (tmp_path / '[odd].png').touch()
    (tmp_path / '7').mkdir()
    found = find_sources([tmp_path, f'{images}/*.jpg', '0', tmp_path / '[odd].png'])
    assert found.images == [tmp_path / '[odd].png', tmp_path / 'one.jpg', *sorted(images.iterdir())]
    assert (found.videos, found.cameras) == ([tmp_path / 'film.avi'], [0])
    for name, reason in ((tmp_path / '*.gif', 'no file has such a name'), (tmp_path / 'none', 'no such folder'),
                         (tmp_path / '7', 'no images in this folder')):
        with pytest.raises(ImageError, match=reason):
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
    with VideoWriter(tmp_path / 'long.mp4', 25) as writer:
        for i in range(300):
            writer.write(np.full((720, 1280, 3), i % 256, np.uint8))
    before, most = psutil.Process().memory_info().rss, 0
    for _ in prefetch(Video(tmp_path / 'long.mp4'), 4):
        most = max(most, psutil.Process().memory_info().rss)
    assert most - before < 300e6


def test_a_video_that_is_cut_off_is_drawn_as_far_as_it_goes_and_told(film, tmp_path, capsys):
    cut, whole = tmp_path / 'cut.avi', Video(film).frames
    cut.write_bytes(film.read_bytes()[:film.stat().st_size // 2])
    assert run('--images', cut, '--out', tmp_path / 'out') == 1
    out, err = capsys.readouterr()
    frames = int(re.search(r'in (\d+) frame', out)[1])
    assert 0 < frames < whole == 12
    assert err.splitlines()[-1] == f'{cut}: ends early: {frames} of {whole} frames can be read; copy it again'
    assert len(list(Video(tmp_path / 'out/cut.mp4'))) == frames


def test_what_is_no_video_is_named_and_the_rest_is_done(film, images, tmp_path, capfd):
    damaged, cut = tmp_path / 'damaged.mp4', tmp_path / 'cut.avi'
    damaged.write_bytes(b'no video' * 100)
    cut.write_bytes(film.read_bytes()[:300])
    assert run('--images', damaged, cut, film, '--out', tmp_path / 'out') == 1
    out, err = capfd.readouterr()
    assert 'film.avi: ' in out
    assert [line.split(': ')[1] for line in err.splitlines() if line.startswith('skipped')] == [str(damaged), str(cut)]
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['film.mp4']
    with pytest.raises(ImageError, match='camera 77: cannot be opened'):
        Video(77)


def test_an_interrupted_video_keeps_its_frames_so_far(tmp_path):
    with VideoWriter(tmp_path / 'long.mp4', 25) as writer:
        for i in range(3000):
            writer.write(np.full((120, 160, 3), i % 256, np.uint8))
    out = tmp_path / 'out'
    process = subprocess.Popen([sys.executable, ROOT / 'demo.py', '--images', tmp_path / 'long.mp4', tmp_path /
                                'long.mp4', '--out', out, '--save_json', out / 'found.json'], stderr=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    while not list(out.glob('.*.mp4')):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    printed, complaints = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, '')
    number = int(re.fullmatch(rf'interrupted: (\d+) frames? (?:is|are) kept in {out}/long.mp4, {out}/found.json\n',
                              complaints)[1])
    assert 0 < number < 3000
    assert Video(out / 'long.mp4').frames == number
    content = json.loads((out / 'found.json').read_text())
    assert [image['file_name'] for image in content['images']] == [f'long.mp4#{i:06d}' for i in range(1, number + 1)]
    assert sorted(path.name for path in out.iterdir()) == ['found.json', 'long.mp4']


def test_interrupted_images_keep_what_was_found_so_far(squares, tmp_path, monkeypatch, capsys):
    def press(path):
        os.kill(os.getpid(), signal.SIGINT)
        return np.zeros((SIDE, SIDE, 3), np.uint8)
    monkeypatch.setattr(prediction_run, 'read_image', press)
    film, path = write_film(tmp_path / 'film.avi'), tmp_path / 'found.json'
    assert run('--images', squares, film, '--out', tmp_path / 'out', '--save_json', path) == 130
    assert [image['file_name'] for image in json.loads(path.read_text())['images']] == ['one.png']
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['one.png']
    out, err = capsys.readouterr()
    assert '1 of 2 images in ' in out and err == 'interrupted: 1 of 2 images are done\n'


def test_a_video_that_fails_leaves_nothing_half_written(tmp_path):
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / 'half.mp4', 25) as writer:
        writer.write(np.zeros((120, 160, 3), np.uint8))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('flags', [(), ('--no_draw', '--save_json')])
def test_of_two_videos_of_one_name_the_second_is_refused(see, tmp_path, capsys, flags):
    out = tmp_path / 'out'
    names = ('a/clip.avi', 'b/clip.avi') if flags else ('clip.avi', 'clip.mov')
    first, second = write_film(tmp_path / names[0], 3), write_film(tmp_path / names[1], 5)
    more = (*flags, tmp_path / 'found.json') if flags else ()
    assert run('--images', first, second, '--out', out, *more) == 1
    printed, err = capsys.readouterr()
    assert 'clip.avi: 6 objects in 3 frames' in printed and printed.count('\n') == 1
    if flags:
        assert err == f'skipped: {second}: has the name of another file; rename one\n'
        assert len(json.loads((tmp_path / 'found.json').read_text())['images']) == 3
    else:
        assert err == f'skipped: {second}: would be drawn over {out / "clip.mp4"}, of another file; rename one\n'
        assert Video(out / 'clip.mp4').frames == 3


def test_a_video_that_was_skipped_takes_no_name(see, tmp_path):
    (tmp_path / 'clip.avi').write_bytes(b'no video')
    assert run('--images', tmp_path / 'clip.avi', write_film(tmp_path / 'clip.mov'), '--out', tmp_path / 'out') == 1
    assert Video(tmp_path / 'out/clip.mp4').frames == 3


def test_a_camera_without_a_screen_is_written_to_a_video_and_saved(see, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(video_run, 'Video', Camera)
    monkeypatch.setattr(video_run, 'has_screen', lambda: False)
    path, out = tmp_path / 'found.json', tmp_path / 'out'
    assert run('--images', '0', '--out', out, '--save_json', path, '--save_masks', 'ids') == 0
    names = [f'camera0#{i:06d}' for i in (1, 2, 3)]
    content = json.loads(path.read_text())
    assert [image['file_name'] for image in content['images']] == names and len(content['annotations']) == 6
    assert sorted(path.name for path in out.iterdir()) == sorted([*(f'{name}.ids.png' for name in names),
                                                                  'camera0.mp4'])
    assert Video(out / 'camera0.mp4').frames == 3
    printed, err = capsys.readouterr()
    assert re.search(rf'^camera0: 6 objects in 3 frames, [\d.]+ frames a second, in {out}/camera0.mp4, {path}, '
                     rf'{out}$', printed, re.MULTILINE)
    assert err == ''


def test_a_camera_takes_no_video_s_place(see, tmp_path, monkeypatch, capsys):
    video = write_film(tmp_path / 'camera0.avi', 3)
    monkeypatch.setattr(video_run, 'has_screen', lambda: False)
    assert run('--images', video, '0', '--out', tmp_path / 'out') == 1
    assert capsys.readouterr().err == (
        f'skipped: camera0: would be drawn over {tmp_path}/out/camera0.mp4, of another file; rename one\n')


def test_a_camera_that_is_not_drawn_only_saves(see, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(video_run, 'Video', Camera)
    monkeypatch.setattr(video_run, 'has_screen', lambda: True)
    monkeypatch.setattr(video_run, 'Window', None)
    path = tmp_path / 'found.json'
    assert run('--images', '3', '--no_draw', '--out', tmp_path / 'out', '--save_json', path) == 0
    assert [image['file_name'] for image in json.loads(path.read_text())['images']][-1] == 'camera3#000003'
    assert not (tmp_path / 'out').exists()
    assert capsys.readouterr().out.startswith('camera3: saving detections until Ctrl-C\ncamera3: 6 objects in 3 ')


def test_a_camera_that_is_shown_is_saved_too(see, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(video_run, 'Video', Camera)
    monkeypatch.setattr(video_run, 'has_screen', lambda: True)
    for name, answer in (('namedWindow', None), ('destroyAllWindows', None), ('getWindowProperty', 1)):
        monkeypatch.setattr(cv2, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(cv2, 'imshow', lambda title, image: shown.append(image))
    monkeypatch.setattr(cv2, 'waitKey', lambda _: ord('q') if len(shown) == 2 else -1)
    assert run('--images', '0', '--out', tmp_path / 'out', '--save_json', tmp_path / 'found.json') == 0
    assert len(json.loads((tmp_path / 'found.json').read_text())['images']) == len(shown) == 2
    assert all((image != 90).any() for image in shown)
    assert list((tmp_path / 'out').iterdir()) == []


def test_a_camera_that_is_not_there_is_one_line_and_spoils_nothing_else(images, tmp_path):
    path = tmp_path / 'found.json'
    environment = {name: value for name, value in os.environ.items() if name != 'OPENCV_LOG_LEVEL'}
    done = subprocess.run([sys.executable, ROOT / 'demo.py', '--device', 'cpu', '--images', images, '77', '--no_draw',
                           '--save_json', path], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, 'skipped: camera 77: cannot be opened; is it there, and free?\n')
    assert len(json.loads(path.read_text())['images']) == 3


def test_a_full_disk_is_told_for_a_video(film, tmp_path):
    (tmp_path / 'none').touch()
    with pytest.raises(ImageError, match='cannot be written'), VideoWriter(tmp_path / 'none/film.mp4', 25) as writer:
        writer.write(next(iter(Video(film))))


@pytest.mark.parametrize('flags', [(), ('--polygons',)])
def test_saved_annotations_are_a_dataset_with_the_masks_that_were_found(images, tmp_path, flags):
    path = tmp_path / 'new/found.json'
    assert run('--images', images, '--no_draw', '--save_json', path, *flags) == 0
    dataset = CocoDataset(path, images)
    assert dataset.warnings == [] and len(dataset) == 3
    content = json.loads(path.read_text())
    kinds = {type(one['segmentation']) for one in content['annotations']}
    assert kinds == {list if flags else dict}
    predictor = demo.open_predictor(demo.parse_arguments(['--device', 'cpu']))
    for i, image in enumerate(dataset.images):
        seen, = predictor([image.read()])
        kept = list(dataset.annotations(i))
        assert len(kept) == len(seen) > 3
        for j, one in enumerate(kept):
            assert one['category_id'] == predictor.classes.ids[seen.classes[j]]
            x0, y0, x1, y1 = seen.boxes[j]
            np.testing.assert_allclose(one['bbox'], [x0, y0, x1 - x0, y1 - y0], atol=0.01)
            mask, again = seen.full_mask(j), mask_of(one['segmentation'])
            assert one['area'] == mask.sum()
            union = (mask | again).sum()
            assert (mask & again).sum() >= (0.8 if flags else 1) * union


def mask_of(rle):
    from pycocotools import mask
    return mask.decode(rle).astype(bool)


def test_masks_are_saved_as_numbers_or_one_by_one(images, tmp_path):
    one = sorted(images.iterdir())[0]
    assert run('--images', one, '--no_draw', '--save_masks', 'ids', '--out', tmp_path / 'ids') == 0
    assert run('--images', one, '--no_draw', '--save_masks', 'objects', '--out', tmp_path / 'objects') == 0
    ids = cv2.imread(str(tmp_path / 'ids' / f'{one.name}.ids.png'), cv2.IMREAD_UNCHANGED)
    assert ids.dtype == np.uint16 and ids.shape == read_image(one).shape[:2]
    files = sorted((tmp_path / 'objects').iterdir())
    assert 3 < len(np.unique(ids)) - 1 <= len(files)  # masks may be hidden
    best = cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(best)) == {0, 255}
    np.testing.assert_array_equal(ids == 1, best == 255)  # the best lies on top
    assert files[0].name.startswith(f'{one.name}.001_')


def test_labelme_s_files_come_back_as_a_dataset_to_train_on(images, tmp_path, capsys):
    mine = shutil.copytree(images, tmp_path / 'mine')
    assert run('--images', mine, '--no_draw', '--save_labelme', mine) == 0
    assert sorted(path.suffix for path in mine.iterdir()) == ['.jpg'] * 3 + ['.json'] * 3
    for path in mine.glob('*.json'):
        image, size, objects, problems = read_labelme(path)
        assert image == path.with_suffix('.jpg') and size == read_image(image).shape[:2]
        assert len(objects) > 3 and problems == []
    assert labelme([str(mine), '--out', str(tmp_path / 'mine.json')]) == 0
    dataset = CocoDataset(tmp_path / 'mine.json', mine)
    assert dataset.warnings == [] and len(dataset) == 3
    dataset.check_folder()
    total = sum(len(dataset.objects(i)) for i in range(3))
    assert total == sum(len(read_labelme(path)[2]) for path in mine.glob('*.json'))


def test_labels_that_are_there_are_kept(squares, tmp_path, capsys):
    corrected = squares / 'one.json'
    corrected.write_text('corrected by hand')
    flags = ('--images', squares, '--save_labelme', squares, '--out', tmp_path / 'out', '--save_json',
             tmp_path / 'found.json')
    assert run(*flags) == 0
    assert corrected.read_text() == 'corrected by hand'
    assert capsys.readouterr().err == (f'{squares / "one.png"}: has labels already, which are kept; remove {corrected} '
                                       'to write them anew\n')
    assert len(read_labelme(squares / 'two.json')[2]) == 2
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['one.png', 'two.png']
    assert len(json.loads((tmp_path / 'found.json').read_text())['images']) == 2
    assert run(*flags) == 0
    assert capsys.readouterr().err.count('has labels already') == 2


def test_two_images_do_not_share_their_labels(squares, tmp_path, capsys):
    write_image(squares / 'one.bmp', np.zeros((SIDE, SIDE, 3), np.uint8))
    path = tmp_path / 'found.json'
    assert run('--images', squares, '--no_draw', '--save_labelme', tmp_path / 'labels', '--save_json', path) == 1
    assert capsys.readouterr().err == (f'skipped: {squares / "one.png"}: would be labelled over '
                                       f'{tmp_path / "labels/one.json"}, of another image; rename one\n')
    assert read_labelme(tmp_path / 'labels/one.json')[0].name == 'one.bmp'
    assert [image['file_name'] for image in json.loads(path.read_text())['images']] == ['one.bmp', 'two.png']


@pytest.mark.parametrize('flags', [(), ('--polygons',)])
def test_what_has_no_pixel_is_no_object_in_any_output(squares, see, tmp_path, capsys, flags):
    """Its box scores best, so that it would be drawn on top and numbered first."""
    empty = found(40, label=1, box_score=0.95)
    empty.masks[0][:] = False
    outputs = ('--images', squares / 'one.png', '--save_labelme', tmp_path / 'labels', '--save_json',
               tmp_path / 'found.json', *flags)
    drawn = []
    for seen in ([empty, found(20), found(70, label=1, box_score=0.6)], [found(20), found(70, label=1, box_score=0.6)]):
        see(*seen)
        (tmp_path / 'labels/one.json').unlink(missing_ok=True)
        for kind in ('ids', 'objects'):
            assert run(*outputs, '--out', tmp_path / kind, '--save_masks', kind) == 0
        assert 'one.png: 2 objects' in capsys.readouterr().out
        drawn.append(read_image(tmp_path / 'ids/one.png'))
        areas = [one['area'] for one in json.loads((tmp_path / 'found.json').read_text())['annotations']]
        assert areas == [10000, 10000]
        assert len(read_labelme(tmp_path / 'labels/one.json')[2]) == 2
        ids = cv2.imread(str(tmp_path / 'ids/one.png.ids.png'), cv2.IMREAD_UNCHANGED)
        assert np.unique(ids).tolist() == [0, 1, 2] and (ids == 1).sum() == 10000
        names = sorted(path.name for path in (tmp_path / 'objects').iterdir())
        assert names == ['one.png', 'one.png.001_a.png', 'one.png.002_b.png']
    np.testing.assert_array_equal(*drawn)


def test_masks_of_objects_that_are_gone_go_too(squares, see, tmp_path):
    flags = ('--images', squares, '--no_draw', '--save_masks', 'objects', '--out', tmp_path / 'out')
    see(found(20), found(40), found(70, label=1))
    assert run(*flags) == 0
    others = ['one.png', 'one.png.ids.png', 'one.png.1_a.png', 'one.png.001_a.jpg', 'one.png.notes.001_a.png',
              'my_one.png.001_a.png', 'one_png.001_a.png']
    for name in others:
        (tmp_path / 'out' / name).touch()
    see(found(20, label=1))
    assert run(*flags) == 0
    names = ['one.png.001_b.png', 'two.png.001_b.png']
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == sorted(others + names)


def test_the_last_line_tells_where_everything_is(squares, tmp_path, capsys):
    out, path, labels = tmp_path / 'out', tmp_path / 'found.json', tmp_path / 'labels'
    save = ('--save_json', path, '--save_masks', 'ids', '--save_labelme', labels)
    for flags, pattern in (
            ((), rf'2 of 2 images in .+ with reading and drawing; .+ Results are in {out}'),
            (save, rf'2 of 2 .+ drawing; .+ Results are in {out}, {path}, {labels}'),
            (('--no_draw', *save[:2]), rf'2 of 2 .+ with reading and saving; .+ Results are in {path}')):
        assert run('--images', squares, '--out', out, *flags) == 0
        assert re.fullmatch(pattern, capsys.readouterr().out.splitlines()[-1])
    assert run('--images', squares / 'one.png', '--out', out) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith('1 of 1 image in ')


@pytest.mark.parametrize('name', ['https://example.org/a.jpg', 'http://example.org', 'rtsp://camera/1'])
def test_addresses_are_not_taken(name, capsys):
    assert run('--images', name) == 2
    assert capsys.readouterr().err == (f'demo.py: error: {name}: addresses are not taken; download the file first, and '
                                       'name that\n')


def test_help_begins_with_what_to_look_at(capsys):
    with pytest.raises(SystemExit, match='0'):
        demo.main(['--help'])
    usage, options = capsys.readouterr().out.split('options:')
    own = ['--images', '--out', '--no_draw', '--save_json', '--polygons', '--save_masks', '--save_labelme']
    assert re.findall(r'--\w+', usage)[:7] == re.findall(r'^  (--\w+)', options, re.MULTILINE)[:7] == own


@pytest.mark.parametrize('flags', [('--save_json',), ('--polygons', '--save_json'), ('--save_labelme',)])
def test_what_is_saved_passes_the_check_of_datasets(tmp_path, capsys, flags):
    """But for classes with few objects: there are six images."""
    path, labels = tmp_path / 'found.json', tmp_path / 'labels'
    assert run('--images', TEST, '--no_draw', *flags, labels if flags == ('--save_labelme',) else path) == 0
    if labels.exists():
        assert labelme([str(labels), '--out', str(path)]) == 0
    capsys.readouterr()
    check_dataset([str(path), str(TEST), '--samples', str(tmp_path / 'check.png')])
    out = capsys.readouterr().out
    assert re.match(r'.+: 6 images, 6\d objects, 8 classes\n', out)
    assert re.findall(r'^(\w.+): \d+$', out, re.MULTILINE) == ['Classes with few objects']


@pytest.mark.parametrize(('flags', 'message'), [
    (['--polygons'], '--polygons says what to write into --save_json FILE'),
    (['--no_draw'], '--no_draw leaves nothing to do')])
def test_flags_that_mean_nothing_are_refused(flags, message, capsys):
    with pytest.raises(SystemExit, match='2'):
        demo.main(flags)
    assert message in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_told_before_the_work(images, tmp_path, capsys):
    (tmp_path / 'file').touch()
    assert run('--images', images, '--save_json', tmp_path / 'file/x.json', '--out', tmp_path / 'out') == 2
    assert capsys.readouterr().err.startswith(f'demo.py: error: {tmp_path / "file"}')


@pytest.mark.parametrize('name', ('http:127.0.0.1:{port}?x.mp4', 'tcp:127.0.0.1:{port}?x.mp4', '12:30.mp4'))
def test_a_file_name_is_no_address(name, film, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(('127.0.0.1', 0)) as server:
        server.settimeout(0.1)
        name = name.format(port=server.getsockname()[1])
        shutil.copy(film, name)
        assert len(list(Video(find_sources(['.']).videos[0]))) == 12
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_playlist_opens_no_address(tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as server:
        server.settimeout(0.1)
        address = f'http://127.0.0.1:{server.getsockname()[1]}/x.ts'
        (tmp_path / 'x.mp4').write_text(f'#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}\n#EXT-X-ENDLIST\n')
        with pytest.raises(ImageError):
            Video(tmp_path / 'x.mp4')
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize('name', ('%03d.mp4', '001.mp4'))
def test_a_file_name_is_no_pattern(name, images, tmp_path):
    for number in (1, 2):
        shutil.copy(next(images.iterdir()), tmp_path / f'{number:03d}.mp4')
    (tmp_path / name).write_bytes(b'damaged')
    with pytest.raises(ImageError, match='not a video that can be read'):
        Video(tmp_path / name)


def test_an_image_given_twice_is_predicted_once(images):
    first = sorted(images.iterdir())[0]
    assert find_sources([first, images / '..' / images.name / first.name, first]).images == [first]


@pytest.mark.parametrize('number', ('9' * 20, '9' * 5000, '10000'))
def test_a_camera_that_no_system_has_is_one_line(number, capsys):
    assert exit_status(demo.main, ['--images', number]) == 2
    error, = capsys.readouterr().err.splitlines()
    assert 'no camera has such a number' in error and len(error) < 1200


def test_a_file_that_is_no_mask_is_kept(images, tmp_path):
    first = sorted(images.iterdir())[0]
    own = tmp_path / f'{first.name}.001_notes.png'
    own.write_bytes(b'mine')
    assert run('--images', first, '--no_draw', '--save_masks', 'objects', '--out', tmp_path) == 1
    assert own.read_bytes() == b'mine' and list(tmp_path.iterdir()) == [own]
