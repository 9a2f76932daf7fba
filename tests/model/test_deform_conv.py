import gc
import tracemalloc

import numpy as np
import paddle
import pytest
from paddle.vision.ops import deform_conv2d

from model.backbones.deform_conv import DeformConv, sampled_deform_conv


def leaf(array):
    return paddle.to_tensor(np.float32(array), stop_gradient=False)


@pytest.mark.parametrize('stride, height, width', [(1, 9, 12), (2, 9, 12), (2, 8, 7)])
def test_both_ways_agree_gradients_included(stride, height, width):
    rng = np.random.default_rng(0)
    rows, columns = (height - 1) // stride + 1, (width - 1) // stride + 1
    arguments = [leaf(rng.standard_normal(shape)) for shape in
                 ((2, 6, height, width), (2, 18, rows, columns), (2, 9, rows, columns), (5, 6, 3, 3), (5,))]
    arguments[1].set_value(arguments[1] * 3)  # also far outside of the image
    found = []
    for convolve in (lambda x, o, m, k, b: deform_conv2d(x, o, k, b, stride, 1, mask=m),
                     lambda *parts: sampled_deform_conv(*parts, stride)):
        out = convolve(*arguments)
        (out * out).sum().backward()
        found.append([out.numpy(), *(argument.grad.numpy() for argument in arguments)])
        for argument in arguments:
            argument.clear_gradient()
    for native, sampled in zip(*found):
        np.testing.assert_allclose(sampled, native, atol=1e-5 * np.abs(native).max())


def test_starts_as_a_convolution_of_half_the_strength():
    layer = DeformConv(3, 4)
    layer.eval()
    x = paddle.rand([1, 3, 8, 8])
    expected = paddle.nn.functional.conv2d(x, layer.weight, padding=1) / 2
    np.testing.assert_allclose(layer(x).numpy(), expected.numpy(), atol=1e-6)


def test_looks_where_its_own_convolution_says():
    layer = DeformConv(3, 4, stride=2)
    layer.conv_offset_mask.weight.set_value(paddle.randn([27, 3, 3, 3]))
    x = paddle.rand([2, 3, 9, 8])
    moves = layer.conv_offset_mask(x)
    expected = deform_conv2d(x, moves[:, :18], layer.weight, layer.bias, 2, 1,
                             mask=paddle.nn.functional.sigmoid(moves[:, 18:]))
    for train in (True, False):
        layer.train() if train else layer.eval()
        np.testing.assert_allclose(layer(x).numpy(), expected.numpy(), atol=1e-5)


def test_what_is_not_a_number_stays_so_and_crashes_nothing():
    layer = DeformConv(2, 3)
    x = paddle.full([1, 2, 6, 5], np.nan)
    x.stop_gradient = False
    out = layer(x)
    out.sum().backward()
    assert np.isnan(out.numpy()).all()
    offsets = paddle.zeros([1, 18, 6, 5])
    offsets[0, 4, 2, 3] = np.nan  # of one tap alone
    out = sampled_deform_conv(paddle.ones([1, 2, 6, 5]), offsets, paddle.ones([1, 9, 6, 5]), layer.weight, layer.bias,
                              1)
    assert np.argwhere(np.isnan(out.numpy().sum(1))).tolist() == [[0, 2, 3]]


def test_memory_is_given_back_after_the_backward_pass():
    layer = DeformConv(8, 8)
    x = paddle.rand([1, 8, 64, 64])
    layer(x).sum().backward()
    tracemalloc.start()
    for _ in range(3):
        layer(x).sum().backward()
        layer.clear_gradients()
    gc.collect()
    assert tracemalloc.get_traced_memory()[0] < 64 * 64 * 9 * 4  # one of the arrays of one pass
    tracemalloc.stop()
