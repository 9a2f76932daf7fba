"""ONNX files: those of earlier versions are read, and those that are not of export.py are refused."""
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import demo
import eval as evaluation_script
from engines.errors import EngineError
from engines.export import to_onnx
from engines.onnx_engine import OnnxFiles, open_session
from engines.selection import mask_iou_net_path, open_engine
from model.checkpoint import load_checkpoint
from system.errors import UserError
from tests.helpers.engines import IMAGES, SHIPPED, needs_onnx, small_checkpoint
from tools.shapes import write_split

if TYPE_CHECKING:
    from onnx import ModelProto

pytestmark = needs_onnx


def edited(content: bytes, edit: 'Callable[[ModelProto], None]') -> bytes:
    """An ONNX file after a change."""
    import onnx
    model = onnx.load_from_string(content)
    edit(model)
    return model.SerializeToString()


def write_onnx(path: Path, files: OnnxFiles) -> Path:
    """Write a network and its mask-IoU net. Returns the path of the network."""
    path.write_bytes(files.network)
    if files.mask_iou_net is not None:
        mask_iou_net_path(path).write_bytes(files.mask_iou_net)
    return path


def rename_input(model: 'ModelProto') -> None:
    """To the name that earlier versions gave it."""
    for node in model.graph.node:
        node.input[:] = ['pictures' if name == 'images' else name for name in node.input]
    assert model.graph.input[0].name == 'images'
    model.graph.input[0].name = 'pictures'


def test_files_of_earlier_versions_predict_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = to_onnx(load_checkpoint(SHIPPED), SHIPPED)
    for version, network in (('now', files.network), ('earlier', edited(files.network, rename_input))):
        write_onnx(tmp_path / f'{version}.onnx', OnnxFiles(network, files.mask_iou_net))
    input_names = [open_session((tmp_path / f'{version}.onnx').read_bytes()).get_inputs()[0].name
                   for version in ('now', 'earlier')]
    assert input_names == ['images', 'pictures']
    write_split(tmp_path, 'val', 3)
    data = ['--valid_images_path', str(tmp_path / 'val'), '--num_workers', '0',
            '--valid_anno_path', str(tmp_path / 'annotations/instances_val.json')]
    drawn, metrics = [], []
    for version in ('now', 'earlier'):
        model, out = ['--model_path', str(tmp_path / f'{version}.onnx')], tmp_path / version
        assert demo.main([*model, '--images', str(IMAGES[0]), '--out', str(out)]) == 0
        drawn.append((out / IMAGES[0].name).read_bytes())
        assert evaluation_script.main([*model, *data, '--json', str(out / 'metrics.json')]) == 0
        metrics.append(json.loads((out / 'metrics.json').read_text()))
    assert drawn[0] == drawn[1]
    assert metrics[0] == metrics[1] and metrics[0]['mask']['AP'] > 0


def test_bfloat16_reads_files_of_earlier_versions(tmp_path: Path) -> None:
    openvino = pytest.importorskip('openvino')
    if 'BF16' not in openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
        pytest.skip('this CPU does not compute in bfloat16')
    network, mask_iou_net = to_onnx(small_checkpoint(), 'small')
    images = np.zeros((1, 256, 256, 3), np.float32)
    now, earlier = (
        open_engine(write_onnx(tmp_path / name, OnnxFiles(content, mask_iou_net)), precision='bf16').predict(images, 0)
        for name, content in (('now.onnx', network), ('earlier.onnx', edited(network, rename_input))))
    for one, other in zip(now[0], earlier[0], strict=True):
        np.testing.assert_array_equal(one, other)


def assert_refused(path: Path, message: str) -> None:
    """In one line that begins with the path."""
    with pytest.raises(UserError) as caught:
        open_engine(path)
    assert str(caught.value).startswith(f'{path}: ') and '\n' not in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize('content', [b'', b'x' * 1000])
def test_files_that_are_not_onnx_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'x.onnx').write_bytes(content)
    assert_refused(tmp_path / 'x.onnx', 'not as export.py wrote it')


