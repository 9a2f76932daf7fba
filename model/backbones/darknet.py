"""DarkNet-53, the backbone of YOLOv3 (https://arxiv.org/abs/1804.02767)."""
from paddle import Tensor, nn

from model.config import LEAK, Config


def conv_unit(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, leaky ReLU."""
    return nn.Sequential(nn.Conv2D(channels_in, channels_out, kernel, stride, kernel // 2, bias_attr=False),
                         nn.BatchNorm2D(channels_out),
                         nn.LeakyReLU(LEAK))


class DarkNetBlock(nn.Layer):
    """1x1 to half the channels, 3x3 back, and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv_unit(channels, channels // 2, 1)
        self.conv2 = conv_unit(channels // 2, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)) + x


class DarkNet(nn.Layer):
    """Five stages, each a stride-2 convolution and residual blocks.

    Args:
        config: `Config`: its depths and width.
    Attributes:
        channels: of the three feature maps that `forward` returns.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._preconv = conv_unit(3, config.width, 3)
        channels = [config.width * 2 ** stage for stage in range(6)]
        self.layers = nn.LayerList([
            nn.Sequential(conv_unit(channels[stage], channels[stage + 1], 3, 2),
                          *[DarkNetBlock(channels[stage + 1]) for _ in range(depth)])
            for stage, depth in enumerate(config.depths)])
        self.channels = channels[3:]

    def forward(self, x: Tensor) -> list[Tensor]:
        """C3, C4 and C5, at 1/8, 1/16 and 1/32 of the input, float32 [n, channels, h, w]."""
        x = self._preconv(x)
        maps = []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return maps[2:]
