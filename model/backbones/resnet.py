"""ResNet backbones (https://arxiv.org/abs/1512.03385), with deformable convolution where asked."""
import paddle.nn.functional as F
from paddle import Tensor, nn

from model.backbones.deform_conv import DeformConv
from model.config import Config


def conv3x3(channels_in: int, channels_out: int, stride: int, deformable: bool) -> nn.Layer:
    """The 3x3 convolution of a block, which may be deformable."""
    if deformable:
        return DeformConv(channels_in, channels_out, stride)
    return nn.Conv2D(channels_in, channels_out, 3, stride, 1, bias_attr=False)


class Bottleneck(nn.Layer):
    """1x1, 3x3, 1x1: the block of ResNet-50 and ResNet-101."""
    expansion = 4

    def __init__(self, channels_in: int, channels: int, stride: int = 1, deformable: bool = False,
                 downsample: nn.Layer | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(channels_in, channels, 1, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(channels)
        self.conv2 = conv3x3(channels, channels, stride, deformable)
        self.bn2 = nn.BatchNorm2D(channels)
        self.conv3 = nn.Conv2D(channels, channels * self.expansion, 1, bias_attr=False)
        self.bn3 = nn.BatchNorm2D(channels * self.expansion)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class BasicBlock(nn.Layer):
    """3x3, 3x3: the block of ResNet-18."""
    expansion = 1

    def __init__(self, channels_in: int, channels: int, stride: int = 1, deformable: bool = False,
                 downsample: nn.Layer | None = None) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels_in, channels, stride, False)
        self.bn1 = nn.BatchNorm2D(channels)
        self.conv2 = conv3x3(channels, channels, 1, deformable)
        self.bn2 = nn.BatchNorm2D(channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet(nn.Layer):
    """Four stages of residual blocks.

    Args:
        config: `Config`: its block, depths, width and deformable stages.
    Attributes:
        channels: of the three feature maps that `forward` returns.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        block = Bottleneck if config.block == 'bottleneck' else BasicBlock
        self.conv1 = nn.Conv2D(3, config.width, 7, 2, 3, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(config.width)
        self.maxpool = nn.MaxPool2D(3, 2, 1)
        self.layers = nn.LayerList()
        channels_in = config.width
        for stage, depth in enumerate(config.depths):
            channels = config.width * 2 ** stage
            deformable = [stage in config.dcn_stages and i % config.dcn_interval == 0 for i in range(depth)]
            self.layers.append(_stage(block, channels_in, channels, 1 if stage == 0 else 2, deformable))
            channels_in = channels * block.expansion
        self.channels = [config.width * 2 ** stage * block.expansion for stage in (1, 2, 3)]

    def forward(self, x: Tensor) -> list[Tensor]:
        """C3, C4 and C5, at 1/8, 1/16 and 1/32 of the input, float32 [n, channels, h, w]."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        maps = []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return maps[1:]


def _stage(block: type[Bottleneck] | type[BasicBlock], channels_in: int, channels: int, stride: int,
           deformable: list[bool]) -> nn.Sequential:
    channels_out = channels * block.expansion
    downsample = None
    if stride != 1 or channels_in != channels_out:
        downsample = nn.Sequential(nn.Conv2D(channels_in, channels_out, 1, stride, bias_attr=False),
                                   nn.BatchNorm2D(channels_out))
    blocks = [block(channels_in, channels, stride, deformable[0], downsample)]
    blocks += [block(channels_out, channels, 1, deform) for deform in deformable[1:]]
    return nn.Sequential(*blocks)
