"""What a network is: one frozen dataclass, and the presets by name."""
import dataclasses
from dataclasses import dataclass
from typing import Any, get_origin

PUBLISHED_SIZE = 550
MIN_SIZE, MAX_SIZE = 256, 1100
LEAK = 0.1  # slope of the leaky ReLU of darknet
BLOCKS = ('bottleneck', 'basic', 'darknet')
SCORES = ('softmax', 'sigmoid')
# Least and most of each number. A file that says more is damaged, and building it might take all memory.
RANGES: dict[str, tuple[float, float]] = dict(
    depths=(1, 64), width=(1, 128), dcn_stages=(0, 4), dcn_interval=(1, 64), fpn_channels=(1, 512),
    anchor_sizes=(1, 10_000), anchor_scales=(1, 10), aspect_ratios=(0.01, 100), num_classes=(2, 10_000),
    input_size=(MIN_SIZE, MAX_SIZE), mask_dim=(1, 512))
FRACTIONS = ('anchor_sizes', 'aspect_ratios')
LENGTHS = dict(depths=(4, 5), dcn_stages=(0, 5), anchor_sizes=(5, 5), aspect_ratios=(1, 10))


@dataclass(frozen=True)
class Config:
    """Everything that decides the shape of a network and of its anchors.

    Attributes:
        backbone_name: the preset's name, a key of `PRESETS`.
        block: residual block of the backbone: 'bottleneck', 'basic' or 'darknet'.
        depths: number of blocks in each stage.
        width: channels of the first stage's blocks (before a block's own expansion).
        dcn_stages: stages, counted from 0, that use deformable convolution (DCNv2).
        dcn_interval: every how many blocks of such a stage.
        fpn_channels: channels of the pyramid, the prototype net and the prediction head.
        anchor_sizes: pixels, the base anchor of each pyramid level for a 550-pixel input.
        anchor_scales: sizes per octave; the j-th is 2^(j / anchor_scales) times the base.
        aspect_ratios: width over height of the anchors of one size.
        square_anchors: ignore the ratios' effect on the height, as the public YOLACT weights were trained.
        rescore_masks: whether a mask-IoU net predicts how good each mask is (YOLACT++).
        num_classes: with background.
        input_size: pixels, side of the square input, 256 to 1100.
        mask_dim: number of prototypes.
        scores: how logits become scores, as they were trained: 'softmax' over background and classes, or 'sigmoid' of
            each class by itself, where background has no score.
    Raises:
        ValueError: a value that no network can have.
    """
    backbone_name: str
    block: str
    depths: tuple[int, ...]
    width: int = 64
    dcn_stages: tuple[int, ...] = ()
    dcn_interval: int = 1
    fpn_channels: int = 256
    anchor_sizes: tuple[float, ...] = (24, 48, 96, 192, 384)
    anchor_scales: int = 3
    aspect_ratios: tuple[float, ...] = (1, 1 / 2, 2)
    square_anchors: bool = False
    rescore_masks: bool = True
    num_classes: int = 81
    input_size: int = PUBLISHED_SIZE
    mask_dim: int = 32
    scores: str = 'softmax'

    def __post_init__(self) -> None:
        if self.backbone_name not in PRESETS or self.block not in BLOCKS:
            raise ValueError(f'no backbone named {self.backbone_name!r} of blocks named {self.block!r}')
        if self.scores not in SCORES:
            raise ValueError(f'scores are {self.scores!r}, not {" or ".join(SCORES)}')
        for field in dataclasses.fields(self):
            if get_origin(field.type) is tuple:
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
            if field.type is bool and type(getattr(self, field.name)) is not bool:
                raise ValueError(f'{field.name} is {getattr(self, field.name)!r}, not true or false')
        for name, (shortest, longest) in LENGTHS.items():
            if not shortest <= len(getattr(self, name)) <= longest:
                raise ValueError(f'{len(getattr(self, name))} {name}, not {shortest} to {longest}')
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if type(number) not in (int, float) or type(number) is float and name not in FRACTIONS:
                    raise ValueError(f'{name} is {number!r}, not a number of the right kind')
                if not least <= number <= most:
                    raise ValueError(f'{name.replace("_", " ")} {number} is outside {least} to {most}')

    @property
    def anchors_per_cell(self) -> int:
        return self.anchor_scales * len(self.aspect_ratios)

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Cells along a side of P3 to P7: every stride-2 layer rounds up."""
        sizes, size = [], self.input_size
        for stride in (2, 4, 8, 16, 32, 64, 128):
            size = (size + 1) // 2
            if stride >= 8:
                sizes.append(size)
        return tuple(sizes)

    @property
    def min_parameters(self) -> int:
        """Fewer than the network's parameters, computed without building it: its 3×3 convolutions and a few more."""
        blocks = sum(13 * depth * (self.width << stage) ** 2 for stage, depth in enumerate(self.depths))
        outputs = self.anchors_per_cell * (self.num_classes + self.mask_dim + 4)
        return blocks + 9 * self.fpn_channels * (3 * self.fpn_channels + outputs)

    @property
    def prototype_size(self) -> int:
        """Pixels along a side of the prototypes: twice P3."""
        return 2 * self.level_sizes[0]

    @property
    def pixel_mean(self) -> tuple[float, float, float]:
        """Subtracted from RGB values of 0 to 255, as the backbone's public weights were trained."""
        return (0.0, 0.0, 0.0) if self.block == 'darknet' else (123.68, 116.78, 103.94)

    @property
    def pixel_std(self) -> tuple[float, float, float]:
        """Divides RGB values after the mean is subtracted."""
        return (255.0, 255.0, 255.0) if self.block == 'darknet' else (58.40, 57.12, 57.38)


_YOLACT: dict[str, Any] = dict(anchor_scales=1, square_anchors=True, rescore_masks=False)
_RESNET50: dict[str, Any] = dict(block='bottleneck', depths=(3, 4, 6, 3))
_RESNET101: dict[str, Any] = dict(block='bottleneck', depths=(3, 4, 23, 3))

PRESETS: dict[str, dict[str, Any]] = {
    'resnet50dcn': dict(_RESNET50, dcn_stages=(1, 2, 3)),
    'resnet101dcn': dict(_RESNET101, dcn_stages=(1, 2, 3), dcn_interval=3),
    'resnet50': dict(_RESNET50, **_YOLACT),
    'resnet101': dict(_RESNET101, **_YOLACT),
    'darknet53': dict(block='darknet', depths=(1, 2, 8, 8, 4), width=32, **_YOLACT),
    'resnet18dcn_half': dict(block='basic', depths=(2, 2, 2, 2), width=32, dcn_stages=(3,), fpn_channels=64),
}


def preset(backbone_name: str, **overrides: Any) -> Config:
    """The configuration of a published network, or of the small one for laptops.

    Args:
        backbone_name: a key of `PRESETS`: YOLACT++ is 'resnet50dcn' and 'resnet101dcn', YOLACT is 'resnet50',
            'resnet101' and 'darknet53'; 'resnet18dcn_half' is YOLACT++ on a ResNet-18 of half the width.
        **overrides: other values for fields of `Config`, such as num_classes or input_size.
    Raises:
        ValueError: the name is unknown, or an override is not possible.
    """
    if backbone_name not in PRESETS:
        raise ValueError(f'no backbone named {backbone_name!r}; there are {", ".join(PRESETS)}')
    return Config(backbone_name, **{**PRESETS[backbone_name], **overrides})
