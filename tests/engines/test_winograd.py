import numpy as np
import paddle
import pytest
from paddle import nn

from engines.winograd import WinogradConv, use_winograd


@pytest.mark.parametrize(('channels', 'made', 'height', 'width', 'bias'),
                         [(128, 130, 32, 33, True), (129, 128, 34, 35, False), (128, 128, 36, 69, True)])
def test_it_computes_what_the_convolution_computes(channels, made, height, width, bias):
    paddle.seed(0)
    conv = nn.Conv2D(channels, made, 3, padding=1, bias_attr=None if bias else False)
    if bias:
        conv.bias.set_value(paddle.randn([made]))
    x = paddle.randn([2, channels, height, width])
    expected = conv(x).numpy()
    found = WinogradConv(conv)(x).numpy()
    assert found.shape == expected.shape
    difference = np.abs(found - expected).max()
    assert 0 < difference < 1e-5 * np.ptp(expected)  # not 0: it did go another way


def test_only_large_convolutions_of_the_right_kind_take_part():
    def conv(channels, made, kernel=3, **options):
        return nn.Conv2D(channels, made, kernel, **{'padding': kernel // 2, **options})
    right, others = conv(128, 128), [conv(127, 128), conv(128, 127), conv(128, 128, 1), conv(128, 128, stride=2),
                                     conv(128, 128, padding=0), conv(128, 128, groups=2), conv(128, 128, padding=2,
                                                                                                dilation=2)]
    network = nn.Sequential(nn.Sequential(right), *others)
    paddle.seed(1)
    x = paddle.randn([1, 128, 31, 40])
    expected = right(x).numpy()
    use_winograd(network)
    assert isinstance(network[0][0], WinogradConv)
    assert list(network)[1:] == others
    np.testing.assert_array_equal(network[0][0](x).numpy(), expected)  # a map too small to gain anything
