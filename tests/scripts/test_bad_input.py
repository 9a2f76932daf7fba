"""The scripts, mostly as processes, with every kind of bad image and bad annotation."""
import importlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import paddle
import pytest
from PIL import Image

from data.coco import CocoDataset
from data.images import ImageError
from model.checkpoint import Checkpoint, save_checkpoint, tensors_of
from model.classes import Classes
from model.config import preset
from model.yolact import Yolact
from prediction.sources import find_sources
from prediction.video import Video
from system.command import exit_status
from tests.helpers import ROOT
from tests.helpers.bad_annotations import (
    BAD_ANNOTATIONS,
    BAD_FILES,
    UNUSUAL_ANNOTATIONS,
    annotation,
    category,
    content,
    image,
    many_objects,
    write_json,
)
from tests.helpers.bad_images import write_bad_images, write_non_files
from tests.helpers.networks import SMALL
from tools import check, convert, visualize

CATEGORIES = [category(id, f'kind {id}') for id in range(3, 11)]
pytestmark = pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')  # as pytest lets all through
MAX_MEMORY = 2e9  # bytes; the decompression bomb's pixels in float32, or the IoU of 100,000 objects, take more
MAX_SECONDS = 60  # for what takes five on two idle cores


class Done(NamedTuple):
    """A process that has ended: its exit status, and its lines of standard output and standard error."""
    status: int
    out: list[str]
    err: list[str]


