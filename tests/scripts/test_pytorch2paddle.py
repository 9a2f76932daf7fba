import importlib
import json
import os
import re
import subprocess
import sys

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from model.checkpoint import load_checkpoint, restore
from model.classes import COCO
from model.config import preset
from model.parameter_names import public_name
from model.yolact import Yolact
from prediction import Predictor
from system.command import exit_status
from system.errors import UserError
from tests.helpers import GOLDEN, ROOT
from tests.helpers.golden import NETWORKS, assert_same_detections, golden, inputs
from tests.helpers.outputs import unfiltered

converter = importlib.import_module('1_pytorch2paddle')


@pytest.fixture
def torch():
    return pytest.importorskip('torch')


def shapes(name):
    """Public names and shapes of a golden network's tensors."""
    listed = json.loads((GOLDEN / f'{NETWORKS[name]}.json').read_text())
    return {key: tuple(shape) for key, shape in listed.items()}


def weights(name):
    return {key: inputs.weight(key, shape) for key, shape in shapes(name).items()}


def numbered(shapes):
    """Tensors that each hold a number of their own everywhere, and take no room."""
    return {key: np.broadcast_to(np.float32(0.1 * index), shape)
            for index, (key, shape) in enumerate(shapes.items(), 1)}


def imagenet(state):
    """A backbone's tensors as an ImageNet classifier's."""
    state = {key[len('backbone.'):]: value for key, value in state.items() if key.startswith('backbone.')}
    if 'conv1.weight' in state:  # torchvision's ResNet
        state = {re.sub(r'^layers\.(\d)', lambda found: f'layer{int(found[1]) + 1}', key): value
                 for key, value in state.items()}
    return {**state, 'fc.weight': np.zeros((1000, 8), np.float32), 'fc.bias': np.zeros(1000, np.float32)}


def save(torch, state, path, **options):
    torch.save({key: torch.tensor(value) for key, value in state.items()}, path, **options)


def save_zeros(torch, shapes, path):
    """A small file, because each tensor is one zero repeated."""
    torch.save({key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}, path)


def run(*arguments, folder):
    return subprocess.run([sys.executable, ROOT / '1_pytorch2paddle.py', *arguments], cwd=folder,
                          capture_output=True, text=True)


