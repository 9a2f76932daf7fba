"""Paddle as an engine, on a CPU or a GPU."""
import functools
from collections.abc import Callable, Sequence

import numpy as np
import paddle

from engines.exported_network import ExportedNetwork
from model.classes import Classes
from model.mixed_precision import Dtype, autocast_forward
from model.yolact import Yolact


class PaddleEngine:
    """A network in Paddle. An `Engine`.

    Args:
        network: `Yolact`, which is put in eval mode.
        classes: its `Classes`.
        compiled: compile it to a static graph, which takes less time to launch on a GPU.
        dtype: 'float32', or the half precision to compute in where that is safe.
    Attributes:
        config, classes: of the network.
    """

    def __init__(self, network: Yolact, classes: Classes, compiled: bool = False, dtype: Dtype = 'float32') -> None:
        self.config, self.classes = network.config, classes
        network.eval()
        self._network = network
        self._predict = functools.partial(autocast_forward, dtype, _compile(network) if compiled else network.predict)

    def predict(self, images: np.ndarray, score_threshold: float) -> list[tuple[np.ndarray, ...]]:
        """As of `Engine`, for the anchors whose best class scores more than the threshold."""
        with paddle.no_grad():
            outputs = self._predict(paddle.to_tensor(images))
            likely = (outputs[1][:, :, 1:].max(-1) > score_threshold).numpy()
        return [(*_rows(tensors, np.flatnonzero(selected)), prototypes.numpy())
                for *tensors, prototypes, selected in zip(*outputs, likely)]

    def mask_iou(self, masks: np.ndarray) -> np.ndarray:
        """As of `Engine`."""
        with paddle.no_grad():
            return self._network.maskiou_net(paddle.to_tensor(masks)).numpy()


def _rows(tensors: Sequence[paddle.Tensor], rows: np.ndarray) -> list[np.ndarray]:
    """Some rows of tensors, as arrays. They are few, while copying all rows from a GPU would be slow."""
    index = paddle.to_tensor(rows)
    return [(tensor.gather(index) if len(rows) else tensor[:0]).numpy() for tensor in tensors]


def _compile(network: Yolact) -> Callable[[paddle.Tensor], tuple[paddle.Tensor, ...]]:
    """`network.predict` as a static graph, for any number of images."""
    size = network.config.input_size
    images = paddle.static.InputSpec([None, size, size, 3], 'float32', 'images')
    return paddle.jit.to_static(ExportedNetwork(network), input_spec=[images], full_graph=True)
