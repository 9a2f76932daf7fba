"""Feature pyramid (https://arxiv.org/abs/1612.03144), as YOLACT has it: P3 to P7."""
from collections.abc import Sequence

import paddle.nn.functional as F
from paddle import Tensor, nn


class FPN(nn.Layer):
    """Top-down pathway over C3 to C5, and two strided convolutions for P6 and P7.

    The layers are listed from the top of the pyramid down, as in the public checkpoints.

    Args:
        channels_in: channels of C3, C4 and C5.
        channels: of every level that comes out.
    """

    def __init__(self, channels_in: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lat_layers = nn.LayerList([nn.Conv2D(c, channels, 1) for c in reversed(channels_in)])
        self.pred_layers = nn.LayerList([nn.Conv2D(channels, channels, 3, padding=1) for _ in channels_in])
        self.downsample_layers = nn.LayerList([nn.Conv2D(channels, channels, 3, 2, 1) for _ in range(2)])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """
        Args:
            maps: C3, C4, C5, float32 [n, channels_in, h, w].
        Returns:
            P3 to P7, float32 [n, channels, h, w].
        """
        levels: list[Tensor] = []
        x = None
        for feature, lateral, smooth in zip(reversed(maps), self.lat_layers, self.pred_layers):
            inward = lateral(feature)
            x = inward if x is None else inward + F.interpolate(x, inward.shape[2:], mode='bilinear')
            levels.insert(0, F.relu(smooth(x)))
        for downsample in self.downsample_layers:
            levels.append(downsample(levels[-1]))
        return levels