def refusal(capsys, *arguments):
    """The one line that the converter says when it exits with 2."""
    assert exit_status(converter.main, [str(argument) for argument in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == '' and said.err.count('\n') == 1
    return said.err


def checkpoint_of(state, *arguments, path='some.pth'):
    return converter.checkpoint_of(state, converter.parse_arguments([path, *arguments]))


def as_published(torch, state, path):
    save(torch, state, path, _use_new_zipfile_serialization=False)


def as_of_version_1(torch, state, path):
    copies = {key.replace(f'layers.{stage}.', f'layer{stage + 1}.'): state[key] for stage in range(4)
              for key in state if key.startswith(f'backbone.layers.{stage}.')}
    unused = {f'fpn.downsample_layers.{index}.bias': np.ones(256, np.float32) for index in (2, 3)}
    counters = {key.replace('running_var', 'num_batches_tracked'): np.array(7) for key in state
                if key.endswith('running_var')}
    save(torch, {**copies, **counters, **unused, **state}, path)


def as_in_training(torch, state, path):
    state = {f'module.{key}': torch.nn.Parameter(torch.from_numpy(value)) for key, value in state.items()}
    torch.save({'epoch': 54, 'state_dict': state}, path)


@pytest.mark.parametrize('name, write, swapped', [('resnet50dcn', as_published, 0),
                                                  ('resnet50', as_of_version_1, 0),
                                                  ('darknet53', as_in_training, 1)])
def test_a_converted_network_finds_what_the_public_one_does(torch, tmp_path, name, write, swapped):
    write(torch, weights(name), tmp_path / 'public.pth')
    done = run('public.pth', folder=tmp_path)
    assert done.returncode == 0, done.stderr
    out = f'pretrained_{name}'
    assert done.stdout.splitlines()[-1] == f'next: python demo.py --model_path={out}'
    assert sorted(os.listdir(tmp_path)) == [out, 'public.pth']
    predictor = Predictor.open(tmp_path / out, 'cpu')
    assert predictor.classes == COCO
    found, = unfiltered(predictor, inputs.image(480, 640))
    assert_same_detections(found, golden(name), swapped=swapped)


def test_what_is_left_out_is_told(torch, tmp_path, capsys):
    as_of_version_1(torch, numbered(shapes('resnet50')), tmp_path / 'old.pth')
    assert converter.main([str(tmp_path / 'old.pth'), '--out', str(tmp_path / 'out')]) == 0
    said = capsys.readouterr().out
    assert f'{tmp_path}/old.pth: YOLACT resnet50, 80 classes of COCO, input 550 pixels' in said
    assert 'left out 53: batch counters' in said
    assert "left out 260: second copies of the backbone's layers" in said
    assert 'left out 2: pyramid levels above P7' in said
    assert 'wrote' in said and '301 tensors' in said


def test_every_value_arrives_exactly():
    state = numbered(shapes('darknet53'))
    checkpoint, left_out = checkpoint_of(state)
    assert left_out == {}
    assert {public_name(key) for key in checkpoint.tensors} == state.keys()
    assert all(np.array_equal(tensor, state[public_name(key)]) for key, tensor in checkpoint.tensors.items())
    assert checkpoint.config == preset('darknet53') and checkpoint.classes == COCO
    assert checkpoint.step is None and not checkpoint.backbone_only


@pytest.mark.parametrize('name', converter.NETWORKS)
def test_networks_are_recognised(name):
    names = {public_name(key) for key in converter.shapes_of(preset(name), False)}
    assert converter.recognise(names, False) == name


@pytest.mark.parametrize('change, complaint', [
    (dict(drop='fpn.lat_layers.1.bias'), 'it lacks fpn.lat_layers.1.bias (1 in all)'),
    (dict(add='ema.decay'), 'the network has no ema.decay (1 in all)'),
    (dict(drop='backbone.bn1.running_mean', add='proto_net.12.bias'),
     'it lacks backbone.bn1.running_mean (1 in all); the network has no proto_net.12.bias (1 in all)'),
    (dict(add='proto_net.10.bias'), 'shapes differ: proto_net.10.bias (5,) for (32,) (1 in all)'),
])
def test_another_set_of_tensors_is_refused(change, complaint):
    state = numbered(shapes('resnet50'))
    state.pop(change.get('drop'), None)
    if 'add' in change:
        state[change['add']] = np.zeros(5, np.float32)
    with pytest.raises(UserError) as refused:
        checkpoint_of(state)
    assert str(refused.value) == f'some.pth: taken for resnet50, but {complaint}'


def test_of_many_wrong_tensors_three_are_named():
    state = numbered(shapes('resnet50'))
    with pytest.raises(UserError) as refused:
        checkpoint_of(state, '--backbone_name=resnet50dcn')
    where = 'backbone.layers.1.0.conv2'
    lacking = [f'{where}.bias', f'{where}.conv_offset_mask.weight', f'{where}.conv_offset_mask.bias']
    assert f'it lacks {", ".join(lacking)} (51 in all); shapes differ' in str(refused.value)


def described(count, *arguments, path='some.pth'):
    state = {'semantic_seg_conv.bias': np.zeros(count, np.float32)}
    return converter.describe(state, 'resnet50', converter.parse_arguments([path, *arguments]))


def test_classes_come_from_a_file_of_names(tmp_path):
    (tmp_path / 'names.txt').write_bytes('\ufeffpomme\r\npêche jaune\r\n'.encode())
    config, classes = described(2, f'--classes={tmp_path / "names.txt"}')
    assert classes.names == ('pomme', 'pêche jaune') and classes.ids == (1, 2)
    assert config.num_classes == 3


def test_classes_come_from_an_annotation_file(tmp_path):
    content = {'categories': [{'id': 7, 'name': 'fig'}, {'id': 3, 'name': 'date'}]}
    (tmp_path / 'mine.json').write_text(json.dumps(content))
    config, classes = described(2, f'--classes={tmp_path / "mine.json"}')
    assert (classes.names, classes.ids) == (('date', 'fig'), (3, 7))


@pytest.mark.parametrize('count, content, complaint', [
    (20, None, "some.pth: 20 classes, not COCO's 80; give a text file with their names, one a line: --class"),
    (80, b'cat\ndog\n', 'names.txt: 2 names, but some.pth has 80 classes'),
    (1, b'', 'names.txt: 0 names, but some.pth has 1 classes'),
    (1, b'p\xeache\n', 'names.txt: not a text file in UTF-8'),
])
def test_names_that_do_not_fit_are_refused(tmp_path, count, content, complaint):
    arguments = []
    if content is not None:
        (tmp_path / 'names.txt').write_bytes(content)
        arguments = [f'--classes={tmp_path / "names.txt"}']
    with pytest.raises(UserError) as refused:
        described(count, *arguments)
    assert complaint in str(refused.value)


@pytest.mark.parametrize('path, arguments, size, smallest, square', [
    ('yolact_resnet50_54_800000.pth', [], 550, 24, True),
    ('im700/yolact_im400_54_800000.pth', [], 400, 24, True),
    ('yolact_im700_54_800000.pth', [], 700, 24, True),
    ('yolact_im700_54_800000.pth', ['--input_size=512'], 512, 24, True),
    ('yolact_resnet50_pascal_54_120000.pth', [], 550, 32, False),
    ('yolact_resnet50_pascal_54_120000.pth', ['--anchors=coco'], 550, 24, True),
    ('voc.pth', ['--anchors=pascal'], 550, 32, False),
])
def test_size_and_anchors_come_from_the_name_or_a_flag(path, arguments, size, smallest, square):
    config, _ = described(80, *arguments, path=path)
    assert (config.input_size, config.anchor_sizes[0], config.square_anchors) == (size, smallest, square)


def test_impossible_size_is_refused():
    with pytest.raises(ValueError, match='input size 0 is outside 256 to 1100'):
        described(80, '--input_size=0')


@pytest.mark.parametrize('name, arguments', [('resnet50dcn', []), ('resnet50', ['--backbone_name=resnet50'])])
def test_an_imagenet_resnet_becomes_a_backbone(name, arguments):
    public = numbered(shapes('resnet50'))
    checkpoint, left_out = checkpoint_of(imagenet(public), *arguments)
    assert checkpoint.backbone_only and checkpoint.classes is None
    assert checkpoint.config == preset(name)
    assert left_out == {'the ImageNet classifier': ['backbone.fc.weight', 'backbone.fc.bias']}
    network = Yolact(preset(name, num_classes=4, input_size=256))
    restore(network, checkpoint, 'some')
    for key, value in network.backbone.state_dict().items():
        expected = public.get(f'backbone.{public_name(key)}')
        np.testing.assert_array_equal(value.numpy(), 0 if expected is None else expected)
    block, x = network.backbone.layers[1][0], paddle.randn([1, 128, 9, 9])
    plain = F.conv2d(x, block.conv2.weight, stride=2, padding=1)
    share = 0.5 if name == 'resnet50dcn' else 1
    np.testing.assert_allclose(block.conv2(x).numpy(), share * plain.numpy(), rtol=1e-3, atol=1e-2)


def test_an_imagenet_darknet_becomes_a_backbone():
    public = numbered(shapes('darknet53'))
    checkpoint, _ = checkpoint_of(imagenet(public))
    assert checkpoint.backbone_only and checkpoint.config.backbone_name == 'darknet53'
    assert len(checkpoint.tensors) == sum(key.startswith('backbone.') for key in public) > 250
    assert all(np.array_equal(value, public[public_name(key)]) for key, value in checkpoint.tensors.items())


def test_a_backbone_file_goes_where_training_finds_it(torch, tmp_path):
    classifier = {key: value.shape for key, value in imagenet(numbered(shapes('resnet50'))).items()}
    save_zeros(torch, classifier, tmp_path / 'resnet50-19c8e357.pth')
    done = run('resnet50-19c8e357.pth', folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'left out 2: the ImageNet classifier (backbone.fc.weight, ...)' in done.stdout
    assert done.stdout.endswith('next: python train.py --pattern=0 --backbone_name=resnet50dcn '
                                '--backbone_weights=backbone_resnet50dcn\n')
    assert load_checkpoint(tmp_path / 'backbone_resnet50dcn').backbone_only


def test_a_backbone_takes_no_flags_of_a_detector():
    with pytest.raises(UserError, match='some.pth: only a backbone, .*--input_size'):
        checkpoint_of(imagenet(numbered(shapes('resnet50'))), '--input_size=400')


def test_another_network_is_refused():
    with pytest.raises(UserError, match='some.pth: of no network known here; those are resnet50dcn, '):
        checkpoint_of({'features.0.weight': np.zeros((64, 3, 3, 3), np.float32)})


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize('zipped', [True, False])
def test_code_in_a_file_is_not_run(torch, tmp_path, zipped):
    torch.save({'backbone.conv1.weight': Trap(tmp_path / 'sprung')}, tmp_path / 'trap.pth',
               _use_new_zipfile_serialization=zipped)
    done = run('trap.pth', folder=tmp_path)
    assert done.returncode == 2 and done.stdout == ''
    assert done.stderr.startswith('1_pytorch2paddle.py: error: trap.pth: refused: ')
    assert 'might run code' in done.stderr and done.stderr.count('\n') == 1
    assert os.listdir(tmp_path) == ['trap.pth']
    torch.load(tmp_path / 'trap.pth', weights_only=False)
    assert (tmp_path / 'sprung').is_dir()


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('share', [0, 0.1, 0.9])
def test_a_truncated_file_is_refused(torch, tmp_path, capsys, zipped, share):
    path = tmp_path / 'cut.pth'
    save(torch, {'a': np.ones(10000, np.float32)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[:int(share * len(content))])
    assert f'{path}: refused: it is damaged' in refusal(capsys, path)


def test_what_is_no_state_dict_is_refused(torch, tmp_path, capsys):
    path = tmp_path / 'odd.pth'
    for content in ([1, 2], {}, {'lr': 0.1}, {3: torch.zeros(2)}, {'model': torch.zeros(2)}):
        torch.save(content, path)
        assert f'{path}: not a state dict' in refusal(capsys, path)
    path.write_text('<html>404 Not Found</html>')
    assert f'{path}: refused' in refusal(capsys, path)
    assert 'No such file' in refusal(capsys, tmp_path / 'absent.pth')
    assert str(tmp_path) in refusal(capsys, tmp_path)


def test_half_and_double_precision_are_read(torch, tmp_path):
    for kind in (torch.float16, torch.float64, torch.bfloat16):
        torch.save({'a': torch.tensor([0.1, -3], dtype=kind)}, tmp_path / 'a.pth')
        values = converter.read_state(tmp_path / 'a.pth')['a']
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, torch.tensor([0.1, -3], dtype=kind).float().numpy())


def test_only_a_converted_checkpoint_is_replaced(torch, tmp_path, capsys):
    save_zeros(torch, shapes('resnet50'), tmp_path / 'a.pth')
    arguments = [str(tmp_path / 'a.pth'), f'--out={tmp_path / "out"}']
    assert converter.main(arguments) == 0
    (tmp_path / 'out/meta.json').write_text('old')
    assert converter.main(arguments) == 0
    assert load_checkpoint(tmp_path / 'out').classes == COCO
    capsys.readouterr()
    (tmp_path / 'out/optimizer.safetensors').write_text('of a long training')
    for out in (tmp_path / 'out', tmp_path, tmp_path / 'a.pth'):
        assert f'{out}: is there and is no converted' in refusal(capsys, arguments[0], f'--out={out}')
    assert (tmp_path / 'out/optimizer.safetensors').read_text() == 'of a long training'


def test_missing_pytorch_is_one_line(tmp_path):
    without = "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; " \
              "runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([sys.executable, '-c', without, ROOT / '1_pytorch2paddle.py', 'some.pth'],
                          cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 2 and done.stdout == ''
    assert done.stderr.count('\n') == 1
    assert 'pip install -r requirements-convert.txt' in done.stderr
