"""Winograd convolution: 3×3 kernels with a quarter of the multiplications (https://arxiv.org/abs/1509.09308).

It is composed of standard operators, for runtimes that do not have it built in: ONNX Runtime on a CPU.
"""
import numpy as np

from engines.onnx_graph import Graph

TILE = 4  # output pixels along a side of a tile: F(4×4, 3×3), whose matrices are in section 4.3
TO_INPUT = np.array([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]])
TO_KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
TO_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
POINTS = len(TO_INPUT) ** 2
MIN_CHANNELS, MIN_SIDE = 128, 32  # of layers and feature maps; it is no faster below these


def is_faster(channels_in: int, channels_out: int, side: int) -> bool:
    """Whether it is faster than the direct convolution: for a large feature map and many channels."""
    return min(channels_in, channels_out) >= MIN_CHANNELS and side >= MIN_SIDE


def add_winograd_conv(graph: Graph, x: str, side: int, name: str, weight: np.ndarray, bias: np.ndarray) -> str:
    """Add a convolution with a 3×3 kernel, stride 1 and padding 1, which is computed up to rounding.

    Args:
        graph: to add to.
        x: name of its input, float32 [n, channels_in, side, side].
        side: pixels.
        name: prefix of its constants.
        weight: float32 [channels_out, channels_in, 3, 3].
        bias: float32 [channels_out].
    Returns:
        The name of its output, float32 [n, channels_out, side, side].
    """
    channels_out, channels_in = weight.shape[:2]
    tiles = -(-side // TILE)
    excess = TILE * tiles - side
    to_input = np.einsum('ai,bj->abij', TO_INPUT, TO_INPUT).reshape(POINTS, 1, 6, 6, 1).astype(np.float32)
    to_output = np.einsum('ia,jb->abij', TO_OUTPUT, TO_OUTPUT).reshape(POINTS, 1, TILE, TILE, 1).astype(np.float32)
    # Channels come last, so that values to sum are adjacent.
    x = graph.node('Unsqueeze', graph.node('Transpose', x, perm=[0, 2, 3, 1]), [1])
    x = graph.node('Conv', x, graph.constant(to_input, 'winograd.to_input'), kernel_shape=[6, 6, 1],
                   strides=[TILE, TILE, 1], pads=[1, 1, 0, excess + 1, excess + 1, 0])
    x = graph.node('Reshape', x, [0, 0, tiles ** 2, channels_in])
    x = graph.node('MatMul', x, graph.constant(_transformed(weight), f'{name}.winograd'))
    x = graph.node('Reshape', x, [0, 0, tiles, tiles, channels_out])
    x = graph.node('ConvTranspose', x, graph.constant(to_output, 'winograd.to_output'), kernel_shape=[TILE, TILE, 1],
                   strides=[TILE, TILE, 1], pads=[0, 0, 0, excess, excess, 0])
    x = graph.node('Add', graph.node('Squeeze', x, [1]), graph.constant(bias, f'{name}.bias'))
    return graph.node('Transpose', x, perm=[0, 3, 1, 2])


def _transformed(weight: np.ndarray) -> np.ndarray:
    """Kernels [o, c, 3, 3] at the points where the products are taken, float32 [POINTS, c, o]."""
    taps = np.ascontiguousarray(weight.transpose(2, 3, 1, 0), np.float64)  # [3, 3, c, o]
    points = np.kron(TO_KERNEL, TO_KERNEL) @ taps.reshape(9, -1)
    return points.reshape(POINTS, *taps.shape[2:]).astype(np.float32)
