"""What every engine can do."""
from typing import Protocol

import numpy as np

from model.classes import Classes
from model.config import Config


class Engine(Protocol):
    """A trained network, ready to predict.

    Attributes:
        config: the network's `Config`.
        classes: the `Classes` that it tells apart.
    """
    config: Config
    classes: Classes

    def predict(self, images: np.ndarray, score_threshold: float) -> list[tuple[np.ndarray, ...]]:
        """Raw outputs, decoded.

        Args:
            images: float32 [n, size, size, 3], BGR, 0 to 255.
            score_threshold: anchors whose best class scores less may be left out.
        Returns:
            For each image boxes [a, 4], scores [a, num_classes], coefficients [a, mask_dim] and prototypes [h, w,
            mask_dim], float32, as of `Yolact.predict`.
        """
        ...

    def mask_iou(self, masks: np.ndarray) -> np.ndarray:
        """Predicted IoU of low-resolution masks, float32 [n, 1, h, w], for each class: float32 [n, classes]."""
        ...
