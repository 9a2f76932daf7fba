import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from model.checkpoint import Checkpoint, load_checkpoint, restore
from model.classes import COCO, Classes
from model.config import Config, preset
from model.parameter_names import public_name
from model.yolact import Yolact
from prediction import Predictor
from system.command import exit_status
from system.errors import UserError
from tests.helpers import GOLDEN, ROOT, run
from tests.helpers.golden import NETWORKS, assert_same_detections, golden, inputs
from tests.helpers.outputs import unfiltered

converter = importlib.import_module('1_pytorch2paddle')

Shapes = dict[str, tuple[int, ...]]
State = dict[str, np.ndarray]


@pytest.fixture
def torch() -> ModuleType:
    return pytest.importorskip('torch')


def shapes(name: str) -> Shapes:
    """Public names and shapes of a golden network's tensors."""
    listed = json.loads((GOLDEN / f'{NETWORKS[name]}.json').read_text())
    return {key: tuple(shape) for key, shape in listed.items()}


def weights(name: str) -> State:
    """The tensors of a golden network by public name."""
    return {key: inputs.weight(key, shape) for key, shape in shapes(name).items()}


def numbered(shapes: Shapes) -> State:
    """Tensors that each repeat a number of its own, and take no memory."""
    return {key: np.broadcast_to(np.float32(0.1 * index), shape)
            for index, (key, shape) in enumerate(shapes.items(), 1)}


def imagenet(state: State) -> State:
    """A backbone's tensors as an ImageNet classifier's."""
    state = {key[len('backbone.'):]: value for key, value in state.items() if key.startswith('backbone.')}
    if 'conv1.weight' in state:  # torchvision's ResNet
        state = {re.sub(r'^layers\.(\d)', lambda found: f'layer{int(found[1]) + 1}', key): value
                 for key, value in state.items()}
    return {**state, 'fc.weight': np.zeros((1000, 8), np.float32), 'fc.bias': np.zeros(1000, np.float32)}


def save(torch: ModuleType, state: Mapping[str, Any], path: Path, **options: Any) -> None:
    torch.save({key: torch.tensor(value) for key, value in state.items()}, path, **options)


