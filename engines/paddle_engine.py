"""The network in Paddle."""
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle

from engines.exported_network import Exported
from model.classes import Classes
from model.mixed_precision import Dtype, autocast_forward
from model.yolact import Yolact


class PaddleEngine:
    """A network in Paddle, which is put in eval mode.

    Args:
        network: `Yolact`.
        classes: the `Classes` that it tells apart.
        compiled: whether to compile it to a static graph, which takes less time to launch on a GPU.
        dtype: 'float32', or the precision to compute in where that is safe.
    Attributes:
        config, classes: as given.
    """

    def __init__(self, network: Yolact, classes: Classes, compiled: bool = False, dtype: Dtype = 'float32') -> None:
        self.config, self.classes = network.config, classes
        network.eval()
        self._network = network
        self._predict = functools.partial(autocast_forward, dtype, _compile(network) if compiled else network.predict)

    def predict(self, images: np.ndarray, score_threshold: float) -> list[tuple[np.ndarray, ...]]:
        """
        Args:
            images: float32 [n, size, size, 3], BGR, 0 to 255.
            score_threshold: of the anchors that are returned.
        Returns:
            n tuples of boxes [a, 4], scores [a, num_classes], coefficients [a, mask_dim] and prototypes [h, w,
            mask_dim], float32, as of `Yolact.predict`, of the a anchors whose best class scores more.
        """
        with paddle.no_grad():
            outputs = self._predict(paddle.to_tensor(images))
            likely = (outputs[1][:, :, 1:].max(-1) > score_threshold).numpy()
        return [(*self._rows(parts, np.flatnonzero(wanted)), prototypes.numpy())
                for *parts, prototypes, wanted in zip(*outputs, likely)]

    def _rows(self, tensors: Sequence[paddle.Tensor], rows: np.ndarray) -> list[np.ndarray]:
        """Some rows of tensors, as arrays. They are few, and all of them would be slow to get from a GPU."""
        chosen = paddle.to_tensor(rows)
        return [(tensor.gather(chosen) if len(rows) else tensor[:0]).numpy() for tensor in tensors]

    def mask_iou(self, masks: np.ndarray) -> np.ndarray:
        """How good masks are, float32 [n, 1, h, w], for each class they may be of: float32 [n, classes]."""
        with paddle.no_grad():
            return self._network.maskiou_net(paddle.to_tensor(masks)).numpy()


def _compile(network: Yolact) -> Any:
    size = network.config.input_size
    images = paddle.static.InputSpec([None, size, size, 3], 'float32', 'images')
    return paddle.jit.to_static(Exported(network), input_spec=[images], full_graph=True)
