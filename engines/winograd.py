"""Winograd's convolution: 3×3 kernels with a quarter of the multiplications (https://arxiv.org/abs/1509.09308).

It is written in operators that every runtime has, for those that have it not built in: ONNX Runtime on a CPU.
"""
import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

TILE = 4  # output pixels a side; F(4×4, 3×3), of which section 4.3 has the matrices
TO_INPUT = np.array([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]])
TO_KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
TO_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
POINTS = len(TO_INPUT) ** 2
MIN_CHANNELS, MIN_SIDE = 128, 32  # below these it is no faster


class WinogradConv(nn.Layer):
    """What a convolution computes, to rounding.

    Args:
        conv: `nn.Conv2D` of a 3×3 kernel, stride 1 and padding 1.
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
        """float32 [n, channels in, h, w] to [n, channels out, h, w]."""
        height, width = x.shape[2:]
        if min(height, width) < MIN_SIDE:
            return self.direct(x)
        rows, columns = -(-height // TILE), -(-width // TILE)
        bottom, right = TILE * rows - height, TILE * columns - width
        channels_last = x.transpose([0, 2, 3, 1]).unsqueeze(1)  # what is added up lies side by side so
        tiles = F.conv3d(channels_last, self.to_input, stride=[TILE, TILE, 1],
                         padding=[1, bottom + 1, 1, right + 1, 0, 0])  # [n, points, rows, columns, channels in]
        products = tiles.flatten(2, 3) @ self.kernel
        products = products.reshape([-1, POINTS, rows, columns, self.kernel.shape[2]])
        made = F.conv3d_transpose(products, self.to_output, stride=[TILE, TILE, 1],
                                  padding=[0, bottom, 0, right, 0, 0]).squeeze(1)
        if self.direct.bias is not None:
            made = made + self.direct.bias
        return made.transpose([0, 3, 1, 2])


def use_winograd(layer: nn.Layer) -> None:
    """Have the convolutions in a layer computed so, where that is faster. It is good for prediction alone from then on.

    Args:
        layer: `nn.Layer`.
    """
    for name, part in layer.named_children():
        if isinstance(part, nn.Conv2D) and _fits(part):
            setattr(layer, name, WinogradConv(part))
        else:
            use_winograd(part)


def _fits(layer: nn.Conv2D) -> bool:
    """A 3×3 convolution of stride 1, padding 1 and many channels. Paddle keeps its settings in private attributes."""
    return (min(layer.weight.shape[:2]) >= MIN_CHANNELS
            and (layer.weight.shape[2:], layer._stride, layer._padding) == ([3, 3], [1, 1], 1)
            and (layer._dilation, layer._groups) == ([1, 1], 1))
