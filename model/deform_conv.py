"""Deformable convolution, version 2 (https://arxiv.org/abs/1811.11168)."""
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.vision.ops import deform_conv2d


class DeformConv(nn.Layer):
    """A 3x3 convolution that learns where to look, and how much each place counts.

    `conv_offset_mask` predicts, for each of the nine taps, how far it moves (y, x in pixels) and a weight between
    0 and 1. It starts at zero: an ordinary convolution of half the strength.
    """

    def __init__(self, channels_in, channels_out, stride=1):
        super().__init__()
        self.stride = stride
        self.weight = self.create_parameter([channels_out, channels_in, 3, 3],
                                            default_initializer=nn.initializer.KaimingNormal())
        self.bias = self.create_parameter([channels_out], is_bias=True)
        zero = nn.initializer.Constant(0.0)
        self.conv_offset_mask = nn.Conv2D(channels_in, 27, 3, stride, 1, weight_attr=zero, bias_attr=zero)

    def forward(self, x):
        moves = self.conv_offset_mask(x)
        offsets, weights = moves[:, :18], F.sigmoid(moves[:, 18:])
        if self.training and x.place.is_cpu_place():
            return sampled_deform_conv(x, offsets, weights, self.weight, self.bias, self.stride)
        return deform_conv2d(x, offsets, self.weight, self.bias, self.stride, 1, mask=weights)


def sampled_deform_conv(x, offsets, weights, kernel, bias, stride):
    """The same as Paddle's operator, as one `grid_sample` of all taps and one matrix product.

    On a CPU its backward pass is about three times as fast, which more than makes up for the slower forward pass.

    Args:
        x: float32 [n, c, h, w], sides of 2 pixels or more.
        offsets: float32 [n, 18, h', w'], y and x of each tap, in pixels.
        weights: float32 [n, 9, h', w'].
        kernel: float32 [channels, c, 3, 3].
        bias: float32 [channels].
        stride: of the places in x that the h' × w' outputs look around.
    Returns:
        float32 [n, channels, h', w'].
    """
    n, channels, height, width = x.shape
    rows, columns = offsets.shape[2:]
    offsets = offsets.reshape([n, 9, 2, rows, columns])
    tap = paddle.arange(9)
    y_at = offsets[:, :, 0] + _around(tap // 3, [1, 9, 1, 1]) + _steps(rows, stride, [1, 1, rows, 1])
    x_at = offsets[:, :, 1] + _around(tap % 3, [1, 9, 1, 1]) + _steps(columns, stride, [1, 1, 1, columns])
    grid = paddle.stack([x_at * (2 / (width - 1)) - 1, y_at * (2 / (height - 1)) - 1], -1)
    # Paddle 2.6 would crash on a place that is not a number. The result is none either, by the weights.
    grid = paddle.where(paddle.isnan(grid), paddle.full_like(grid, -2), grid)
    samples = F.grid_sample(x, grid.reshape([n, 9 * rows, columns, 2]), align_corners=True)
    samples = samples.reshape([n, channels, 9, rows * columns]) * weights.reshape([n, 1, 9, rows * columns])
    out = kernel.reshape([kernel.shape[0], -1]) @ samples.reshape([n, channels * 9, rows * columns])
    return out.reshape([n, -1, rows, columns]) + bias.reshape([1, -1, 1, 1])


def _around(tap, shape):
    return (tap - 1).astype('float32').reshape(shape)


def _steps(count, stride, shape):
    return (paddle.arange(count) * stride).astype('float32').reshape(shape)
