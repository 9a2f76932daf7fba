import dataclasses
import json

import numpy as np
import pytest

from model.anchors import anchors
from model.config import Config, preset


def test_yolact_plus_has_nine_anchors_a_cell_and_yolact_three():
    assert len(anchors(preset('resnet50dcn'))) == 9 * (69 ** 2 + 35 ** 2 + 18 ** 2 + 9 ** 2 + 5 ** 2)
    assert len(anchors(preset('resnet101'))) == 3 * (69 ** 2 + 35 ** 2 + 18 ** 2 + 9 ** 2 + 5 ** 2)


def test_anchor_sizes_run_from_24_pixels_to_384_octaves():
    sides = np.sqrt(anchors(preset('resnet50dcn'))[:, 2:].prod(1)) * 550
    assert sides.min() == pytest.approx(24, rel=1e-5)
    assert sides.max() == pytest.approx(384 * 2 ** (2 / 3), rel=1e-5)


def test_yolact_anchors_are_square_and_yolact_plus_ones_are_not():
    wide, high = anchors(preset('resnet50'))[:, 2:].T
    np.testing.assert_array_equal(wide, high)
    wide, high = anchors(preset('resnet50dcn'))[:, 2:].T
    np.testing.assert_allclose(sorted(set((wide / high).round(4))), [0.5, 1, 2])


@pytest.mark.parametrize('size, pixels', [(400, (17, 34, 69, 139, 279)), (700, (30, 61, 122, 244, 488))])
def test_other_published_sizes_have_their_published_anchors(size, pixels):
    sides = anchors(preset('resnet101', input_size=size))[:, 2] * size
    squares = sides[::3].round(3)  # the first of each cell's three has ratio 1
    assert tuple(dict.fromkeys(squares.tolist())) == pixels


@pytest.mark.parametrize('size', [255, 1101, 0, -550])
def test_sizes_that_no_network_can_have_are_refused_in_one_line(size):
    with pytest.raises(ValueError, match=f'input size {size} is outside 256 to 1100'):
        preset('resnet50dcn', input_size=size)


def test_an_unknown_backbone_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no backbone named 'resnet34'; there are resnet50dcn, resnet101dcn"):
        preset('resnet34')


def test_a_config_survives_json():
    config = preset('resnet18dcn_half', num_classes=7, input_size=333)
    assert Config(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.parametrize('change, message', [
    (dict(num_classes=1), 'num classes 1 is outside 2 to 10000'),
    (dict(mask_dim=10 ** 9), 'mask dim 1000000000 is outside 1 to 512'),
    (dict(mask_dim=True), 'mask_dim is True, not a number of the right kind'),
    (dict(width=2.5), 'width is 2.5, not a number of the right kind'),
    (dict(fpn_channels='64'), "fpn_channels is '64', not a number of the right kind"),
    (dict(aspect_ratios=(1, float('nan'))), 'aspect ratios nan is outside 0.01 to 100'),
    (dict(depths=(2, 2, 2, 10 ** 6)), 'depths 1000000 is outside 1 to 64'),
    (dict(depths=[2] * 9), '9 depths, not 4 to 5'),
    (dict(anchor_sizes=(24,)), '1 anchor_sizes, not 5 to 5'),
    (dict(block='python'), "no backbone named 'resnet18dcn_half' of blocks named 'python'"),
    (dict(rescore_masks=1), 'rescore_masks is 1, not true or false')])
def test_values_that_no_network_has_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        preset('resnet18dcn_half', **change)
