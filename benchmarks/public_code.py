"""The public PyTorch code (https://github.com/dbolya/yolact) on a CPU and on today's libraries, to compare with.

It has packages of the same names as ours (`data`, for one), so it needs a process of its own.
"""
import sys
import types

import numpy as np

CONFIGS = {'resnet50dcn': 'yolact_plus_resnet50_config', 'resnet101dcn': 'yolact_plus_base_config',
           'resnet50': 'yolact_resnet50_config', 'resnet101': 'yolact_base_config',
           'darknet53': 'yolact_darknet53_config'}


def open_public_code(checkout, backbone_name):
    """Make a checkout importable, and choose a network.

    Args:
        checkout: folder of the checkout.
        backbone_name: one of `CONFIGS`.
    Returns:
        its global configuration.
    """
    import torch
    for name in ('torchvision', 'torchvision.models', 'torchvision.transforms'):  # imported there, never used
        sys.modules[name] = types.ModuleType(name)
    sys.modules['torchvision.models.resnet'] = types.SimpleNamespace(Bottleneck=object)
    sys.modules['dcn_v2'] = types.SimpleNamespace(DCN=_deform_conv())
    np.float, np.int, np.bool = float, int, bool
    torch.cuda.current_device = lambda: 0
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda itself, *_, **__: itself
    sys.path.insert(0, str(checkout))
    from data import cfg, set_cfg
    set_cfg(CONFIGS[backbone_name])
    return cfg


def augmentation():
    """Its augmentation for training."""
    from utils.augmentations import RandomSampleCrop, SSDAugmentation
    made = SSDAugmentation()
    for transform in made.augment.transforms:
        if isinstance(transform, RandomSampleCrop):  # whose options today's NumPy does not take for a list
            options = np.empty(len(transform.sample_options), object)
            options[:] = transform.sample_options
            transform.sample_options = options
    return made


def _deform_conv():
    """Stands in for the CUDA extension that it compiles."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    class DeformConv(nn.Module):
        def __init__(self, channels_in, channels_out, kernel_size, stride, padding, **_):
            super().__init__()
            self.stride = stride
            self.weight = nn.Parameter(torch.empty(channels_out, channels_in, 3, 3))
            self.bias = nn.Parameter(torch.zeros(channels_out))
            self.conv_offset_mask = nn.Conv2d(channels_in, 27, 3, stride, 1)
            nn.init.kaiming_uniform_(self.weight)

        def forward(self, x):
            moves, weights = self.conv_offset_mask(x).split([18, 9], 1)
            n, channels, height, width = x.shape
            rows, columns = moves.shape[2:]
            y, x_at = torch.meshgrid(torch.arange(rows) * self.stride, torch.arange(columns) * self.stride,
                                     indexing='ij')
            taps = []
            for tap, weight in enumerate(weights.sigmoid().unbind(1)):
                across = (x_at + tap % 3 - 1 + moves[:, 2 * tap + 1]) * (2 / (width - 1)) - 1
                down = (y + tap // 3 - 1 + moves[:, 2 * tap]) * (2 / (height - 1)) - 1
                seen = F.grid_sample(x, torch.stack([across, down], -1), align_corners=True)
                taps.append(seen * weight[:, None])
            taps = torch.stack(taps, 2).reshape(n, channels * 9, rows * columns)
            out = self.weight.reshape(len(self.weight), -1) @ taps
            return out.reshape(n, -1, rows, columns) + self.bias.reshape(1, -1, 1, 1)

    return DeformConv