def test_files_for_other_programs_are_refused(tmp_path: Path) -> None:
    network, _ = to_onnx(small_checkpoint(), 'small', with_nms=True)
    assert_refused(write_onnx(tmp_path / 'x.onnx', OnnxFiles(network, None)),
                   'was exported --with_nms, for other programs; export it without')


def test_a_network_and_another_mask_iou_net_are_refused(tmp_path: Path) -> None:
    path, (network, mask_iou_net) = tmp_path / 'x.onnx', to_onnx(small_checkpoint(), 'small')
    _, other_net = to_onnx(small_checkpoint(seed=1), 'small')  # of the same network after more training, say
    without_net, _ = to_onnx(small_checkpoint(rescore_masks=False), 'small')
    assert mask_iou_net is not None
    for files, message in (
            (OnnxFiles(network, None), 'the mask-IoU net is not beside it'),
            (OnnxFiles(mask_iou_net, None), 'is the mask-IoU net of a network; name that one'),
            (OnnxFiles(network, other_net), 'is of other weights than the mask-IoU net beside it; export both again'),
            (OnnxFiles(without_net, other_net), 'is of other weights than the mask-IoU net beside it')):
        mask_iou_net_path(path).unlink(missing_ok=True)
        assert_refused(write_onnx(path, files), message)


@pytest.mark.parametrize('change', [
    None, {'config': '[' * 100_000}, {'config': '{}'}, {'classes': '{"names": ["a"], "ids": [1]}'},
    {'classes': '{"names": ["a"], "ids": [Infinity]}'}, dict(input_size=512), dict(mask_dim=7), dict(num_classes=5),
    dict(rescore_masks=False), dict(anchor_scales=2)])
def test_a_file_whose_metadata_is_of_another_network_is_refused(tmp_path: Path,
                                                                change: dict[str, Any] | None) -> None:
    import onnx

    def change_metadata(model: onnx.ModelProto) -> None:
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        if change is None:
            metadata = {}
        elif change.keys() <= metadata.keys():
            metadata.update(change)
        else:
            metadata['config'] = json.dumps({**json.loads(metadata['config']), **change})
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, metadata)
    network, mask_iou_net = to_onnx(small_checkpoint(), 'small')
    assert mask_iou_net is not None
    files = OnnxFiles(edited(network, change_metadata), edited(mask_iou_net, change_metadata))
    assert_refused(write_onnx(tmp_path / 'x.onnx', files), 'not as export.py wrote it')


def test_a_network_without_an_input_is_refused(tmp_path: Path) -> None:
    import onnx

    def make_input_constant(model: onnx.ModelProto) -> None:
        zeros = np.zeros((1, 256, 256, 3), np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(zeros, model.graph.input[0].name))
        del model.graph.input[:]
    network, mask_iou_net = to_onnx(small_checkpoint(), 'small')
    files = OnnxFiles(edited(network, make_input_constant), mask_iou_net)
    assert_refused(write_onnx(tmp_path / 'x.onnx', files), 'not as export.py wrote it (its inputs are of')


def test_a_missing_onnx_runtime_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_onnx(tmp_path / 'x.onnx', to_onnx(small_checkpoint(), 'small'))
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    assert_refused(path, "onnxruntime is not installed; pip install 'onnxruntime>=1.25'")


def test_an_onnx_runtime_without_an_operator_is_too_old() -> None:
    """Deformable convolution is what it lacked. Of today's it is that of bfloat16's absolute value."""
    from onnx import TensorProto, helper
    one, other = (helper.make_tensor_value_info(name, TensorProto.BFLOAT16, [1]) for name in ('x', 'y'))
    graph = helper.make_graph([helper.make_node('Abs', ['x'], ['y'])], 'abs', [one], [other])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 19)], ir_version=9)
    with pytest.raises(EngineError, match='has no deformable convolution for the CPU; pip install'):
        open_session(model.SerializeToString())
