"""Fuzz tests: files changed at random, hundreds of each kind, are read or refused in one line.

A failure found here gets a plain test beside those of the code that reads such files. FUZZ=50 pytest
tests/scripts/test_fuzz.py tries fifty times as many examples, other ones each time.
"""
import copy
import functools
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_api

from data.coco import CocoDataset
from data.coco_file import class_names, make_annotations
from data.images import ImageError, read_image
from data.labelme import read_labelme, read_labelme_files
from data.masks import encode_polygons, rasterise
from evaluation.results import read_results
from model.checkpoint import Checkpoint, halve, load_checkpoint, restore, save_checkpoint, tensors_of
from model.classes import Classes
from model.config import preset
from model.yolact import Yolact
from system.errors import UserError
from tests.helpers.bad_annotations import annotation, content, write_json
from tests.helpers.networks import SMALL
from tests.helpers.squares import SIDE, A, write_squares
from visualization.curves import draw_curves
from visualization.training_log import read_training_log

Result = TypeVar('Result')

FACTOR = int(os.environ.get('FUZZ', 0))
MAX_SECONDS = 25  # to read a file; images of the most pixels allowed take ten
MAX_MESSAGE = 4000  # characters; a nested list takes up to 2000
MAX_FULL_MESSAGE = 50_000  # characters of one that contains all of an odd value
ODD_VALUES = (
    None, True, False, 0, -1, 1, 2, 7, 0.5, -0.0, 1e-320, 1e5, 1e308, -1e308, float('nan'), float('inf'), -float('inf'),
    2 ** 29, 2 ** 31 - 1, 2 ** 31, 2 ** 32 + 1, -2 ** 63, 10 ** 400, '', '1', 'a\nb\u2028', '\ud800', '\0', 'x' * 5000,
    '../' * 9, 'P`W1', 'oooooooo1', [], {}, [[]], [{}], [None], ['a'], [1, 2, 3, 4], [0.5] * 6, [float('nan')] * 4,
    [10 ** 400] * 4, [[1e5] * 6] * 3, {'size': [60, 80], 'counts': [4800]}, {'size': 1}, [[[[]]]], list(range(500)))
EXTREME_BYTES = st.sampled_from((b'\0', b'\xff', b'\x7f', b'\x80', b'\x01'))