def save_zeros(torch: ModuleType, shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """A small file, because each tensor is one zero repeated."""
    torch.save({key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}, path)


def convert(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the converter in a folder."""
    return run(sys.executable, ROOT / '1_pytorch2paddle.py', *arguments, cwd=folder)


def error_line(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that the converter prints when it exits with 2."""
    assert exit_status(converter.main, [str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == '' and err.count('\n') == 1
    return err


def checkpoint_of(state: State, *arguments: str, path: str = 'some.pth') -> tuple[Checkpoint, dict[str, list[str]]]:
    return converter.checkpoint_of(state, converter.parse_arguments([path, *arguments]))


def as_published(torch: ModuleType, state: State, path: Path) -> None:
    save(torch, state, path, _use_new_zipfile_serialization=False)


def as_of_version_1(torch: ModuleType, state: State, path: Path) -> None:
    copies = {key.replace(f'layers.{stage}.', f'layer{stage + 1}.'): state[key] for stage in range(4)
              for key in state if key.startswith(f'backbone.layers.{stage}.')}
    unused = {f'fpn.downsample_layers.{index}.bias': np.ones(256, np.float32) for index in (2, 3)}
    counters = {key.replace('running_var', 'num_batches_tracked'): np.array(7) for key in state
                if key.endswith('running_var')}
    save(torch, {**copies, **counters, **unused, **state}, path)


def as_in_training(torch: ModuleType, state: State, path: Path) -> None:
    parameters = {f'module.{key}': torch.nn.Parameter(torch.from_numpy(value)) for key, value in state.items()}
    torch.save({'epoch': 54, 'state_dict': parameters}, path)


@pytest.mark.parametrize('name, write, swapped', [('resnet50dcn', as_published, 0),
                                                  ('resnet50', as_of_version_1, 0),
                                                  ('darknet53', as_in_training, 1)])
def test_a_converted_network_finds_what_the_public_one_does(
        torch: ModuleType, tmp_path: Path, name: str, write: Callable[[ModuleType, State, Path], None],
        swapped: int) -> None:
    write(torch, weights(name), tmp_path / 'public.pth')
    done = convert('public.pth', folder=tmp_path)
    assert done.returncode == 0, done.stderr
    out = f'pretrained_{name}'
    assert done.stdout.splitlines()[-1] == f'next: python demo.py --model_path={out}'
    assert sorted(os.listdir(tmp_path)) == [out, 'public.pth']
    predictor = Predictor.open(tmp_path / out, 'cpu')
    assert predictor.classes == COCO
    found, = unfiltered(predictor, inputs.image(480, 640))
    assert_same_detections(found, golden(name), swapped=swapped)


def test_what_is_left_out_is_printed(torch: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    as_of_version_1(torch, numbered(shapes('resnet50')), tmp_path / 'old.pth')
    assert converter.main([str(tmp_path / 'old.pth'), '--out', str(tmp_path / 'out')]) == 0
    output = capsys.readouterr().out
    assert f'{tmp_path}/old.pth: YOLACT resnet50, 80 classes of COCO, input 550 pixels' in output
    assert 'left out 53: batch counters' in output
    assert "left out 260: second copies of the backbone's layers" in output
    assert 'left out 2: pyramid levels above P7' in output
    assert 'wrote' in output and '301 tensors' in output


def test_every_value_is_converted_exactly() -> None:
    state = numbered(shapes('darknet53'))
    checkpoint, left_out = checkpoint_of(state)
    assert left_out == {}
    assert {public_name(key) for key in checkpoint.tensors} == state.keys()
    assert all(np.array_equal(tensor, state[public_name(key)]) for key, tensor in checkpoint.tensors.items())
    assert checkpoint.config == preset('darknet53') and checkpoint.classes == COCO
    assert checkpoint.step is None and not checkpoint.backbone_only


@pytest.mark.parametrize('name', converter.NETWORKS)
def test_networks_are_recognised(name: str) -> None:
    names = {public_name(key) for key in converter.shapes_of(preset(name), False)}
    assert converter.recognise(names, False) == name


@pytest.mark.parametrize('change, complaint', [
    (dict(drop='fpn.lat_layers.1.bias'), 'it lacks fpn.lat_layers.1.bias (1 in all)'),
    (dict(add='ema.decay'), 'the network has no ema.decay (1 in all)'),
    (dict(drop='backbone.bn1.running_mean', add='proto_net.12.bias'),
     'it lacks backbone.bn1.running_mean (1 in all); the network has no proto_net.12.bias (1 in all)'),
    (dict(add='proto_net.10.bias'), 'shapes differ: proto_net.10.bias (5,) for (32,) (1 in all)'),
])
def test_another_set_of_tensors_is_refused(change: dict[str, str], complaint: str) -> None:
    state = numbered(shapes('resnet50'))
    if 'drop' in change:
        del state[change['drop']]
    if 'add' in change:
        state[change['add']] = np.zeros(5, np.float32)
    with pytest.raises(UserError) as refused:
        checkpoint_of(state)
    assert str(refused.value) == (f'some.pth: taken for resnet50, but {complaint}; name the right --backbone_name, or '
                                  'take another file')


def test_of_many_wrong_tensors_three_are_named() -> None:
    state = numbered(shapes('resnet50'))
    with pytest.raises(UserError) as refused:
        checkpoint_of(state, '--backbone_name=resnet50dcn')
    where = 'backbone.layers.1.0.conv2'
    missing = [f'{where}.bias', f'{where}.conv_offset_mask.weight', f'{where}.conv_offset_mask.bias']
    assert f'it lacks {", ".join(missing)} (51 in all); shapes differ' in str(refused.value)


def config_and_classes(count: int, *arguments: str, path: str = 'some.pth') -> tuple[Config, Classes]:
    """Of a network with so many classes."""
    state = {'semantic_seg_conv.bias': np.zeros(count, np.float32)}
    return converter.config_and_classes(state, 'resnet50', converter.parse_arguments([path, *arguments]))


def test_classes_come_from_a_file_of_names(tmp_path: Path) -> None:
    (tmp_path / 'names.txt').write_bytes('\ufeffpomme\r\npêche jaune\r\n'.encode())
    config, classes = config_and_classes(2, f'--classes={tmp_path / "names.txt"}')
    assert classes.names == ('pomme', 'pêche jaune') and classes.ids == (1, 2)
    assert config.num_classes == 3


def test_classes_come_from_an_annotation_file(tmp_path: Path) -> None:
    content = {'categories': [{'id': 7, 'name': 'fig'}, {'id': 3, 'name': 'date'}]}
    (tmp_path / 'mine.json').write_text(json.dumps(content))
    _, classes = config_and_classes(2, f'--classes={tmp_path / "mine.json"}')
    assert (classes.names, classes.ids) == (('date', 'fig'), (3, 7))


@pytest.mark.parametrize('count, content, complaint', [
    (20, None, "some.pth: 20 classes, not COCO's 80; give a text file with their names, one a line: --class"),
    (80, b'cat\ndog\n', 'names.txt: 2 names, but some.pth has 80 classes'),
    (1, b'', 'names.txt: 0 names, but some.pth has 1 class; give a file with a name for each'),
    (1, b'p\xeache\n', 'names.txt: not a text file in UTF-8; save it as such'),
    (0, b'', 'some.pth: num classes 1 is outside 2 to 10000; correct --input_size, or take another file'),
    (10_000, None, 'some.pth: num classes 10001 is outside 2 to 10000'),
])
def test_names_that_do_not_fit_are_refused(tmp_path: Path, count: int, content: bytes | None, complaint: str) -> None:
    arguments = []
    if content is not None:
        (tmp_path / 'names.txt').write_bytes(content)
        arguments = [f'--classes={tmp_path / "names.txt"}']
    with pytest.raises(UserError) as refused:
        config_and_classes(count, *arguments)
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
def test_size_and_anchors_come_from_the_name_or_a_flag(path: str, arguments: list[str], size: int, smallest: int,
                                                       square: bool) -> None:
    config, _ = config_and_classes(80, *arguments, path=path)
    assert (config.input_size, config.anchor_sizes[0], config.square_anchors) == (size, smallest, square)


def test_an_impossible_size_is_refused() -> None:
    with pytest.raises(UserError, match='^some.pth: input size 0 is outside 256 to 1100; correct --input_size'):
        config_and_classes(80, '--input_size=0')


@pytest.mark.parametrize('content, complaint', [
    ('[', 'is not JSON'), ('{}', 'has no list of categories'), ('{"categories": []}', 'lists no categories'),
    ('{"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', 'two of the categories have the id 1')])
def test_annotation_files_without_good_categories_are_refused(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / 'mine.json'
    path.write_text(content)
    with pytest.raises(UserError, match=f'^{path}: {complaint}.*; '):
        config_and_classes(2, f'--classes={path}')


@pytest.mark.parametrize('name', ['names.txt', 'mine.json'])
def test_a_missing_file_of_names_is_refused(torch: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                            name: str) -> None:
    save_zeros(torch, shapes('resnet50'), tmp_path / 'some.pth')
    error = error_line(capsys, tmp_path / 'some.pth', f'--classes={tmp_path / name}')
    assert error.startswith(f'1_pytorch2paddle.py: error: {tmp_path / name}: ') and 'No such file' in error


@pytest.mark.parametrize('name, arguments', [('resnet50dcn', []), ('resnet50', ['--backbone_name=resnet50'])])
def test_an_imagenet_resnet_becomes_a_backbone(name: str, arguments: list[str]) -> None:
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
    stage, x = network.backbone.layers[1], paddle.randn([1, 128, 9, 9])
    assert isinstance(stage, paddle.nn.Sequential)
    block = stage[0]
    plain = F.conv2d(x, block.conv2.weight, stride=2, padding=1)
    share = 0.5 if name == 'resnet50dcn' else 1
    np.testing.assert_allclose(block.conv2(x).numpy(), share * plain.numpy(), rtol=1e-3, atol=1e-2)


def test_an_imagenet_darknet_becomes_a_backbone() -> None:
    public = numbered(shapes('darknet53'))
    checkpoint, _ = checkpoint_of(imagenet(public))
    assert checkpoint.backbone_only and checkpoint.config.backbone_name == 'darknet53'
    assert len(checkpoint.tensors) == sum(key.startswith('backbone.') for key in public) > 250
    assert all(np.array_equal(value, public[public_name(key)]) for key, value in checkpoint.tensors.items())


def test_a_backbone_file_is_written_where_training_finds_it(torch: ModuleType, tmp_path: Path) -> None:
    classifier = {key: value.shape for key, value in imagenet(numbered(shapes('resnet50'))).items()}
    save_zeros(torch, classifier, tmp_path / 'resnet50-19c8e357.pth')
    done = convert('resnet50-19c8e357.pth', folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'left out 2: the ImageNet classifier (backbone.fc.weight, ...)' in done.stdout
    assert done.stdout.endswith('next: python train.py --pattern=0 --backbone_name=resnet50dcn '
                                '--backbone_weights=backbone_resnet50dcn\n')
    assert load_checkpoint(tmp_path / 'backbone_resnet50dcn').backbone_only


def test_a_backbone_takes_no_flags_of_a_detector() -> None:
    with pytest.raises(UserError, match='some.pth: only a backbone, .*--input_size'):
        checkpoint_of(imagenet(numbered(shapes('resnet50'))), '--input_size=400')


def test_another_network_is_refused() -> None:
    with pytest.raises(UserError, match='some.pth: of no network known here; those are resnet50dcn, '):
        checkpoint_of({'features.0.weight': np.zeros((64, 3, 3, 3), np.float32)})


class Trap:
    """Unpickling it creates a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize('zipped', [True, False])
def test_code_in_a_file_is_not_run(torch: ModuleType, tmp_path: Path, zipped: bool) -> None:
    torch.save({'backbone.conv1.weight': Trap(tmp_path / 'sprung')}, tmp_path / 'trap.pth',
               _use_new_zipfile_serialization=zipped)
    done = convert('trap.pth', folder=tmp_path)
    assert done.returncode == 2 and done.stdout == ''
    assert done.stderr.startswith('1_pytorch2paddle.py: error: trap.pth: refused: ')
    assert 'might run code' in done.stderr and done.stderr.count('\n') == 1
    assert os.listdir(tmp_path) == ['trap.pth']
    torch.load(tmp_path / 'trap.pth', weights_only=False)
    assert (tmp_path / 'sprung').is_dir()


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('share', [0, 0.1, 0.9])
def test_a_truncated_file_is_refused(torch: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                     zipped: bool, share: float) -> None:
    path = tmp_path / 'cut.pth'
    save(torch, {'a': np.ones(10000, np.float32)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[:int(share * len(content))])
    assert f'{path}: refused: it is damaged' in error_line(capsys, path)


def test_what_is_no_state_dict_is_refused(torch: ModuleType, tmp_path: Path,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / 'odd.pth'
    contents: Iterable[object] = ([1, 2], {}, {'lr': 0.1}, {3: torch.zeros(2)}, {'model': torch.zeros(2)})
    for content in contents:
        torch.save(content, path)
        assert f'{path}: not a state dict' in error_line(capsys, path)
    path.write_text('<html>404 Not Found</html>')
    assert f'{path}: refused' in error_line(capsys, path)
    assert 'No such file' in error_line(capsys, tmp_path / 'absent.pth')
    assert str(tmp_path) in error_line(capsys, tmp_path)


@pytest.mark.filterwarnings('ignore:torch.quantize_per_tensor', 'ignore:TypedStorage')
def test_tensors_that_are_not_plain_numbers_are_refused(torch: ModuleType, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    ones = torch.ones(2)
    for tensor in (ones.to_sparse(), ones.to('meta'), ones.to(torch.complex64),
                   torch.quantize_per_tensor(ones, 1, 0, torch.qint8)):
        torch.save({'a': tensor}, tmp_path / 'a.pth')
        assert f'{tmp_path}/a.pth: refused: ' in error_line(capsys, tmp_path / 'a.pth')


def test_half_and_double_precision_are_read(torch: ModuleType, tmp_path: Path) -> None:
    for kind in (torch.float16, torch.float64, torch.bfloat16):
        torch.save({'a': torch.tensor([0.1, -3], dtype=kind)}, tmp_path / 'a.pth')
        values = converter.read_state(tmp_path / 'a.pth')['a']
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, torch.tensor([0.1, -3], dtype=kind).float().numpy())


def test_only_a_converted_checkpoint_is_replaced(torch: ModuleType, tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    save_zeros(torch, shapes('resnet50'), tmp_path / 'a.pth')
    arguments = [str(tmp_path / 'a.pth'), f'--out={tmp_path / "out"}']
    assert converter.main(arguments) == 0
    (tmp_path / 'out/meta.json').write_text('old')
    assert converter.main(arguments) == 0
    assert load_checkpoint(tmp_path / 'out').classes == COCO
    capsys.readouterr()
    (tmp_path / 'out/optimizer.safetensors').write_text('of a long training')
    for out in (tmp_path / 'out', tmp_path, tmp_path / 'a.pth'):
        assert f'{out}: exists and is no converted' in error_line(capsys, arguments[0], f'--out={out}')
    assert (tmp_path / 'out/optimizer.safetensors').read_text() == 'of a long training'


def test_missing_pytorch_is_one_line(tmp_path: Path) -> None:
    without = ("import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
               "runpy.run_path(sys.argv[0], run_name='__main__')")
    done = run(sys.executable, '-c', without, ROOT / '1_pytorch2paddle.py', 'some.pth', cwd=tmp_path,
               env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 2 and done.stdout == ''
    assert done.stderr.count('\n') == 1
    assert 'pip install -r requirements-convert.txt' in done.stderr
