"""The network as it is exported: from images to decoded boxes, with or without NMS."""
import paddle
from paddle import Tensor, nn

from engines.nms_layer import FastNMS
from model.backbones.deform_conv import DeformConv
from model.yolact import Yolact

RAW = ('boxes', 'scores', 'coefficients', 'prototypes')
WITH_NMS = ('boxes', 'classes', 'scores', 'coefficients', 'prototypes')


class ExportedNetwork(nn.Layer):
    """`Yolact.predict`, optionally followed by `FastNMS`.

    Args:
        network: `Yolact`, in eval mode.
        with_nms: whether to apply Fast NMS.
    Attributes:
        outputs: names of the tensors that `forward` returns: `RAW` or `WITH_NMS`.
    """

    def __init__(self, network: Yolact, with_nms: bool = False) -> None:
        super().__init__()
        config = network.config
        self.network = network
        self.nms = FastNMS(len(network.anchors), config.num_classes - 1, config.mask_dim) if with_nms else None
        self.outputs = WITH_NMS if with_nms else RAW

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """
        Args:
            images: float32 [n, size, size, 3], BGR, 0 to 255.
        Returns:
            Without NMS as of `Yolact.predict`; with it as of `FastNMS`, and prototypes.
        """
        boxes, scores, coefficients, prototypes = self.network.predict(images)
        if self.nms is None:
            return boxes, scores, coefficients, prototypes
        return *self.nms(boxes, scores, coefficients), prototypes


def fold_batch_norm(network: Yolact) -> None:
    """Fold batch norm into the deformable convolutions before it. Runtimes do that for ordinary convolutions only.

    Args:
        network: `Yolact`, which can no longer be trained afterwards.
    """
    for block in network.sublayers():
        conv, norm = getattr(block, 'conv2', None), getattr(block, 'bn2', None)
        if isinstance(conv, DeformConv) and isinstance(norm, nn.BatchNorm2D):
            mean, variance, epsilon = _batch_norm_statistics(norm)
            assert norm.weight is not None and norm.bias is not None
            with paddle.no_grad():
                scale = norm.weight / paddle.sqrt(variance + epsilon)
                conv.weight.set_value(conv.weight * scale.reshape([-1, 1, 1, 1]))
                conv.bias.set_value((conv.bias - mean) * scale + norm.bias)
            block.bn2 = nn.Identity()


def _batch_norm_statistics(norm: nn.BatchNorm2D) -> tuple[Tensor, Tensor, float]:
    """Running mean, running variance and epsilon. Paddle has them in private attributes only."""
    return norm._mean, norm._variance, norm._epsilon
