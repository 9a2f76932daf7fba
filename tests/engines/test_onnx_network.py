"""The network in ONNX computes what the network in Paddle computes, and is built without Paddle."""
import sys
from typing import Any

import numpy as np
import paddle
import pytest

from engines.export import to_onnx
from engines.onnx_engine import open_session
from model.checkpoint import Checkpoint, tensors_of
from model.config import PRESETS, preset
from model.parameter_names import public_name
from model.yolact import Yolact
from system.errors import UserError
from tests.helpers import ROOT, run
from tests.helpers.engines import SHIPPED, made_up_classes, needs_onnx, small_checkpoint
from tests.helpers.golden import inputs

pytestmark = needs_onnx


def random_network(name: str, **settings: Any) -> Yolact:
    """A small network of a preset's kind with random weights, batch norm statistics and offsets."""
    network = Yolact(preset(name, num_classes=4, input_size=290, **settings))
    for key, value in network.state_dict().items():
        weight = inputs.weight(public_name(key), tuple(value.shape))
        if 'conf_layer' in key or 'mask_layer' in key or '.bn2.weight' in key and network.config.block == 'basic':
            weight = 0.1 * weight  # otherwise a rounding error in the first layers grows to 1e-4 of a score
        value.set_value(weight)
    network.eval()
    return network


def checkpoint_of(network: Yolact) -> Checkpoint:
    return Checkpoint(network.config, made_up_classes(network.config), tensors_of(network))


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Up to a share of the range."""
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert np.abs(found - expected).max() <= tolerance * np.ptp(expected)


@pytest.mark.parametrize(('name', 'settings', 'winograd', 'tolerance'), [
    *((name, {}, False, 1e-5) for name in PRESETS),
    ('resnet18dcn_half', dict(scores='sigmoid', mask_dim=7, width=16), False, 1e-5),
    ('resnet18dcn_half', dict(dcn_stages=()), False, 1e-5),
    ('resnet50', {}, True, 1e-4)])
def test_it_computes_what_paddle_computes(name: str, settings: dict[str, Any], winograd: bool,
                                          tolerance: float) -> None:
    network = random_network(name, **settings)
    files = to_onnx(checkpoint_of(network), name, winograd=winograd)
    images = np.random.default_rng(0).uniform(0, 255, (2, 290, 290, 3)).astype(np.float32)
    with paddle.no_grad():
        expected = network.predict(paddle.to_tensor(images))
    found = open_session(files.network).run(None, {'images': images})
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs.numpy(), tolerance)
    assert (files.mask_iou_net is not None) == network.config.rescore_masks
    if files.mask_iou_net is not None:
        masks = np.random.default_rng(1).random((3, 1, *[network.config.prototype_size] * 2), np.float32)
        mask_iou, = open_session(files.mask_iou_net).run(None, {'masks': masks})
        assert_close(mask_iou, network.maskiou_net(paddle.to_tensor(masks)).numpy(), 1e-5)


@pytest.mark.parametrize('name', PRESETS)
def test_the_files_are_valid(name: str) -> None:
    import onnx
    for content in to_onnx(checkpoint_of(random_network(name)), name, with_nms=True, winograd=True):
        if content is not None:
            model = onnx.load_from_string(content)
            onnx.checker.check_model(model, full_check=True)
            assert (model.ir_version, model.opset_import[0].version, len(model.opset_import)) == (9, 19, 1)


def test_inputs_outputs_and_metadata_are_named() -> None:
    files = to_onnx(small_checkpoint(), 'small')
    session = open_session(files.network)
    assert [(value.name, value.shape) for value in session.get_inputs()] == [('images', ['n', 256, 256, 3])]
    anchors = 9 * (32 ** 2 + 16 ** 2 + 8 ** 2 + 4 ** 2 + 2 ** 2)
    assert [(value.name, value.shape) for value in session.get_outputs()] == [
        ('boxes', ['n', anchors, 4]), ('scores', ['n', anchors, 9]), ('coefficients', ['n', anchors, 32]),
        ('prototypes', ['n', 64, 64, 32])]
    metadata = session.get_modelmeta().custom_metadata_map
    assert sorted(metadata) == ['classes', 'config', 'weights'] and len(metadata['weights']) == 64


def test_it_is_built_without_paddle() -> None:
    code = ('import sys; from engines.export import to_onnx; from model.checkpoint import load_checkpoint\n'
            'to_onnx(load_checkpoint(sys.argv[1]), "x", winograd=True); print("onnx" in sys.modules, '
            '"paddle" in sys.modules)')
    done = run(sys.executable, '-c', code, SHIPPED, cwd=ROOT)
    assert (done.stdout, done.stderr) == ('True False\n', '')


@pytest.mark.parametrize(('name', 'tensor', 'problem'), [
    ('fpn.lat_layers.0.bias', None, 'lacks fpn.lat_layers.0.bias; is it a checkpoint of resnet18dcn_half?'),
    ('extra', np.zeros(1, np.float32), 'has an unknown extra (1 in all); is it a checkpoint of resnet18dcn_half?'),
    ('proto_net.0.bias', np.zeros(5, np.float32), 'proto_net.0.bias is [5], the network has [64]; they must have the '
                                                  'same classes and backbone')])
def test_tensors_of_another_network_are_refused(name: str, tensor: np.ndarray | None, problem: str) -> None:
    checkpoint = small_checkpoint()
    checkpoint.tensors.pop(name, None)
    if tensor is not None:
        checkpoint.tensors[name] = tensor
    with pytest.raises(UserError) as caught:
        to_onnx(checkpoint, 'x.pd')
    assert str(caught.value) == f'x.pd: {problem}'