# A process inherits the peak memory of the one that starts it, so a small one starts it and measures.
MEASURE = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def run(script: str, *flags: object) -> Done:
    """Run a script in a process of its own. Neither it nor its workers may take much memory or time."""
    began = time.time()
    process = subprocess.run([sys.executable, '-c', MEASURE, sys.executable, ROOT / f'{script}.py', *map(str, flags)],
                             capture_output=True, text=True)
    *out, kilobytes = process.stdout.splitlines()
    assert 'Traceback' not in process.stderr, process.stderr
    assert int(kilobytes) * 1024 < MAX_MEMORY and time.time() - began < MAX_SECONDS
    return Done(process.returncode, out, process.stderr.splitlines())


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small network with random weights."""
    paddle.seed(0)
    network = Yolact(preset(**SMALL))
    classes = Classes([kind['name'] for kind in CATEGORIES], [kind['id'] for kind in CATEGORIES])
    folder = tmp_path_factory.mktemp('checkpoint') / 'random.pd'
    save_checkpoint(folder, Checkpoint(network.config, classes, tensors_of(network)))
    return folder


class Images(NamedTuple):
    """A folder of images.

    Attributes:
        folder: where they are.
        annotations: the annotation file that lists all of them, with an object in each.
        bad: what the error of each image that cannot be read contains, by name.
        good: width and height of each image that can be read, by name.
    """
    folder: Path
    annotations: Path
    bad: dict[str, str]
    good: dict[str, tuple[int, int]]


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder = tmp_path_factory.mktemp('images')
    bad, good = write_bad_images(folder)
    images, annotations = [], []
    for id, name in enumerate(sorted(bad | good)):
        width, height = good.get(name, (80, 60))
        images.append(image(id, file_name=name, width=width, height=height))
        annotations.append(annotation(id, image_id=id, bbox=[0, 0, width, height],
                                      segmentation=[[0, 0, width, 0, width, height]]))
    file = write_json(tmp_path_factory.mktemp('annotations') / 'all.json',
                   content(annotations, images=images, categories=CATEGORIES))
    return Images(folder, file, bad, good)


def flags_of(script: str, checkpoint: object, images: Path, annotations: Path | None, out: Path,
             steps: int = 2) -> tuple[object, ...]:
    """The flags of a short run that writes to a folder."""
    return {'demo': ('--model_path', checkpoint, '--images', images, '--out', out),
            'eval': ('--model_path', checkpoint, '--valid_images_path', images, '--valid_anno_path', annotations,
                     '--json', out / 'metrics.json'),
            'test_dev': ('--model_path', checkpoint, '--test_images_path', images, '--test_anno_path', annotations,
                         '--out', out / 'results.json'),
            'train': ('--pattern=0', f'--backbone_name={SMALL["backbone_name"]}', '--input_size=256', '--batch_size=4',
                      '--num_workers=1', '--log_interval=1', '--augmentation=light', f'--steps={steps}',
                      '--train_images_path', images, '--train_anno_path', annotations, '--save_dir', out)}[script]


def problems_in(lines: list[str], images: Images) -> dict[str, str]:
    """The problems that lines report, by image name. libpng may have written its own warning before it in a line."""
    found = [re.search(rf'{re.escape(str(images.folder))}/([^/]+\.\w+): (.+)', line) for line in lines]
    return {match[1]: match[2] for match in found if match}


def assert_all_are_named(lines: list[str], images: Images, names: Iterable[str]) -> None:
    """Assert that lines report these images and no others, each with its problem."""
    problems = problems_in(lines, images)
    assert sorted(problems) == sorted(names)
    for name, problem in problems.items():
        assert images.bad[name] in problem


def test_demo_draws_on_good_images_and_names_bad_ones(images, checkpoint, tmp_path):
    done = run('demo', *flags_of('demo', checkpoint, images.folder, None, tmp_path))
    assert done.status == 1
    assert_all_are_named(done.err, images, images.bad.keys() - {'folder.jpg'})  # folders are not searched
    assert done.out[-1].startswith(f'{len(images.good)} of {len(images.good) + len(images.bad) - 1} images in ')
    names = {name + '.png' * name.endswith('.gif'): size for name, size in images.good.items()}
    assert {path.name: Image.open(path).size for path in tmp_path.iterdir()} == names


def test_eval_evaluates_good_images_and_names_bad_ones(images, checkpoint, tmp_path):
    done = run('eval', *flags_of('eval', checkpoint, images.folder, images.annotations, tmp_path))
    assert done.status == 1
    assert_all_are_named(done.err, images, images.bad)
    assert done.err[-1] == f'Images that count as having no detections: {len(images.bad)}'
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert metrics['classes'][0]['objects'] == len(images.bad) + len(images.good)
    assert len(metrics['problems']) == len(images.bad)


def test_test_dev_writes_results_of_good_images_and_names_bad_ones(images, checkpoint, tmp_path):
    done = run('test_dev', *flags_of('test_dev', checkpoint, images.folder, images.annotations, tmp_path),
               '--batch_size', 3)
    assert done.status == 1
    assert_all_are_named(done.err, images, images.bad)
    assert done.err[-1] == f'Images that were left out: {len(images.bad)}'
    listed = {record['id']: record['file_name'] for record in json.loads(images.annotations.read_text())['images']}
    found = {listed[entry['image_id']] for entry in json.loads((tmp_path / 'results.json').read_text())}
    assert {'whole.jpg', 'large.png'} <= found <= images.good.keys()


def test_train_trains_on_good_images_and_names_bad_ones(images, tmp_path):
    done = run('train', *flags_of('train', None, images.folder, images.annotations, tmp_path, 10))
    assert done.status == 0
    assert_all_are_named(done.err, images, images.bad)  # ten steps of four take every image
    assert sum(line.startswith('step ') for line in done.err) == 10
    assert len(list(tmp_path.glob('step0000010-*.pd'))) == 1


def test_bad_images_alone_are_an_error(images, checkpoint, tmp_path):
    bad = json.loads(images.annotations.read_text())
    bad['images'] = [record for record in bad['images'] if record['file_name'] in images.bad]
    annotations = write_json(tmp_path / 'bad.json', bad)
    done = run('train', *flags_of('train', None, images.folder, annotations, tmp_path))
    assert done.status == 2
    assert re.fullmatch(rf'train.py: error: 20 images in a row could not be read, the last one: {images.folder}/.+',
                        done.err[-1])


@pytest.fixture(scope='module')
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the two images that `content` lists."""
    folder = tmp_path_factory.mktemp('photos')
    for name in ('7.jpg', '8.jpg'):
        Image.effect_noise((80, 60), 90).save(folder / name)
    return folder


def error_of(script: str, flags: Iterable[object], capsys: pytest.CaptureFixture[str]) -> str:
    """The error that a script prints in one line, with exit status 2."""
    assert exit_status(importlib.import_module(script).main, [str(flag) for flag in flags]) == 2
    line, = (line for line in capsys.readouterr().err.splitlines() if line.startswith(f'{script}.py: error: '))
    return line.removeprefix(f'{script}.py: error: ')