def examples(number: int) -> settings:
    """The number of examples of a test: the same ones each time, or with FUZZ more and random ones."""
    return settings(max_examples=number * (FACTOR or 1), derandomize=not FACTOR, deadline=None, database=None,
                    suppress_health_check=list(HealthCheck))


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every list and object within a JSON value, with each of its keys."""
    for key, inner in list(value.items() if isinstance(value, dict) else
                           enumerate(value) if isinstance(value, list) else ()):
        yield value, key
        yield from places(inner)


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """JSON with a few values replaced, deleted, repeated or wrapped in a list."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        everywhere = list(places(content))
        if not everywhere:
            break
        holder, key = everywhere[draw(st.integers(0, len(everywhere) - 1))]
        action = draw(st.sampled_from(('odd', 'odd', 'swap', 'delete', 'repeat', 'wrap')))
        if action == 'odd':
            holder[key] = copy.deepcopy(draw(st.sampled_from(ODD_VALUES)))
        elif action == 'swap':
            other, place = everywhere[draw(st.integers(0, len(everywhere) - 1))]
            holder[key] = copy.deepcopy(other[place])
        elif action == 'delete':
            del holder[key]
        elif action == 'repeat' and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        else:
            holder[key] = [holder[key]]
    return content


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with a few replaced, deleted or repeated, or truncated."""
    damaged = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(damaged)))
        length = draw(st.sampled_from((1, 1, 2, 4, 30)))
        action = draw(st.sampled_from(('replace', 'replace', 'replace', 'delete', 'repeat', 'truncate')))
        if action == 'replace':
            damaged[start:start + length] = draw(st.one_of(st.binary(min_size=1, max_size=1), EXTREME_BYTES)) * length
        elif action == 'repeat':
            damaged[start:start] = damaged[start:start + length]
        elif action == 'delete':
            del damaged[start:start + length]
        else:
            del damaged[start:]
    return bytes(damaged)


def read_or_refuse(read: Callable[[], Result], error: type[UserError] = UserError,
                   max_message: int = MAX_MESSAGE) -> Result | None:
    """Read a file, in time. None if it raises the error that it may, with a message of one line and limited length."""
    began = time.perf_counter()
    try:
        return read()
    except error as refusal:
        message = str(refusal)
        assert message.isprintable() and len(message) < max_message
        return None
    finally:
        assert time.perf_counter() - began < MAX_SECONDS


BLOCK = np.zeros((60, 80), np.uint8, order='F')
BLOCK[5:9, 20:70:3] = 1
RLE = {'size': [60, 80], 'counts': mask_api.encode(BLOCK)['counts'].decode()}
COCO = content([annotation(1), annotation(2, segmentation=RLE, image_id=8),
                annotation(3, segmentation={'size': [60, 80], 'counts': [0, 600, 4200]}, iscrowd=1)])


def use(dataset: CocoDataset) -> None:
    """Do with a dataset whatever the scripts do with its annotations."""
    for i, image in enumerate(dataset.images):
        objects = dataset.objects(i)
        assert len(objects.boxes) == len(objects.labels) == len(objects.segmentations) >= objects.num_crowds
        assert np.isfinite(objects.boxes).all() and (objects.boxes[:, 2:] > objects.boxes[:, :2]).all()
        small = image.width * image.height < 1e6
        for segmentation in objects.segmentations:
            if small:
                mask = rasterise(segmentation, (image.height, image.width))
                assert mask.shape == (image.height, image.width)
            if small or isinstance(segmentation, list):
                scale = [[32 / image.width, 0, 0], [0, 32 / image.height, 0]]
                assert rasterise(segmentation, (32, 32), scale).shape == (32, 32)
        for record in dataset.annotations(i):
            area = mask_api.area(record['segmentation'])
            assert area == mask_api.decode(record['segmentation']).sum() if small else area >= 0
    assert all(line.isprintable() and len(line) < MAX_MESSAGE for line in dataset.warnings)
    '\n'.join(dataset.classes.names).encode('utf-8')  # as they are printed and saved
    json.dumps([dataset.classes.ids, [image.id for image in dataset.images]])


@pytest.fixture(scope='module')
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose files each example overwrites."""
    return tmp_path_factory.mktemp('fuzz')


@examples(500)
@given(odd=changed(COCO))
def test_annotations_with_odd_values(scratch, odd):
    write_json(scratch / 'coco.json', odd)
    dataset = read_or_refuse(lambda: CocoDataset(scratch / 'coco.json', scratch))
    if dataset:
        use(dataset)


@examples(500)
@given(odd=damaged(json.dumps(COCO).encode()))
def test_annotations_with_odd_bytes(scratch, odd):
    (scratch / 'coco.json').write_bytes(odd)
    dataset = read_or_refuse(lambda: CocoDataset(scratch / 'coco.json', scratch))
    if dataset:
        use(dataset)


@examples(500)
@given(counts=st.one_of(st.text('0123456789PQ`aopn', max_size=12), damaged(RLE['counts'].encode()).map(
    lambda data: data.decode('latin-1')), st.lists(st.integers(-1, 4801), max_size=5)))
def test_run_lengths_with_odd_counts(scratch, counts):
    """pycocotools would read and write where it should not."""
    write_json(scratch / 'coco.json', content([annotation(1, segmentation={'size': [60, 80], 'counts': counts})]))
    use(CocoDataset(scratch / 'coco.json', scratch))


@pytest.fixture(scope='module')
def squares(scratch: Path) -> CocoDataset:
    return write_squares(scratch)


ENTRY = {'image_id': 1, 'category_id': A, 'score': 0.5, 'bbox': [1, 2, 3, 4.5]}
CIRCLE = encode_polygons([100 + 50 * np.stack([np.cos(np.arange(30)), np.sin(np.arange(30))], 1)], (SIDE, SIDE))
RESULTS = [{**ENTRY, 'segmentation': {'size': [SIDE, SIDE], 'counts': CIRCLE['counts'].decode()}},
           {**ENTRY, 'segmentation': {'size': [SIDE, SIDE], 'counts': [0, SIDE * SIDE]}}]


