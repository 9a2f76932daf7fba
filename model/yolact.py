"""YOLACT and YOLACT++ (https://arxiv.org/abs/1904.02689, https://arxiv.org/abs/1912.06218): the whole network."""
from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from model.anchors import anchors
from model.backbones.darknet import DarkNet
from model.backbones.resnet import ResNet
from model.boxes import decode
from model.config import Config
from model.fpn import FPN
from model.heads import PredictionHead, proto_net
from model.mask_iou import MaskIoUNet

INITIAL_MASK_IOU = 0.5


class Outputs(NamedTuple):
    """Raw outputs for n images with a anchors each.

    Attributes:
        offsets: float32 [n, a, 4], of boxes from anchors (`boxes.decode`).
        logits: float32 [n, a, num_classes], background first.
        coefficients: float32 [n, a, mask_dim], in [-1, 1].
        prototypes: float32 [n, h, w, mask_dim], not negative.
        semantic: float32 [n, num_classes - 1, h / 2, w / 2], logits of every class at every pixel; None unless
            training.
    """
    offsets: Tensor
    logits: Tensor
    coefficients: Tensor
    prototypes: Tensor
    semantic: Tensor | None


class Yolact(nn.Layer):
    """The network. Parameters are named as in the public PyTorch checkpoints.

    Args:
        config: `Config`.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = DarkNet(config) if config.block == 'darknet' else ResNet(config)
        self.fpn = FPN(self.backbone.channels, config.fpn_channels)
        self.proto_net = proto_net(config.fpn_channels, config.mask_dim)
        self.prediction_layers = nn.LayerList([
            PredictionHead(config.fpn_channels, config.anchors_per_cell, config.num_classes, config.mask_dim)])
        if config.rescore_masks:
            self.maskiou_net = MaskIoUNet(config.num_classes - 1)
        self.semantic_seg_conv = nn.Conv2D(config.fpn_channels, config.num_classes - 1, 1)
        self._buffer('anchors', anchors(config))
        self._buffer('pixel_mean', np.reshape(config.pixel_mean, [3, 1, 1]))
        self._buffer('pixel_std', np.reshape(config.pixel_std, [3, 1, 1]))
        self._initialize()
        self._frozen: list[nn.BatchNorm2D] = []

    def _buffer(self, name: str, value: np.ndarray) -> None:
        self.register_buffer(name, paddle.to_tensor(value, 'float32'), persistable=False)

    def _initialize(self) -> None:
        """Initial weights: Xavier outside the backbone, as published; Paddle's own He inside it.

        Every class starts at a probability of 0.01, or all classes together where softmax makes them add up to 1 with
        background (the prior of https://arxiv.org/abs/1708.02002, section 3.3). Otherwise the first steps of a loss
        over all anchors would go into learning that most anchors are background, and might diverge.

        The mask-IoU net starts with one IoU for all masks. It ends in a ReLU, which passes no gradient where a class
        starts below zero; the masks of that class would keep a score of zero.
        """
        xavier = nn.initializer.XavierUniform()
        for name, layer in self.named_sublayers():
            if isinstance(layer, nn.Conv2D) and not name.startswith('backbone.'):
                xavier(layer.weight)
        prior = np.zeros([self.config.anchors_per_cell, self.config.num_classes], np.float32)
        if self.config.scores == 'softmax':
            prior[:, 0] = np.log(99 * (self.config.num_classes - 1))
        else:
            prior[:] = -np.log(99)
        self.prediction_layers[0].conf_layer.bias.set_value(prior.flatten())
        if self.config.rescore_masks:
            self.maskiou_net.start_at(INITIAL_MASK_IOU)

    def freeze_batch_norm(self) -> None:
        """Keep batch norm's statistics, scale and shift as they are from now on, in training too."""
        self._frozen = [layer for layer in self.sublayers() if isinstance(layer, nn.BatchNorm2D)]
        for layer in self._frozen:
            for parameter in layer.parameters():
                parameter.stop_gradient = True
            layer.eval()

    def freeze(self, part: str) -> None:
        """Keep the weights and batch norm of a part, such as 'backbone', as they are from now on."""
        layers = getattr(self, part)
        self._frozen += [layer for layer in layers.sublayers() if isinstance(layer, nn.BatchNorm2D)]
        for parameter in layers.parameters():
            parameter.stop_gradient = True

    def train(self, *mode: bool) -> 'Yolact':
        """Training mode. Frozen batch norm stays in evaluation mode, in which it uses its running statistics."""
        super().train(*mode)
        for layer in self._frozen:
            layer.eval()
        return self

    def normalize(self, images: Tensor) -> Tensor:
        """
        Args:
            images: uint8 or float32 [n, size, size, 3], BGR, 0 to 255.
        Returns:
            float32 [n, 3, size, size], RGB, as the backbone wants it.
        """
        rgb = paddle.flip(images.astype('float32').transpose([0, 3, 1, 2]), [1])
        return (rgb - self.pixel_mean) / self.pixel_std

    def forward(self, images: Tensor) -> Outputs:
        """
        Args:
            images: uint8 or float32 [n, input_size, input_size, 3], BGR, 0 to 255.
        Returns:
            `Outputs`.
        """
        levels = self.fpn(self.backbone(self.normalize(images)))
        prototypes = F.relu(self.proto_net(levels[0])).transpose([0, 2, 3, 1])
        predictions = [self.prediction_layers[0](level) for level in levels]
        offsets, logits, coefficients = [paddle.concat(parts, 1) for parts in zip(*predictions)]
        semantic = self.semantic_seg_conv(levels[0]) if self.training else None
        return Outputs(offsets, logits, coefficients, prototypes, semantic)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Decoded boxes and scores, from which postprocessing starts.

        Args:
            images: as in `forward`.
        Returns:
            boxes float32 [n, a, 4], x0 y0 x1 y1 relative to the image; scores float32 [n, a, num_classes], 0 to 1,
            background first (which means nothing where `Config.scores` are sigmoid); coefficients and prototypes as
            in `Outputs`.
        """
        outputs = self(images)
        scores = F.softmax(outputs.logits, -1) if self.config.scores == 'softmax' else F.sigmoid(outputs.logits)
        return (decode(outputs.offsets, self.anchors), scores,
                outputs.coefficients, outputs.prototypes)