@pytest.mark.parametrize('script', ['eval', 'test_dev', 'train'])
@pytest.mark.parametrize('name', BAD_FILES)
def test_a_bad_annotation_file_is_an_error(script, name, photos, tmp_path, capsys):
    bad, reason = BAD_FILES[name]
    if script == 'test_dev' and reason == 'no list of annotations':
        pytest.skip('test_dev.py needs no annotations')
    path = write_json(tmp_path / 'wrong.json', bad)
    line = error_of(script, flags_of(script, 'none.pd', photos, path, tmp_path), capsys)
    assert line.startswith(f'{path}: ') and re.search(reason, line)


@pytest.fixture(scope='module')
def bad_annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of every bad annotation, every unusual one and two good ones."""
    records = [annotation(id, **keys) for id, (keys, _) in enumerate(BAD_ANNOTATIONS.values())]
    records += [annotation(100 + id, **keys) for id, keys in enumerate(UNUSUAL_ANNOTATIONS.values())]
    records += [annotation(200), annotation(201, image_id=8)]
    return write_json(tmp_path_factory.mktemp('bad') / 'bad.json', content(records, categories=CATEGORIES))


@pytest.mark.parametrize('script', ['eval', 'test_dev', 'train'])
def test_bad_annotations_are_left_out(script, bad_annotations, photos, checkpoint, tmp_path):
    done = run(script, *flags_of(script, checkpoint, photos, bad_annotations, tmp_path))
    assert done.status == 0
    left_out = [line for line in done.err if 'nnotations that are left out' in line]
    if script != 'test_dev':  # which uses no annotations
        assert re.search(r'left out: (\d+)', left_out[0])[1] == str(len(BAD_ANNOTATIONS))
        assert f'{bad_annotations}: annotation 0 is left out: its image_id, 99, is not in the file' in done.err
    assert_work_was_done(script, tmp_path, objects=len(UNUSUAL_ANNOTATIONS) - 1 + 2)


def assert_work_was_done(script: str, out: Path, objects: int) -> None:
    """Assert that the files of a run are there, and that eval.py counted the objects of the first class."""
    if script == 'eval':
        assert json.loads((out / 'metrics.json').read_text())['classes'][0]['objects'] == objects
    elif script == 'test_dev':
        assert {entry['image_id'] for entry in json.loads((out / 'results.json').read_text())} == {7, 8}
    else:
        assert len(list(out.glob('step0000002-*.pd'))) == 1


@pytest.mark.parametrize('script', ['eval', 'train'])
def test_a_dataset_of_crowds_alone_has_no_objects(script, photos, checkpoint, tmp_path):
    annotations = write_json(tmp_path / 'crowds.json', content(many_objects(9, iscrowd=1), categories=CATEGORIES))
    done = run(script, *flags_of(script, checkpoint, photos, annotations, tmp_path))
    assert done.status == 0
    assert_work_was_done(script, tmp_path, objects=0)


@pytest.mark.parametrize('script', ['eval', 'test_dev', 'train'])
def test_100_000_objects_in_an_image_take_little_memory(script, photos, checkpoint, tmp_path):
    records = [*many_objects(100_000), annotation(0, image_id=8)]
    annotations = write_json(tmp_path / 'many.json', content(records, categories=CATEGORIES))
    done = run(script, *flags_of(script, checkpoint, photos, annotations, tmp_path))
    assert done.status == 0
    if script == 'train':
        assert f'{photos}/7.jpg: has 100000 annotated objects, more than the 5000 that can be ' in '\n'.join(done.err)
    assert_work_was_done(script, tmp_path, objects=100_001)


# The tools, and code that reads a single file, run in this process: there are many bad files, and each is quick.

def test_check_names_all_bad_images(images, tmp_path, capsys):
    assert check.main([str(images.annotations), str(images.folder), '--samples', str(tmp_path / 's.jpg'), '--all']) == 1
    lines = capsys.readouterr().out.splitlines()
    start = lines.index(f'Images that cannot be used: {len(images.bad)}')
    assert_all_are_named(lines[start + 1:start + 1 + len(images.bad)], images, images.bad)
    assert f'Sample images with their ground truth are in {tmp_path}/s.jpg: look at them' in lines


def test_check_names_all_bad_annotations(bad_annotations, photos, tmp_path, capsys):
    flags = [str(photos), '--samples', str(tmp_path / 's.jpg'), '--all']
    assert check.main([str(bad_annotations), *flags]) == 1
    out = capsys.readouterr().out
    assert f'Annotations that are left out: {len(BAD_ANNOTATIONS)}\n' in out
    for id, (_, reason) in enumerate(BAD_ANNOTATIONS.values()):
        assert re.search(rf'annotation {id} is left out: .*{reason}', out)


@pytest.mark.parametrize(('tool', 'command'), [(check, []), (visualize, ['samples']), (visualize, ['anchors'])])
@pytest.mark.parametrize('name', BAD_FILES)
def test_tools_refuse_a_bad_annotation_file(tool, command, name, photos, tmp_path, capsys):
    bad, reason = BAD_FILES[name]
    path = write_json(tmp_path / 'wrong.json', bad)
    assert exit_status(tool.main, [*command, str(path), str(photos)]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f'{tool.__name__}: error: {path}: ') and re.search(reason, line)


def test_convert_leaves_out_bad_images(images, tmp_path, capsys):
    """The label files lack the sizes, which are read from the images."""
    for name in images.bad | images.good:
        write_json(tmp_path / f'{name}.json', {'shapes': [], 'imagePath': str(images.folder / name)})
    assert convert.main([str(tmp_path), '--out', str(tmp_path / 'out/all.json')]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(images.bad)
    for name, reason in images.bad.items():
        path = images.folder / name
        assert any(line.startswith(f'{path}: ') and reason in line or
                   line.startswith(f'{tmp_path / name}.json: its image, {path}, is not there') for line in lines)
    content = json.loads((tmp_path / 'out/all.json').read_text())
    assert {Path(one['file_name']).name: (one['width'], one['height']) for one in content['images']} == images.good


BAD_LABEL_FILES = {
    'empty': b'', 'cut': b'{"shapes": [', 'not text': b'\xff\xfe\0', 'nested': b'[' * 100_000, 'a list': b'[]',
    'annotations': json.dumps({'info': {}, **content()}).encode(), 'a number': b'{"shapes": [], "imagePath": 3}',
    'gone': b'{"shapes": [], "imagePath": "gone.png"}', 'NUL': b'{"shapes": [], "imagePath": "a\\u0000"}',
    'surrogate': b'{"shapes": [], "imagePath": "\\ud800"}',
    'endless': b'{"imagePath": "7.jpg", "shapes": [{"label": "x", "points": [[3, 1' + b'0' * 400 + b']]}]}'}


def test_convert_names_bad_label_files_and_converts_good_ones(photos, tmp_path, capsys):
    folder = tmp_path / 'labels'
    folder.mkdir()
    for name, data in BAD_LABEL_FILES.items():
        (folder / f'{name}.json').write_bytes(data)
    (folder / '7.jpg').write_bytes((photos / '7.jpg').read_bytes())
    good = {'label': 'x', 'points': [[1, 2], [30, 2], [9, 9]]}
    write_json(folder / 'good.json', {'shapes': [good], 'imagePath': '7.jpg'})
    for number, path in enumerate(write_non_files(tmp_path)):
        (tmp_path / path).rename(folder / f'{number}.json')
    assert convert.main([str(folder), '--out', str(tmp_path / 'all.json')]) == 1
    lines = capsys.readouterr().err.splitlines()
    named = {line.removeprefix(f'{folder}/').partition('.json: ')[0] for line in lines}
    assert len(lines) == len(named) and named == {*BAD_LABEL_FILES, *'01234'}
    dataset = CocoDataset(tmp_path / 'all.json', folder)
    assert sum(len(dataset.objects(i)) for i in range(len(dataset))) == 1


def test_visualize_draws_samples_of_good_images_and_names_bad_ones(images, tmp_path, capsys):
    flags = ['samples', str(images.annotations), str(images.folder), '--backbone_name', SMALL['backbone_name'],
             '--input_size', '256', '--augmentation', 'light', '--number', '30', '--out', str(tmp_path / 's.png')]
    assert visualize.main(flags) == 1
    out, err = capsys.readouterr()
    assert out == f'{tmp_path}/s.png\n' and Image.open(tmp_path / 's.png').size == (4 * 256, 8 * 256)
    problems = problems_in(err.splitlines(), images)
    assert len(problems) == len(err.splitlines()) > 10
    assert all(images.bad[name] in problem for name, problem in problems.items())


BAD_RESULTS = {
    'empty': (b'', 'is not JSON'), 'cut': (b'[{"image_id": 7', 'is not JSON'),
    'nested': (b'[' * 100_000, 'is not JSON'), 'not text': (b'\xff\xfe\0', 'is not JSON'),
    'an object': (b'{}', 'is not a list'),
    'a number': (b'[3]', 'result 1: is not an object'),
    'another image': (b'[{"image_id": 99, "category_id": 3, "score": 1, "bbox": [1, 2, 3, 4]}]', 'image_id 99'),
    'another class': (b'[{"image_id": 7, "category_id": 99, "score": 1, "bbox": [1, 2, 3, 4]}]', 'category_id 99'),
    'endless': (b'[{"image_id": 7, "category_id": 3, "score": 1' + b'0' * 400 + b', "bbox": [1, 2, 3, 4]}]', 'score'),
    'no box': (b'[{"image_id": 7, "category_id": 3, "score": 1}]', 'neither bbox nor segmentation'),
    'another size': (b'[{"image_id": 7, "category_id": 3, "score": 1, "segmentation": {"size": [1, 1]}}]',
                     'not an RLE of 60 by 80 pixels')}


@pytest.mark.parametrize('name', BAD_RESULTS)
def test_a_bad_results_file_is_an_error(name, photos, tmp_path, capsys):
    data, reason = BAD_RESULTS[name]
    path = tmp_path / 'results.json'
    path.write_bytes(data)
    annotations = write_json(tmp_path / 'a.json', content([annotation(1)], categories=CATEGORIES))
    flags = ['--valid_anno_path', annotations, '--results', path, '--json', tmp_path / 'metrics.json']
    line = error_of('eval', flags, capsys)
    assert line.startswith(f'{path}: ') and reason in line
    assert not (tmp_path / 'metrics.json').exists()


def test_an_export_that_cannot_be_checked_writes_nothing(images, checkpoint, tmp_path, capsys):
    for name, reason in images.bad.items():
        line = error_of('export', ['--model_path', checkpoint, '--out', tmp_path / 'a.onnx', '--image',
                                   images.folder / name], capsys)
        assert line.startswith(f'{images.folder / name}: ') and reason in line
    assert list(tmp_path.iterdir()) == []


def write_video(path: Path, frames: int) -> Path:
    """Write a video of black frames of 64x48 pixels at 25 frames a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 25, (64, 48))
    for _ in range(frames):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(('part', 'cut'), [(1, False), (0.96, False), (0.5, True)])
