"""ONNX Runtime in the place of Paddle: the same detections, from the same checkpoints."""
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import paddle
import pytest

import export
from data.images import find_images, read_image
from engines.errors import EngineError
from engines.export import Part, _compare, to_onnx
from engines.nms_layer import FastNMS
from engines.onnx_engine import OnnxEngine
from engines.paddle_engine import PaddleEngine
from engines.selection import mask_iou_net_path, open_engine
from model.checkpoint import Checkpoint, save_checkpoint, tensors_of
from model.classes import Classes
from model.config import preset
from model.nms import fast_nms
from model.yolact import Yolact
from prediction import Predictor
from system.command import exit_status
from system.errors import UserError
from tests.helpers import ROOT
from tests.helpers.golden import NETWORKS, assert_same_detections, golden, inputs
from tests.helpers.networks import SMALL, golden_network
from tests.helpers.outputs import made_outputs, unfiltered

SHIPPED = ROOT / 'weights/shapes.pd'
IMAGES = find_images(ROOT / 'images/test')
needs_onnx = pytest.mark.skipif(importlib.util.find_spec('onnxruntime') is None,
                                reason='requirements-gpu.txt has no ONNX Runtime')


@pytest.fixture(scope='module', params=NETWORKS)
def name(request):
    return request.param


@pytest.fixture(scope='module')
def network(name):
    network = golden_network(name)
    network.eval()
    return network


def classes(config):
    return Classes([f'class {i}' for i in range(1, config.num_classes)], range(1, config.num_classes))


def small_checkpoint(seed=0):
    paddle.seed(seed)
    network = Yolact(preset(**SMALL))
    return Checkpoint(network.config, classes(network.config), tensors_of(network))


@pytest.fixture
def weights(tmp_path):
    """A copy of the shipped checkpoint, without a cache."""
    return Path(shutil.copytree(SHIPPED, tmp_path / 'weights.pd'))


def cache_of(weights):
    return weights.with_name(f'.{weights.name}.fp32.zip')


def seen(predictor):
    return predictor([read_image(path) for path in IMAGES[:3]])


def assert_alike(found, expected):
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


def paddle_seen(weights):
    return seen(Predictor.open(weights, 'cpu', 'paddle', score_threshold=0.3))


@needs_onnx
def test_golden_detections_through_onnx_runtime(name, network):
    checkpoint = Checkpoint(network.config, classes(network.config), tensors_of(network))
    engine = OnnxEngine(*to_onnx(checkpoint, 'golden', winograd=True), 'golden')
    found, = unfiltered(Predictor(engine), inputs.image(480, 640))
    assert_same_detections(found, golden(name), swapped=1 if name == 'darknet53' else 0)
    assert (engine.config, engine.classes) == (checkpoint.config, checkpoint.classes)


def test_golden_detections_through_a_compiled_network(name, network):
    found, = unfiltered(Predictor(PaddleEngine(network, None, compiled=True)), inputs.image(480, 640))
    assert_same_detections(found, golden(name), swapped=1 if name == 'darknet53' else 0)


@needs_onnx
def test_a_checkpoint_is_exported_once_and_does_without_paddle_from_then_on(weights):
    code = ('import sys, demo; status = demo.main(sys.argv[1:]); print("paddle" in sys.modules); sys.exit(status)')
    flags = ['--model_path', weights, '--images', IMAGES[0], '--out', weights.parent / 'out']
    for imported in ('True', 'False'):
        run = subprocess.run([sys.executable, '-c', code, *flags], cwd=ROOT, capture_output=True, text=True)
        assert (run.returncode, run.stderr) == (0, '')
        assert run.stdout.splitlines()[-1] == imported
    assert_alike(seen(Predictor.open(weights, 'cpu', score_threshold=0.3)), paddle_seen(weights))


@pytest.mark.parametrize('engine', [pytest.param('onnx', marks=needs_onnx), 'paddle'])
def test_the_same_image_gives_the_same_bits(engine):
    one, other = (seen(Predictor.open(SHIPPED, 'cpu', engine)) for _ in range(2))
    for found, again in zip(one, other, strict=True):
        for name in ('classes', 'boxes', 'box_scores', 'mask_scores'):
            np.testing.assert_array_equal(getattr(found, name), getattr(again, name))
        assert all((mask == more).all() for mask, more in zip(found.masks, again.masks, strict=True))


