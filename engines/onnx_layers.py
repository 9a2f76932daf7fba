"""Layers in ONNX: a checkpoint's weights, and the operators that they go with. It needs no Paddle."""
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engines.onnx_graph import Graph
from engines.winograd import add_winograd_conv, is_faster
from model.checkpoint import Checkpoint
from system.errors import UserError

EPSILON = np.float32(1e-5)  # of batch norm, Paddle's default


class Map(NamedTuple):
    """A square feature map in a graph.

    Attributes:
        name: of its tensor, float32 [n, channels, side, side].
        channels, side: its size.
    """
    name: str
    channels: int
    side: int


class Weights:
    """The tensors of a checkpoint, each of which must be there, have the shape that its layer has, and be used.

    Args:
        checkpoint: `Checkpoint` of a whole network.
        path: where it came from, for messages.
    """

    def __init__(self, checkpoint: Checkpoint, path: str | Path) -> None:
        self._tensors, self._unused = checkpoint.tensors, set(checkpoint.tensors)
        self._path, self._backbone = path, checkpoint.config.backbone_name

    def take(self, name: str, *shape: int) -> np.ndarray:
        """A tensor by name.

        Raises:
            UserError: there is none, or it has another shape.
        """
        if name not in self._tensors:
            raise UserError(f'{self._path}: lacks {name}; is it a checkpoint of {self._backbone}?')
        tensor = self._tensors[name]
        if tensor.shape != shape:
            raise UserError(f'{self._path}: {name} is {list(tensor.shape)}, the network has {list(shape)}; they must '
                            'have the same classes and backbone')
        self._unused.discard(name)
        return tensor

    def check_all_used(self) -> None:
        """Raises a UserError if there are tensors that no layer took."""
        if self._unused:
            raise UserError(f'{self._path}: has an unknown {min(self._unused)} ({len(self._unused)} in all); is it a '
                            f'checkpoint of {self._backbone}?')


class Layers:
    """Adds layers to a graph. Batch norm becomes part of the convolution before it.

    Args:
        graph: `Graph` to add to.
        weights: `Weights`.
        winograd: whether to compute large 3×3 convolutions as Winograd convolutions.
    """

    def __init__(self, graph: Graph, weights: Weights, winograd: bool = False) -> None:
        self.graph, self._weights, self._winograd = graph, weights, winograd

    def conv(self, x: Map, name: str, channels: int, kernel: int = 3, stride: int = 1, padding: int | None = None,
             norm: str = '') -> Map:
        """A convolution, with a bias of its own or from the batch norm that follows it.

        Args:
            x: its input.
            name: prefix of its tensors.
            channels: of the output.
            kernel, stride: pixels.
            padding: pixels; by default as many as keep the size where the stride is 1.
            norm: prefix of the batch norm's tensors; empty if there is none.
        """
        padding = kernel // 2 if padding is None else padding
        weight = self._weights.take(f'{name}.weight', channels, x.channels, kernel, kernel)
        if norm:
            weight, bias = self._fold(weight, np.zeros(channels, np.float32), norm)
        else:
            bias = self._weights.take(f'{name}.bias', channels)
        out = Map('', channels, (x.side + 2 * padding - kernel) // stride + 1)
        if self._winograd and (kernel, stride, padding) == (3, 1, 1) and is_faster(x.channels, channels, x.side):
            return out._replace(name=add_winograd_conv(self.graph, x.name, x.side, name, weight, bias))
        parameters = self.graph.constant(weight, f'{name}.weight'), self.graph.constant(bias, f'{name}.bias')
        return out._replace(name=self.graph.node('Conv', x.name, *parameters, kernel_shape=[kernel] * 2,
                                                 strides=[stride] * 2, pads=[padding] * 4))

    def deform_conv(self, x: Map, name: str, channels: int, stride: int, norm: str) -> Map:
        """A 3×3 deformable convolution (`model.backbones.deform_conv.DeformConv`) and batch norm."""
        predicted = self.conv(x, f'{name}.conv_offset_mask', 27, 3, stride)
        offsets, masks = self.graph.nodes(2, 'Split', predicted.name, [18, 9], axis=1)
        weight, bias = self._fold(self._weights.take(f'{name}.weight', channels, x.channels, 3, 3),
                                  self._weights.take(f'{name}.bias', channels), norm)
        out = self.graph.node('DeformConv', x.name, self.graph.constant(weight, f'{name}.weight'), offsets,
                              self.graph.constant(bias, f'{name}.bias'), self.graph.node('Sigmoid', masks),
                              kernel_shape=[3, 3], strides=[stride] * 2, pads=[1] * 4, dilations=[1, 1], group=1)
        return Map(out, channels, predicted.side)

    def relu(self, x: Map) -> Map:
        return x._replace(name=self.graph.node('Relu', x.name))

    def leaky_relu(self, x: Map, slope: float) -> Map:
        return x._replace(name=self.graph.node('LeakyRelu', x.name, alpha=slope))

    def add(self, x: Map, other: Map) -> Map:
        return x._replace(name=self.graph.node('Add', x.name, other.name))

    def max_pool(self, x: Map) -> Map:
        """Over 3×3 pixels, with stride 2."""
        out = self.graph.node('MaxPool', x.name, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        return Map(out, x.channels, (x.side + 1) // 2)

    def resize(self, x: Map, side: int) -> Map:
        """Bilinearly, to another size."""
        sizes = self.graph.node('Concat', self.graph.node('Shape', x.name, start=0, end=2), [side, side], axis=0)
        return Map(self.graph.node('Resize', x.name, '', '', sizes, mode='linear',
                                   coordinate_transformation_mode='half_pixel'), x.channels, side)

    def channels_last(self, x: Map) -> str:
        """float32 [n, side, side, channels]."""
        return self.graph.node('Transpose', x.name, perm=[0, 2, 3, 1])

    def _fold(self, weight: np.ndarray, bias: np.ndarray, norm: str) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of a convolution that does what batch norm did after it."""
        scale, shift, mean, variance = (self._weights.take(f'{norm}.{name}', len(bias))
                                        for name in ('weight', 'bias', '_mean', '_variance'))
        with np.errstate(invalid='ignore', divide='ignore', over='ignore'):  # weights that are no network's
            scale = scale / np.sqrt(variance + EPSILON)
            return weight * scale.reshape(-1, 1, 1, 1), (bias - mean) * scale + shift
