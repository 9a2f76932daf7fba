"""The mask-IoU net, which re-scores masks (YOLACT++, https://arxiv.org/abs/1912.06218, section 5.1)."""
import numpy as np
from paddle import Tensor, nn


class MaskIoUNet(nn.Layer):
    """Predicts the IoU of a mask with the ground truth.

    Its convolutions have no padding, so a mask must be 63 pixels or more a side.

    Args:
        classes: number of classes without background.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Layer] = []
        channels = 1
        for wider in (8, 16, 32, 64, 128):
            layers += [nn.Conv2D(channels, wider, 3, 2), nn.ReLU()]
            channels = wider
        self.maskiou_net = nn.Sequential(*layers, nn.Conv2D(channels, classes, 1), nn.ReLU())

    def start_at(self, iou: float) -> None:
        """Initialise the last layer to predict one IoU for every mask and class."""
        last = self.maskiou_net[-2]
        last.weight.set_value(np.zeros(last.weight.shape, np.float32))
        last.bias.set_value(np.full(last.bias.shape, iou, np.float32))

    def forward(self, masks: Tensor) -> Tensor:
        """
        Args:
            masks: float32 [n, 1, h, w], after sigmoid, zero outside their boxes.
        Returns:
            float32 [n, classes], not negative.
        """
        return self.maskiou_net(masks).max([2, 3])