def damage(cache):
    content = bytearray(cache.read_bytes())
    content[len(content) // 2] ^= 255
    cache.write_bytes(content)


def cut(cache):
    cache.write_bytes(cache.read_bytes()[:-1000])


def change_its_directory(cache):
    """The way that an entry was compressed, of which there are 21 by number."""
    content = bytearray(cache.read_bytes())
    content[content.index(b'PK\1\2') + 10] = 1
    cache.write_bytes(content)


def rename_an_entry(cache):
    cache.write_bytes(cache.read_bytes().replace(b'mask_iou.onnx', b'mask_iov.onnx'))


def swap(cache):
    """Another network's, under the same name."""
    files = to_onnx(small_checkpoint(), 'small')
    with zipfile.ZipFile(cache, 'w') as archive:
        for name, content in zip(('key', 'network.onnx', 'mask_iou.onnx'), (b'its own key', *files)):
            archive.writestr(name, content)


@needs_onnx
@pytest.mark.parametrize('spoil', [damage, cut, change_its_directory, rename_an_entry, swap,
                                   lambda cache: cache.write_bytes(b'')])
def test_a_cache_that_is_damaged_or_of_other_weights_is_made_again(weights, spoil):
    open_engine(weights, 'cpu')
    good = cache_of(weights).stat().st_size
    spoil(cache_of(weights))
    assert_alike(seen(Predictor.open(weights, 'cpu', score_threshold=0.3)), paddle_seen(weights))
    with zipfile.ZipFile(cache_of(weights)) as archive:
        assert archive.testzip() is None
    assert cache_of(weights).stat().st_size == pytest.approx(good, rel=1e-3)


@needs_onnx
def test_other_weights_in_the_same_place_are_seen(weights):
    open_engine(weights, 'cpu')
    save_checkpoint(weights, small_checkpoint())
    assert open_engine(weights, 'cpu').config.num_classes == SMALL['num_classes']


@needs_onnx
def test_a_place_that_cannot_be_written_to_is_no_error(weights):
    cache_of(weights).mkdir()
    assert_alike(seen(Predictor.open(weights, 'cpu', score_threshold=0.3)), paddle_seen(weights))
    assert list(cache_of(weights).iterdir()) == []


@needs_onnx
def test_an_onnx_file_stands_for_its_checkpoint(tmp_path):
    assert export.main(['--model_path', str(SHIPPED), '--out', str(tmp_path / 'new/mine.onnx')]) == 0
    assert sorted(path.name for path in (tmp_path / 'new').iterdir()) == ['mine.onnx', 'mine_mask_iou.onnx']
    predictor = Predictor.open(tmp_path / 'new/mine.onnx', score_threshold=0.3)
    assert_alike(seen(predictor), paddle_seen(SHIPPED))
    assert predictor.classes == Predictor.open(SHIPPED, 'cpu', 'paddle').classes


@needs_onnx
def test_the_program_of_the_docs_finds_what_the_scripts_find(tmp_path):
    program, = re.findall(r'```python\n(.+?)```', (ROOT / 'docs/deployment.md').read_text(), re.DOTALL)
    (tmp_path / 'program.py').write_text(program)
    assert export.main(['--model_path', str(SHIPPED), '--out', str(tmp_path / 'x.onnx'), '--with_nms']) == 0
    run = subprocess.run([sys.executable, '-I', 'program.py', 'x.onnx', IMAGES[0]], cwd=tmp_path,
                         capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, '')
    predictor = Predictor.open(SHIPPED, 'cpu')
    found, = predictor([read_image(IMAGES[0])])
    found = found.select((found.box_scores > 0.3) & np.array([mask.any() for mask in found.masks]))
    lines = run.stdout.splitlines()
    assert len(lines) == len(found) > 3
    for i, line in enumerate(lines):
        label, score, box, area = re.fullmatch(r'(\w+) (\S+) (\[.+\]) (\d+)', line).groups()
        assert label == predictor.classes.names[found.classes[i]]
        assert float(score) == pytest.approx(found.box_scores[i], abs=1e-4)
        height, width = found.size
        np.testing.assert_allclose(np.clip(json.loads(box), 0, [width, height] * 2), found.boxes[i], atol=0.51)
        assert int(area) == pytest.approx(found.full_mask(i).sum(), rel=0.01, abs=2)


@needs_onnx
def test_bfloat16_finds_nearly_the_same():
    openvino = pytest.importorskip('openvino')
    if 'BF16' not in openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
        with pytest.raises(UserError, match='this CPU does not compute in bfloat16'):
            open_engine(SHIPPED, 'cpu', precision='bf16')
        return
    whole, half = (seen(Predictor.open(SHIPPED, 'cpu', precision=precision, score_threshold=0.7))
                   for precision in ('fp32', 'bf16'))
    for ours, theirs in zip(half, whole):
        assert abs(len(ours) - len(theirs)) <= 2
        np.testing.assert_allclose(ours.boxes[0], theirs.boxes[0], atol=3)
        assert ours.box_scores[0] == pytest.approx(theirs.box_scores[0], abs=0.02)
    assert any((ours.boxes[0] != theirs.boxes[0]).any() for ours, theirs in zip(half, whole))


def test_fast_nms_as_a_layer_keeps_what_fast_nms_keeps():
    made = made_outputs('resnet50')
    parts = made['boxes'], made['scores'], made['coefficients']
    layer = FastNMS(len(made['boxes']), 80, 32)
    boxes, labels, scores, coefficients = (
        part.numpy() for part in layer(*(paddle.to_tensor(np.stack([part, part[::-1]])) for part in parts)))
    chosen = np.flatnonzero((made['scores'][:, 1:] > 0.05).any(1))
    kept, expected_labels, expected_scores = fast_nms(made['boxes'][chosen], made['scores'][chosen, 1:])
    for image in range(2):
        np.testing.assert_array_equal(labels[image], expected_labels)
        np.testing.assert_array_equal(scores[image], expected_scores)
        np.testing.assert_array_equal(boxes[image], made['boxes'][chosen[kept]])
        np.testing.assert_array_equal(coefficients[image], made['coefficients'][chosen[kept]])


def test_paddle_inference_takes_the_exported_folder(tmp_path, capfd):
    out = tmp_path / 'new'
    assert export.main(['--model_path', str(SHIPPED), '--format', 'paddle', '--out', str(out)]) == 0
    about = json.loads((out / 'about.json').read_text())
    assert json.loads(about['classes'])['names'][0] == 'ring'
    program, = (path for path in out.glob('network.*') if path.suffix in ('.json', '.pdmodel'))
    config = paddle.inference.Config(str(program), str(out / 'network.pdiparams'))
    for pass_through in ('disable_mkldnn', 'disable_glog_info'):
        getattr(config, pass_through, lambda: None)()
    predictor = paddle.inference.create_predictor(config)
    image = export.prepared(IMAGES[0], 320)[None]
    handle = predictor.get_input_handle('images')
    handle.copy_from_cpu(image)
    predictor.run()
    found = [predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()]
    with paddle.no_grad():
        expected = open_engine(SHIPPED, 'cpu', 'paddle')._network.predict(paddle.to_tensor(image))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4 * np.ptp(theirs.numpy()))


