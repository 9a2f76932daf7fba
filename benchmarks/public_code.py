"""The public PyTorch code (https://github.com/dbolya/yolact) on a CPU and on today's libraries, to compare with.

It has packages of the same names as ours, such as `data`, so it needs a process of its own.
"""
import importlib
import sys
import types
from typing import Any

import numpy as np

CONFIGS = {'resnet50dcn': 'yolact_plus_resnet50_config', 'resnet101dcn': 'yolact_plus_base_config',
           'resnet50': 'yolact_resnet50_config', 'resnet101': 'yolact_base_config',
           'darknet53': 'yolact_darknet53_config'}


def open_public_code(checkout: str, backbone_name: str) -> Any:
    """Make a checkout importable, and choose a network.

    Args:
        checkout: folder of the checkout.
        backbone_name: one of `CONFIGS`.
    Returns:
        Its global configuration.
    """
    import torch
    for name in ('torchvision', 'torchvision.models', 'torchvision.transforms'):  # imported there, never used
        sys.modules[name] = types.ModuleType(name)
    _replace_module('torchvision.models.resnet', Bottleneck=object)
    _replace_module('dcn_v2', DCN=_deform_conv())
    vars(np).update(float=float, int=int, bool=bool)  # which today's NumPy has no more
    vars(torch.cuda)['current_device'] = lambda: 0
    for kind in (torch.Tensor, torch.nn.Module):
        setattr(kind, 'cuda', lambda self, *_, **__: self)  # noqa: B010  since mypy refuses to assign a method
    sys.path.insert(0, str(checkout))
    settings = public_module('data')
    settings.set_cfg(CONFIGS[backbone_name])
    return settings.cfg


def public_module(name: str) -> Any:
    """A module of the public code, which has no types. Call `open_public_code` first."""
    return importlib.import_module(name)


def augmentation() -> Any:
    """Its augmentation for training."""
    augmentations = public_module('utils.augmentations')
    made = augmentations.SSDAugmentation()
    for transform in made.augment.transforms:
        if isinstance(transform, augmentations.RandomSampleCrop):  # today's NumPy refuses its options as a list
            options = np.empty(len(transform.sample_options), object)
            options[:] = transform.sample_options
            transform.sample_options = options
    return made


def _replace_module(name: str, **contents: Any) -> None:
    module = types.ModuleType(name)
    vars(module).update(contents)
    sys.modules[name] = module


def _deform_conv() -> Any:
    """A class in place of its deformable convolution, which is a CUDA extension."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    class DeformConv(nn.Module):
        def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int,
                     **_: object) -> None:
            super().__init__()
            self.stride = stride
            self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
            self.bias = nn.Parameter(torch.zeros(out_channels))
            self.conv_offset_mask = nn.Conv2d(in_channels, 27, 3, stride, 1)
            nn.init.kaiming_uniform_(self.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            offsets, masks = self.conv_offset_mask(x).split([18, 9], 1)
            n, channels, height, width = x.shape
            rows, columns = offsets.shape[2:]
            y, x_at = torch.meshgrid(torch.arange(rows) * self.stride, torch.arange(columns) * self.stride,
                                     indexing='ij')
            taps = []
            for tap, mask in enumerate(masks.sigmoid().unbind(1)):
                across = (x_at + tap % 3 - 1 + offsets[:, 2 * tap + 1]) * (2 / (width - 1)) - 1
                down = (y + tap // 3 - 1 + offsets[:, 2 * tap]) * (2 / (height - 1)) - 1
                sampled = F.grid_sample(x, torch.stack([across, down], -1), align_corners=True)
                taps.append(sampled * mask[:, None])
            samples = torch.stack(taps, 2).reshape(n, channels * 9, rows * columns)
            out = self.weight.reshape(len(self.weight), -1) @ samples
            return out.reshape(n, -1, rows, columns) + self.bias.reshape(1, -1, 1, 1)

    return DeformConv