def assert_usable(boxes: list[dict[str, Any]], masks: list[dict[str, Any]] | None) -> None:
    """Assert that results are numbers and masks."""
    for entry in boxes:
        assert len(np.array(entry['bbox'], np.float64)) == 4 and 0 <= abs(float(entry['score']))
    for entry in masks or []:
        assert mask_api.decode(entry['segmentation']).shape == (SIDE, SIDE)


@examples(500)
@given(odd=st.one_of(changed(RESULTS), changed(RESULTS[1:]), changed([ENTRY])))
def test_results_with_odd_values(scratch, squares, odd):
    write_json(scratch / 'results.json', odd)
    found = read_or_refuse(lambda: read_results(scratch / 'results.json', squares))
    if found:
        assert_usable(*found)


@examples(300)
@given(odd=damaged(json.dumps(RESULTS).encode()))
def test_results_with_odd_bytes(scratch, squares, odd):
    (scratch / 'results.json').write_bytes(odd)
    found = read_or_refuse(lambda: read_results(scratch / 'results.json', squares))
    if found:
        assert_usable(*found)


def encoded(format: str, image: Image.Image | None = None, **options: Any) -> bytes:
    """An image as a file's content; None for noise."""
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (20, 24, 4), np.uint8)
    image = image or Image.fromarray(noise[..., :3])
    image.save(stream, format, **options)
    return stream.getvalue()