def test_an_export_that_gives_other_numbers_fails():
    rng = np.random.default_rng(0)
    right = [rng.random((2, 5, 4)), rng.random((2, 3, 3, 2))]
    part = Part(None, 'images', np.zeros(0), right, ('boxes', 'prototypes'))
    _compare(right, part)
    for wrong in ([right[0] + 2e-4, right[1]], [right[0], right[1] * np.nan]):
        with pytest.raises(EngineError, match='gives other (boxes|prototypes) than Paddle'):
            _compare(wrong, part)


def complaint(capsys, *flags):
    assert exit_status(export.main, [str(flag) for flag in flags]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count('\n')) == ('', 1)
    return err.removeprefix('export.py: error: ')


def test_what_cannot_be_exported_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / 'there').mkdir()
    for format in ('paddle', 'half'):
        assert complaint(capsys, '--model_path', SHIPPED, '--format', format, '--out', tmp_path / 'there').startswith(
            f'{tmp_path / "there"}: exists')
    assert complaint(capsys, '--model_path', tmp_path / 'none').startswith(f'{tmp_path / "none"}: no such checkpoint')
    assert complaint(capsys, '--model_path', SHIPPED, '--out', tmp_path / 'x').startswith(
        f'{tmp_path / "x"}: is to end in .onnx')
    for flags in (['--format', 'paddle', '--winograd'], ['--format', 'half', '--with_nms']):
        with pytest.raises(SystemExit, match='2'):
            export.main(['--model_path', str(SHIPPED), *flags])


def test_an_export_that_fails_leaves_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('engines.export.TOLERANCE', 0)
    out = tmp_path / 'new/x'
    assert 'gives other ' in complaint(capsys, '--model_path', SHIPPED, '--format', 'paddle', '--out', out)
    assert list((tmp_path / 'new').iterdir()) == []


@needs_onnx
def test_a_folder_that_takes_no_file_is_named(tmp_path, capsys):
    (tmp_path / 'file').touch()
    out = tmp_path / 'file/x.onnx'
    assert complaint(capsys, '--model_path', SHIPPED, '--out', out).startswith(f'{tmp_path / "file"}: File exists')


