import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from engines.onnx_engine import open_session
from engines.onnx_graph import Graph
from engines.winograd import add_winograd_conv, is_faster
from tests.helpers.engines import needs_onnx


@needs_onnx
@pytest.mark.parametrize(('channels_in', 'channels_out', 'side'), [(128, 130, 33), (129, 128, 34), (128, 128, 36)])
def test_it_computes_what_the_convolution_computes(channels_in: int, channels_out: int, side: int) -> None:
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(shape, np.float32) for shape in (
        (2, channels_in, side, side), (channels_out, channels_in, 3, 3), channels_out))
    graph = Graph()
    out = add_winograd_conv(graph, graph.input('x', channels_in, side, side), side, 'conv', weight, bias)
    graph.output('y', out, channels_out, side, side)
    found, = open_session(graph.file('conv', {})).run(None, {'x': x})
    expected = F.conv2d(*map(paddle.to_tensor, (x, weight, bias)), padding=1).numpy()
    assert found.shape == expected.shape
    difference = np.abs(found - expected).max()
    assert 0 < difference < 1e-5 * np.ptp(expected)  # not 0, since it is computed in another way


def test_it_is_for_many_channels_and_large_maps() -> None:
    assert is_faster(128, 128, 32)
    assert not any(is_faster(*sizes) for sizes in ((127, 128, 32), (128, 127, 32), (128, 128, 31)))