def images() -> dict[str, bytes]:
    """A small image of every format and kind, by name."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 24, 4), np.uint8)
    transparent, opaque = Image.fromarray(noise), Image.fromarray(noise[..., :3])
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    animation: dict[str, Any] = dict(save_all=True, append_images=[opaque.rotate(90), opaque.rotate(180)])
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        'JPEG': encoded('JPEG', exif=exif), 'progressive JPEG': encoded('JPEG', progressive=True),
        'CMYK JPEG': encoded('JPEG', opaque.convert('CMYK')), 'pair of JPEG': encoded('MPO', **animation),
        'PNG': encoded('PNG'), 'PNG with alpha': encoded('PNG', transparent), 'deep PNG': encoded('PNG', deep),
        'palette PNG': encoded('PNG', opaque.quantize(9), transparency=3),
        'bilevel PNG': encoded('PNG', opaque.convert('1')), 'animated PNG': encoded('PNG', **animation),
        'BMP': encoded('BMP'), 'palette BMP': encoded('BMP', opaque.quantize(9)),
        'GIF': encoded('GIF', opaque.quantize(9)), 'animated GIF': encoded('GIF', **animation),
        'WebP': encoded('WEBP', exif=exif), 'WebP with alpha': encoded('WEBP', transparent, lossless=True),
        'animated WebP': encoded('WEBP', **animation),
        'TIFF': encoded('TIFF'), 'deep TIFF': encoded('TIFF', deep), 'TIFF with alpha': encoded('TIFF', transparent),
        **{f'{packing} TIFF': encoded('TIFF', compression=packing)
           for packing in ('tiff_lzw', 'tiff_adobe_deflate', 'packbits', 'jpeg')},
        'fax TIFF': encoded('TIFF', opaque.convert('1'), compression='group4')}


IMAGES = images()


@examples(1500)
@given(data=st.sampled_from(sorted(IMAGES)).flatmap(lambda name: damaged(IMAGES[name])))
def test_images_with_odd_bytes(scratch, data):
    (scratch / 'image').write_bytes(data)
    image = read_or_refuse(lambda: read_image(scratch / 'image'), ImageError)
    if image is not None:
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size


@functools.cache
def network() -> Yolact:
    return Yolact(preset(**SMALL))


@pytest.fixture(scope='module')
def good(scratch: Path) -> Path:
    """The folder of a checkpoint."""
    save_checkpoint(scratch / 'good.pd', halve(Checkpoint(
        network().config, Classes('abcdefgh', range(8)), tensors_of(network()), step=1, epoch=1,
        recipe={'lr': 0.1})))
    (scratch / 'bad.pd').mkdir()
    return scratch / 'good.pd'


def load_changed(good: Path, name: str, content: bytes) -> Checkpoint:
    """Load a copy of a checkpoint with other content in a file into the network that it describes."""
    bad = good.with_name('bad.pd')
    for path in good.iterdir():
        (bad / path.name).write_bytes(content if path.name == name else path.read_bytes())
    found = load_checkpoint(bad, training=True)
    assert all(tensor.dtype == np.float32 for tensor in found.tensors.values())
    if found.config == network().config:
        restore(network(), found, bad)
    else:  # a network that took much memory would have been refused
        restore(Yolact(found.config), found, bad)
    return found


@examples(200)
@given(data=st.data())
def test_checkpoints_with_odd_values(good, data):
    meta = data.draw(changed(json.loads((good / 'meta.json').read_text())))
    read_or_refuse(lambda: load_changed(good, 'meta.json', json.dumps(meta).encode()), max_message=MAX_FULL_MESSAGE)


@examples(100)
@given(data=st.data(), name=st.sampled_from(('meta.json', 'model.safetensors')))
def test_checkpoints_with_odd_bytes(good, data, name):
    content = (good / name).read_bytes()
    at, end = data.draw(damaged(content[:20_000])), content[20_000:]
    read_or_refuse(lambda: load_changed(good, name, at + end), max_message=MAX_FULL_MESSAGE)


def shape(label: str, points: list[list[float]], **more: Any) -> dict[str, Any]:
    return {'label': label, 'points': points, 'group_id': None, 'shape_type': 'polygon', 'flags': {}, **more}


LABELS = {'version': '5.5.0', 'flags': {}, 'imagePath': 'image.png', 'imageData': None, 'imageHeight': 20,
          'imageWidth': 24, 'shapes': [
              shape('cat', [[1, 2], [9, 2], [9, 12.5]], group_id=1),
              shape('cat', [[11, 2], [19, 2], [19, 12]], group_id=1),
              shape('a dog', [[0, 0], [24, 20]], shape_type='rectangle'),
              shape('cat', [[9, 9], [12, 13]], shape_type='circle')]}


@examples(500)
@given(odd=st.one_of(changed(LABELS).map(lambda odd: json.dumps(odd).encode()), damaged(json.dumps(LABELS).encode())))
def test_files_of_labelme_that_are_odd(scratch, odd):
    """What is converted of them is a dataset that can be read."""
    folder = scratch / 'labels'
    folder.mkdir(exist_ok=True)
    (folder / 'image.png').write_bytes(IMAGES['PNG'])
    (folder / 'labels.json').write_bytes(odd)
    read_or_refuse(lambda: read_labelme(folder / 'labels.json'))
    labels = read_labelme_files([folder / 'labels.json'], folder)
    content, _ = make_annotations(labels.splits[''], class_names(labels), labels.left_out)
    assert all(str(one).isprintable() and len(str(one)) < MAX_MESSAGE for one in labels.left_out)
    assert len(content['images']) + len(labels.left_out) > 0
    if content['images'] and content['categories']:
        write_json(scratch / 'coco.json', content)
        use(CocoDataset(scratch / 'coco.json', folder))


LOG = [{'step': step, 'epoch': 0, 'lr': 1e-3, 'loss': 9 / step, 'box': 4 / step, 'mask': 5 / step, 'step_time': 0.5,
        'data_time': 0.1, **({'box_ap': 0.1, 'mask_ap': 0.2} if step % 2 else {})} for step in range(1, 6)]
LINES = '\n'.join(map(json.dumps, LOG)).encode()


@examples(300)
@given(odd=st.one_of(changed(LOG).map(lambda odd: '\n'.join(map(json.dumps, odd)).encode()), damaged(LINES)))
def test_logs_that_are_odd(scratch, odd):
    (scratch / 'log.jsonl').write_bytes(odd)
    read_or_refuse(lambda: read_training_log(scratch / 'log.jsonl'))


@examples(5)
@given(odd=changed(LOG))
def test_logs_that_are_odd_are_drawn(scratch, odd):
    (scratch / 'log.jsonl').write_bytes('\n'.join(map(json.dumps, odd)).encode())
    steps = read_or_refuse(lambda: read_training_log(scratch / 'log.jsonl'))
    if steps:
        draw_curves(steps, 'odd').savefig(io.BytesIO(), dpi=20)
