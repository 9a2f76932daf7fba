import json

import numpy as np
import paddle
import pytest

from engines.paddle_engine import PaddleEngine
from model.checkpoint import load_checkpoint, restore
from model.config import PRESETS, preset
from model.parameter_names import public_name
from model.yolact import Yolact
from prediction import Predictor
from tests.helpers import GOLDEN, ROOT
from tests.helpers.golden import NETWORKS, assert_same_detections, golden, inputs
from tests.helpers.networks import golden_network
from tests.helpers.outputs import unfiltered


@pytest.fixture(scope='module', params=NETWORKS)
def name(request):
    return request.param


@pytest.fixture(scope='module')
def network(name):
    network = golden_network(name)
    network.eval()
    return network


def agree(found, expected, tolerance=3e-5):
    """Entries differ by at most a share of the largest one.

    The order of sums, and so the rounding, depends on processor and number of threads: most outputs differ by less
    than 5e-6, and a single coefficient of DarkNet by 6e-6 to 1.5e-5.
    """
    assert np.abs(inputs.sample(found.numpy()) - expected).max() <= tolerance * np.abs(expected).max()


def test_parameters_are_those_of_the_public_network(name, network):
    expected = json.loads((GOLDEN / f'{NETWORKS[name]}.json').read_text())
    assert {public_name(key): value.shape for key, value in network.state_dict().items()} == expected


def test_raw_outputs(name, network):
    expected = golden(name)
    predictor = Predictor(PaddleEngine(network, None))
    image = paddle.to_tensor(predictor.preprocess(inputs.image(480, 640))[None])
    with paddle.no_grad():
        # OpenCV's weights of a bilinear resize are a bit less exact than PyTorch's.
        agree(network.normalize(image), expected['input'])
        outputs = network(image)
        boxes, scores, coefficients, prototypes = network.predict(image)
    assert outputs.semantic is None
    assert boxes.shape == outputs.offsets.shape == expected['loc_shape'].tolist()
    assert prototypes.shape == expected['proto_shape'].tolist()
    agree(outputs.offsets, expected['loc'])
    agree(scores, expected['conf'])
    agree(coefficients, expected['mask'])
    agree(prototypes, expected['proto'])
    agree(network.anchors, expected['priors'])


def test_detections(name, network):
    found, = unfiltered(Predictor(PaddleEngine(network, None)), inputs.image(480, 640))
    # DarkNet's scores lie so close together that two boxes 2.4e-7 apart change places, and one more survives NMS.
    assert_same_detections(found, golden(name), swapped=1 if name == 'darknet53' else 0)


def test_a_image_is_seen_alike_alone_and_in_a_batch():
    network = Yolact(preset('resnet18dcn_half', input_size=256))
    predictor = Predictor(PaddleEngine(network, None), score_threshold=0)
    images = [inputs.image(120, 200, 1), inputs.image(300, 90, 2)]
    for (alone,), together in zip([unfiltered(predictor, image) for image in images], unfiltered(predictor, *images)):
        assert len(alone) == len(together) == 100
        assert alone.size == together.size
        np.testing.assert_allclose(alone.box_scores, together.box_scores, atol=1e-6)


@pytest.mark.parametrize('size', [256, 257, 331, 400, 550, 700])
def test_any_input_size_has_an_anchor_for_each_prediction(size):
    network = Yolact(preset('resnet18dcn_half', input_size=size))
    network.train()
    outputs = network(paddle.zeros([1, size, size, 3], 'uint8'))
    assert outputs.offsets.shape[1] == len(network.anchors)
    assert outputs.prototypes.shape[1:3] == [network.config.prototype_size] * 2
    assert outputs.semantic.shape[2:] == [network.config.level_sizes[0]] * 2
    judged = network.maskiou_net(paddle.zeros([2, 1, *outputs.prototypes.shape[1:3]]))
    assert judged.shape == [2, 80]


@pytest.mark.parametrize('name, deformable', [('resnet50dcn', 13), ('resnet101dcn', 11), ('resnet50', 0),
                                              ('resnet18dcn_half', 2)])
def test_number_of_deformable_blocks(name, deformable):
    names = Yolact(preset(name, input_size=256)).state_dict()
    assert sum(key.endswith('conv_offset_mask.weight') for key in names) == deformable


def test_background_starts_at_99_percent():
    network = Yolact(preset('resnet18dcn_half', input_size=256))
    for parameter in network.prediction_layers[0].conf_layer.parameters()[:1]:
        parameter.set_value(paddle.zeros(parameter.shape))
    network.eval()
    _, scores, _, _ = network.predict(paddle.zeros([1, 256, 256, 3]))
    np.testing.assert_allclose(scores[..., 0].numpy(), 0.99, rtol=1e-5)


def test_sigmoid_scores_start_at_one_percent_and_do_not_compete():
    network = Yolact(preset('resnet18dcn_half', input_size=256, scores='sigmoid'))
    head = network.prediction_layers[0].conf_layer
    head.weight.set_value(paddle.zeros(head.weight.shape))
    network.eval()
    _, scores, _, _ = network.predict(paddle.zeros([1, 256, 256, 3]))
    np.testing.assert_allclose(scores.numpy(), 0.01, rtol=1e-5)
    head.bias.set_value(paddle.zeros(head.bias.shape))
    _, scores, _, _ = network.predict(paddle.zeros([1, 256, 256, 3]))
    np.testing.assert_allclose(scores.numpy(), 0.5, rtol=1e-5)


@pytest.mark.parametrize('name', PRESETS)
def test_presets_build(name):
    Yolact(preset(name, num_classes=2))


@pytest.mark.parametrize('pretrained', [False, True])
def test_the_mask_iou_net_of_new_classes_learns_for_each_of_them(pretrained):
    """It ends in a ReLU. A class that starts below zero would keep a mask score of zero for ever."""
    network = Yolact(preset('resnet18dcn_half', num_classes=5))
    if pretrained:
        weights = ROOT / 'weights/shapes.pd'
        restore(network, load_checkpoint(weights), weights, other_classes=True)
    masks = (paddle.rand([3, 1, 80, 80]) > 0.5).astype('float32')
    ious = network.maskiou_net(masks)
    np.testing.assert_array_equal(ious.numpy(), np.full([3, 4], 0.5, np.float32))
    (1 - ious).sum().backward()
    last = network.maskiou_net.maskiou_net[-2]
    assert (last.bias.grad.numpy() < 0).all()
    assert (np.abs(last.weight.grad.numpy()).sum((1, 2, 3)) > 0).all()
