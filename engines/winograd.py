"""Winograd convolution: 3×3 kernels with a quarter of the multiplications (https://arxiv.org/abs/1509.09308).

It is composed of standard operators, for runtimes that do not have it built in: ONNX Runtime on a CPU.
"""
from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

TILE = 4  # output pixels along a side of a tile: F(4×4, 3×3), whose matrices are in section 4.3
TO_INPUT = np.array([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]])
TO_KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
TO_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
POINTS = len(TO_INPUT) ** 2
MIN_CHANNELS, MIN_SIDE = 128, 32  # of layers and feature maps; it is no faster below these


class WinogradConv(nn.Layer):
    """Computes a convolution, up to rounding. Small feature maps take the direct convolution.

    Args:
        conv: `nn.Conv2D` with a 3×3 kernel, stride 1 and padding 1.
    """

    def __init__(self, conv: nn.Conv2D) -> None:
        super().__init__()
        self.direct = conv
        kernel = np.einsum('ai,bj,ocij->abco', TO_KERNEL, TO_KERNEL, conv.weight.numpy().astype(np.float64))
        self._buffer('kernel', kernel.reshape(POINTS, *kernel.shape[2:]))
        self._buffer('to_input', np.einsum('ai,bj->abij', TO_INPUT, TO_INPUT).reshape(POINTS, 1, 6, 6, 1))
        self._buffer('to_output', np.einsum('ia,jb->abij', TO_OUTPUT, TO_OUTPUT).reshape(POINTS, 1, TILE, TILE, 1))

    def _buffer(self, name: str, value: np.ndarray) -> None:
        self.register_buffer(name, paddle.to_tensor(value.astype(np.float32)), persistable=False)

    def forward(self, x: Tensor) -> Tensor:
        """float32 [n, in_channels, h, w] to [n, out_channels, h, w]."""
        height, width = x.shape[2:]
        if min(height, width) < MIN_SIDE:
            return self.direct(x)
        rows, columns = -(-height // TILE), -(-width // TILE)
        bottom, right = TILE * rows - height, TILE * columns - width
        channels_last = x.transpose([0, 2, 3, 1]).unsqueeze(1)  # so that values to sum are adjacent
        tiles = F.conv3d(channels_last, self.to_input, stride=[TILE, TILE, 1],
                         padding=[1, bottom + 1, 1, right + 1, 0, 0])  # [n, points, rows, columns, in_channels]
        products = tiles.flatten(2, 3) @ self.kernel
        products = products.reshape([-1, POINTS, rows, columns, self.kernel.shape[2]])
        out = F.conv3d_transpose(products, self.to_output, stride=[TILE, TILE, 1],
                                 padding=[0, bottom, 0, right, 0, 0]).squeeze(1)
        if self.direct.bias is not None:
            out = out + self.direct.bias
        return out.transpose([0, 3, 1, 2])


def use_winograd(layer: nn.Layer) -> None:
    """Replace the convolutions inside a layer by `WinogradConv` where that is faster.

    Args:
        layer: `nn.Layer`, which can no longer be trained afterwards.
    """
    for name, child in layer.named_children():
        if isinstance(child, nn.Conv2D) and _is_suitable(child):
            setattr(layer, name, WinogradConv(child))
        else:
            use_winograd(child)


def _is_suitable(conv: nn.Conv2D) -> bool:
    """Whether it is a 3×3 convolution with stride 1, padding 1 and many channels."""
    return (min(conv.weight.shape[:2]) >= MIN_CHANNELS and conv.weight.shape[2:] == [3, 3]
            and _settings(conv) == ConvSettings([1, 1], 1, [1, 1], 1))


class ConvSettings(NamedTuple):
    """How an `nn.Conv2D` was made. Stride and dilation are vertical, horizontal."""
    stride: list[int]
    padding: object  # an int, a str, or a sequence of ints
    dilation: list[int]
    groups: int


def _settings(conv: nn.Conv2D) -> ConvSettings:
    """Paddle has them in private attributes only."""
    return ConvSettings(conv._stride, conv._padding, conv._dilation, conv._groups)
