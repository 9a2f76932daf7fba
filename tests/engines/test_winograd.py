from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from engines.winograd import WinogradConv, use_winograd


@pytest.mark.parametrize(('in_channels', 'out_channels', 'height', 'width', 'bias'),
                         [(128, 130, 32, 33, True), (129, 128, 34, 35, False), (128, 128, 36, 69, True)])
def test_it_computes_what_the_convolution_computes(in_channels: int, out_channels: int, height: int, width: int,
                                                   bias: bool) -> None:
    paddle.seed(0)
    conv = nn.Conv2D(in_channels, out_channels, 3, padding=1, bias_attr=None if bias else False)
    if bias:
        assert conv.bias is not None
        conv.bias.set_value(paddle.randn([out_channels]))
    x = paddle.randn([2, in_channels, height, width])
    expected = conv(x).numpy()
    found = WinogradConv(conv)(x).numpy()
    assert found.shape == expected.shape
    difference = np.abs(found - expected).max()
    assert 0 < difference < 1e-5 * np.ptp(expected)  # not 0, since it is computed in another way


def test_only_suitable_convolutions_are_replaced() -> None:
    def conv(in_channels: int, out_channels: int, kernel: int = 3, **options: Any) -> nn.Conv2D:
        return nn.Conv2D(in_channels, out_channels, kernel, **{'padding': kernel // 2, **options})
    suitable = conv(128, 128)
    others = [conv(127, 128), conv(128, 127), conv(128, 128, 1), conv(128, 128, stride=2), conv(128, 128, padding=0),
              conv(128, 128, groups=2), conv(128, 128, padding=2, dilation=2)]
    inner = nn.Sequential(suitable)
    network = nn.Sequential(inner, *others)
    paddle.seed(1)
    x = paddle.randn([1, 128, 31, 40])
    expected = suitable(x).numpy()
    use_winograd(network)
    assert isinstance(inner[0], WinogradConv)
    assert list(network)[1:] == others
    np.testing.assert_array_equal(inner[0](x).numpy(), expected)  # too small a feature map