def test_a_truncated_video_is_detected_by_its_number_of_frames(tmp_path, part, cut):
    path = write_video(tmp_path / 'a.avi', 60)
    path.write_bytes(path.read_bytes()[:int(part * path.stat().st_size)])
    video = Video(path)
    frames = iter(video)
    next(frames)
    assert (video.frames, video.read, video.cut) == (60, 1, False)  # there may be more
    read = 1 + sum(1 for _ in frames)
    assert (video.read, video.cut) == (read, cut)


def test_pipes_and_folders_are_not_read_as_videos(tmp_path):
    os.mkfifo(tmp_path / 'pipe.mp4')
    write_video(tmp_path / 'a.avi', 3)
    (tmp_path / 'folder.mp4').mkdir()
    assert find_sources([tmp_path]).videos == [tmp_path / 'a.avi', tmp_path / 'pipe.mp4']
    assert find_sources([tmp_path / 'pipe.mp4']).videos == [tmp_path / 'pipe.mp4']
    with pytest.raises(ImageError, match='pipe.mp4: a pipe, a device or a folder; name a file'):
        Video(tmp_path / 'pipe.mp4')


def test_a_video_whose_name_is_not_utf_8_is_an_error(tmp_path):
    path = write_video(tmp_path / 'a.avi', 3).rename(tmp_path / os.fsdecode(b'\xff.avi'))
    with pytest.raises(ImageError, match='a name that is not in UTF-8; rename it') as caught:
        Video(path)
    assert str(caught.value).isprintable()


def test_demo_names_a_pipe_and_draws_on_the_other_videos(checkpoint, tmp_path):
    os.mkfifo(tmp_path / 'pipe.mp4')
    write_video(tmp_path / 'a.avi', 3)
    done = run('demo', '--model_path', checkpoint, '--images', tmp_path, '--out', tmp_path / 'out')
    assert done.status == 1
    assert f'skipped: {tmp_path}/pipe.mp4: a pipe, a device or a folder; name a file' in done.err
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['a.mp4']
