"""Bilinear sampling of feature maps, fast on a CPU: a product with a sparse matrix.

Paddle's own operators, deform_conv2d and grid_sample, go through the map channel by channel. Here the channels of a
pixel lie side by side, and a sample is a weighted sum of the rows of the four pixels around it.
"""
from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
from paddle import Tensor
from paddle.autograd import PyLayer
from scipy.sparse import csr_matrix

CHUNK = 512  # rows whose gradients are computed at a time, which keeps them in the cache


class Sampling(PyLayer):
    """Weighted bilinear samples, zero outside the map.

    Args:
        x: float32 [n, c, h, w].
        y_at, x_at: float32 [n, p], where to sample, in pixels from the centre of the first one.
        weights: float32 [n, p].
    Returns:
        float32 [n, p, c].
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y_at: Tensor, x_at: Tensor, weights: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        pixels = np.ascontiguousarray(x.numpy().transpose(0, 2, 3, 1)).reshape(-1, channels)
        corners = _Corners(y_at.numpy(), x_at.numpy(), height, width)
        corner_weights = corners.weights() * weights.numpy().reshape(-1, 1)
        ends = np.arange(0, corner_weights.size + 1, 4, dtype=np.int32)
        matrix = csr_matrix((corner_weights.ravel(), corners.pixels.ravel(), ends), (len(corner_weights), len(pixels)))
        ctx.kept = pixels, corners, weights.numpy().reshape(-1, 1), matrix, x.shape
        ctx.wanted = [not tensor.stop_gradient for tensor in (x, y_at, x_at, weights)]
        return paddle.to_tensor(matrix @ pixels).reshape([n, -1, channels])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        pixels, corners, weights, matrix, (n, channels, height, width) = ctx.kept
        gradient = gradients[0].numpy().reshape(-1, channels)
        of_pixels = (matrix.T @ gradient).reshape(n, height, width, channels).transpose(0, 3, 1, 2)
        of_corners = _products(gradient, pixels, corners.pixels)
        down, across = ((of_corners * derivative).sum(1, keepdims=True) * weights
                        for derivative in corners.derivatives())
        of_weights = (of_corners * corners.weights()).sum(1)
        parts = np.ascontiguousarray(of_pixels), *(part.reshape(n, -1) for part in (down, across, of_weights))
        return tuple(paddle.to_tensor(part) if wanted else None for part, wanted in zip(parts, ctx.wanted))


class _Corners:
    """The four pixels around each of n × p samples, a row each.

    Attributes:
        pixels: int32 [n p, 4], counted through all maps: upper left, upper right, lower left, lower right.
        inside: bool [n p, 4], whether there is such a pixel.
    """

    def __init__(self, y_at: np.ndarray, x_at: np.ndarray, height: int, width: int) -> None:
        top, left = np.floor(y_at), np.floor(x_at)
        self.down, self.right = ((at - first).reshape(-1, 1) for at, first in ((y_at, top), (x_at, left)))
        y = np.stack([top, top, top + 1, top + 1], -1)
        x = np.stack([left, left + 1, left, left + 1], -1)
        # So that NaN counts as inside, and shows in the sample.
        self.inside = ~((y < 0) | (y >= height) | (x < 0) | (x >= width)).reshape(-1, 4)
        first = np.arange(len(y_at)).reshape(-1, 1, 1) * (height * width)
        with np.errstate(invalid='ignore'):
            y, x = (np.clip(at, 0, last).astype(np.int32) for at, last in ((y, height - 1), (x, width - 1)))
        self.pixels = np.clip(first + y * width + x, 0, len(y_at) * height * width - 1).astype(np.int32).reshape(-1, 4)

    def weights(self) -> np.ndarray:
        """Bilinear weight of each corner, float32 [n p, 4]."""
        up, left = 1 - self.down, 1 - self.right
        return np.concatenate([up * left, up * self.right, self.down * left, self.down * self.right], 1) * self.inside

    def derivatives(self) -> Iterator[np.ndarray]:
        """Of the weights by y and by x, float32 [n p, 4] each."""
        up, left = 1 - self.down, 1 - self.right
        yield np.concatenate([-left, -self.right, left, self.right], 1) * self.inside
        yield np.concatenate([-up, up, -self.down, self.down], 1) * self.inside


def _products(gradient: np.ndarray, pixels: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The scalar product of each row of a gradient with each of its corners' pixels, float32 [rows, 4]."""
    found = np.empty(corners.shape, np.float32)
    for first in range(0, len(corners), CHUNK):
        rows = slice(first, first + CHUNK)
        np.einsum('rc,rkc->rk', gradient[rows], pixels[corners[rows]], out=found[rows])
    return found
