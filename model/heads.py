"""Prototype head and prediction head."""
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn


class Upsample(nn.Layer):
    """Bilinear upsampling to twice the size."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        return F.interpolate(x, [2 * height, 2 * width], mode='bilinear')


def proto_net(channels: int, mask_dim: int) -> nn.Sequential:
    """ProtoNet (YOLACT, https://arxiv.org/abs/1904.02689, section 3.1 and figure 3).

    From P3, float32 [n, channels, h, w], to prototypes before their ReLU, float32 [n, mask_dim, 2h, 2w].
    """
    def conv() -> nn.Conv2D:
        return nn.Conv2D(channels, channels, 3, padding=1)
    return nn.Sequential(conv(), nn.ReLU(), conv(), nn.ReLU(), conv(), nn.ReLU(), Upsample(), nn.ReLU(),
                         conv(), nn.ReLU(), nn.Conv2D(channels, mask_dim, 1))


class PredictionHead(nn.Layer):
    """Box offsets, class logits and mask coefficients of every anchor; one head serves all levels.

    Args:
        channels: of the pyramid.
        anchors: number of anchors a cell.
        num_classes: with background.
        mask_dim: number of prototypes.
    """

    def __init__(self, channels: int, anchors: int, num_classes: int, mask_dim: int) -> None:
        super().__init__()
        self.num_classes, self.mask_dim = num_classes, mask_dim
        self.upfeature = nn.Sequential(nn.Conv2D(channels, channels, 3, padding=1), nn.ReLU())
        self.bbox_layer = nn.Conv2D(channels, anchors * 4, 3, padding=1)
        self.conf_layer = nn.Conv2D(channels, anchors * num_classes, 3, padding=1)
        self.mask_layer = nn.Conv2D(channels, anchors * mask_dim, 3, padding=1)

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        Args:
            level: float32 [n, channels, h, w].
        Returns:
            offsets [n, a, 4], logits [n, a, num_classes], coefficients [n, a, mask_dim] in [-1, 1], float32,
            where a is h × w × anchors.
        """
        x = self.upfeature(level)
        return (_by_anchor(self.bbox_layer(x), 4),
                _by_anchor(self.conf_layer(x), self.num_classes),
                paddle.tanh(_by_anchor(self.mask_layer(x), self.mask_dim)))


def _by_anchor(x: Tensor, values: int) -> Tensor:
    return x.transpose([0, 2, 3, 1]).reshape([x.shape[0], -1, values])