@needs_onnx
@pytest.mark.parametrize('content, message', [
    (b'', 'not as export.py wrote it'), (b'x' * 1000, 'not as export.py wrote it'),
    ('nms', 'was exported --with_nms, for other programs; export it without'),
    ('alone', 'the mask-IoU net is not beside it'),
    ('rescorer', 'is the mask-IoU net of a network; name that one'),
    ('mixed', 'is of other weights than the mask-IoU net beside it; export both again')])
def test_onnx_files_that_are_not_ours_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / 'x.onnx'
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        network, rescorer = to_onnx(small_checkpoint(), 'small', with_nms=content == 'nms')
        path.write_bytes(rescorer if content == 'rescorer' else network)
    if content == 'mixed':  # the same network, after some more training
        mask_iou_net_path(path).write_bytes(to_onnx(small_checkpoint(seed=1), 'small')[1])
    with pytest.raises(UserError) as caught:
        open_engine(path)
    assert str(caught.value).startswith(f'{path}: ') and '\n' not in str(caught.value)
    assert message in str(caught.value)


@needs_onnx
@pytest.mark.parametrize('change', [
    None, {'config': '[' * 100_000}, {'config': '{}'}, {'classes': '{"names": ["a"], "ids": [1]}'},
    {'classes': '{"names": ["a"], "ids": [Infinity]}'}, dict(input_size=512), dict(mask_dim=7), dict(num_classes=5),
    dict(rescore_masks=False), dict(anchor_scales=2)])
def test_an_onnx_file_that_is_described_otherwise_than_it_is_is_refused_in_one_line(tmp_path, change):
    import onnx
    checkpoint, path = small_checkpoint(), tmp_path / 'x.onnx'
    for file, content in zip((path, mask_iou_net_path(path)), to_onnx(checkpoint, 'small')):
        model = onnx.load_from_string(content)
        described = {one.key: one.value for one in model.metadata_props}
        if change is None:
            described = {}
        elif change.keys() <= described.keys():
            described.update(change)
        else:
            described['config'] = json.dumps({**json.loads(described['config']), **change})
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, described)
        onnx.save(model, file)
    with pytest.raises(UserError) as caught:
        open_engine(path)
    assert str(caught.value).startswith(f'{path}: not as export.py wrote it') and '\n' not in str(caught.value)


@needs_onnx
def test_an_export_leaves_nothing_of_an_earlier_one_beside_it(tmp_path):
    save_checkpoint(tmp_path / 'one.pd', small_checkpoint())
    other = Yolact(preset(**SMALL, rescore_masks=False))
    save_checkpoint(tmp_path / 'other.pd', Checkpoint(other.config, classes(other.config), tensors_of(other)))
    for name in ('one.pd', 'other.pd'):
        assert export.main(['--model_path', str(tmp_path / name), '--out', str(tmp_path / 'x.onnx')]) == 0
    assert sorted(path.name for path in tmp_path.glob('x*')) == ['x.onnx']
    assert open_engine(tmp_path / 'x.onnx').config == other.config


def test_engines_and_devices_that_do_not_go_together_are_refused(tmp_path):
    for flags in ((tmp_path / 'x.onnx', None, 'paddle'), (tmp_path / 'x.onnx', 'gpu', None), (SHIPPED, 'gpu', 'onnx'),
                  (SHIPPED, 'cpu:0'), (SHIPPED, 'cpu', None, 'amp'), (SHIPPED, 'cpu', 'paddle', 'amp'),
                  (SHIPPED, 'cpu', 'paddle', 'bf16')):
        with pytest.raises(UserError):
            open_engine(*flags)
    with pytest.raises(UserError, match='cannot be read'):
        open_engine(tmp_path / 'x.onnx')


@needs_onnx
def test_a_demo_imports_nothing_that_it_does_not_need(tmp_path):
    """From command to first mask it takes a second or so, and importing Paddle alone would take two."""
    flags = ['--images', str(IMAGES[0]), '--out', str(tmp_path)]
    open_engine(SHIPPED, 'cpu')
    code = 'import sys, demo; demo.main(sys.argv[1:]); print(*sys.modules)'
    modules = subprocess.run([sys.executable, '-c', code, *flags], cwd=ROOT, capture_output=True,
                             text=True).stdout.split()
    assert not {'paddle', 'torch', 'matplotlib', 'scipy', 'onnx', 'paddle2onnx'} & set(modules)
