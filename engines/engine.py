"""The interface that all engines share."""
from typing import Protocol

import numpy as np

from model.classes import Classes
from model.config import Config


class Engine(Protocol):
    """A trained network, ready to predict.

    Attributes:
        config: the network's `Config`.
        classes: its `Classes`.
    """
    config: Config
    classes: Classes

    def predict(self, images: np.ndarray, score_threshold: float) -> list[tuple[np.ndarray, ...]]:
        """The network's outputs, decoded, before NMS.

        Args:
            images: float32 [n, size, size, 3], BGR, 0 to 255.
            score_threshold: 0 to 1; anchors whose best class scores no more may be left out.
        Returns:
            For each image boxes [a, 4], scores [a, num_classes], coefficients [a, mask_dim] and prototypes [h, w,
            mask_dim], float32, as of `Yolact.predict`, for a anchors.
        """
        ...

    def mask_iou(self, masks: np.ndarray) -> np.ndarray:
        """The output of the mask-IoU net, which only a network with `config.rescore_masks` has.

        Args:
            masks: low-resolution masks, float32 [n, 1, h, w], 0 to 1.
        Returns:
            The predicted IoU of each mask for each class, float32 [n, num_classes - 1].
        """
        ...
