"""Deformable convolution, version 2 (https://arxiv.org/abs/1811.11168)."""
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.vision.ops import deform_conv2d


class DeformConv(nn.Layer):
    """A 3x3 convolution with learned sampling offsets and modulation masks (DCNv2).

    `conv_offset_mask` predicts, for each of the nine taps, an offset (y, x in pixels) and a mask between 0 and 1. It
    starts at zero: an ordinary convolution of half the strength.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.weight = self.create_parameter([channels_out, channels_in, 3, 3],
                                            default_initializer=nn.initializer.KaimingNormal())
        self.bias = self.create_parameter([channels_out], is_bias=True)
        zero = nn.initializer.Constant(0.0)
        self.conv_offset_mask = nn.Conv2D(channels_in, 27, 3, stride, 1, weight_attr=zero, bias_attr=zero)

    def forward(self, x: Tensor) -> Tensor:
        predicted = self.conv_offset_mask(x)
        offsets, masks = predicted[:, :18], F.sigmoid(predicted[:, 18:])
        if paddle.in_dynamic_mode() and x.place.is_cpu_place():
            return sampled_deform_conv(x, offsets, masks, self.weight, self.bias, self.stride)
        return deform_conv2d(x, offsets, self.weight, self.bias, self.stride, 1, mask=masks)


def sampled_deform_conv(x: Tensor, offsets: Tensor, masks: Tensor, kernel: Tensor, bias: Tensor,
                        stride: int) -> Tensor:
    """The same as Paddle's operator, as one sampling of all taps and one matrix product, which is faster on a CPU.

    Args:
        x: float32 [n, c, h, w].
        offsets: float32 [n, 18, h', w'], y and x of each tap, in pixels.
        masks: float32 [n, 9, h', w'].
        kernel: float32 [channels, c, 3, 3].
        bias: float32 [channels].
        stride: of the convolution.
    Returns:
        float32 [n, channels, h', w'].
    """
    from model.backbones.sampling import Sampling
    n, (rows, columns) = len(x), offsets.shape[2:]
    offsets = offsets.transpose([0, 2, 3, 1]).reshape([n, rows, columns, 9, 2])
    tap = paddle.arange(9)
    y_at = offsets[..., 0] + _around(tap // 3) + _steps(rows, stride, [1, rows, 1, 1])
    x_at = offsets[..., 1] + _around(tap % 3) + _steps(columns, stride, [1, 1, columns, 1])
    samples = Sampling.apply(x, *(part.reshape([n, -1]) for part in (y_at, x_at, masks.transpose([0, 2, 3, 1]))))
    kernel = kernel.transpose([2, 3, 1, 0]).reshape([-1, kernel.shape[0]])
    out = samples.reshape([n, rows, columns, -1]) @ kernel + bias
    return out.transpose([0, 3, 1, 2])


def _around(tap: Tensor) -> Tensor:
    return (tap - 1).astype('float32')


def _steps(count: int, stride: int, shape: list[int]) -> Tensor:
    return (paddle.arange(count) * stride).astype('float32').reshape(shape)
