"""Milliseconds from a network's outputs to 100 detections in a 640x480 image, and to their masks as RLE.

    python -m benchmarks.postprocess --public ../yolact    # beside the public code, which needs PyTorch
"""
import argparse
from collections.abc import Callable

import numpy as np

from benchmarks.public_code import CONFIGS, open_public_code, public_module
from benchmarks.turns import Contestants, take_turns
from model.anchors import anchors
from model.config import preset
from tests.golden.golden_inputs import predictions

HEIGHT, WIDTH = 480, 640


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--public', help='folder of a checkout of the public code to compare with')
    parser.add_argument('--backbone_name', choices=CONFIGS, default='resnet50',
                        help='for YOLACT++ the time includes the mask-IoU net (default: %(default)s)')
    parser.add_argument('--rounds', type=int, default=20, help='(default: %(default)s)')
    args = parser.parse_args()
    contestants: Contestants = {('ours', kind): (ours, args.backbone_name, kind == 'RLE')
                                for kind in ('detections', 'RLE')}
    if args.public:
        contestants |= {('public code', kind): (public, args.public, args.backbone_name, kind == 'RLE')
                        for kind in ('detections', 'RLE')}
    seconds = take_turns(contestants, args.rounds)
    print(f'{args.backbone_name}, 100 detections on {WIDTH}x{HEIGHT}, best of {args.rounds}')
    for name in sorted({name for name, _ in contestants}):
        detections, all_of_it = (1000 * seconds[name, kind] for kind in ('detections', 'RLE'))
        print(f'{all_of_it:6.1f} ms ({detections:.1f} to the detections, {all_of_it - detections:.1f} to encode them)  '
              f'{seconds[name, "RLE"] / seconds["ours", "RLE"]:5.1f}  {name}')


def ours(backbone_name: str, encode: bool) -> Callable[[], object]:
    """A callable that postprocesses with our code, and encodes the masks or not."""
    import paddle

    from model.boxes import decode
    from model.postprocess import postprocess
    from model.yolact import Yolact
    from system.device import choose_device
    choose_device('cpu')
    config = preset(backbone_name)
    cells = paddle.to_tensor(anchors(config))
    made = predictions(len(cells), config.prototype_size)
    offsets, network = paddle.to_tensor(made['loc']), Yolact(config)
    network.eval()

    def work() -> object:
        boxes = decode(offsets, cells).numpy()
        low_resolution = postprocess(boxes, made['conf'], made['mask'], made['proto'], (HEIGHT, WIDTH))
        if config.rescore_masks:
            with paddle.no_grad():
                mask_iou = network.maskiou_net(paddle.to_tensor(low_resolution.pasted_masks())).numpy()
            low_resolution = low_resolution.rescored(mask_iou)
        found = low_resolution.upsample()
        assert len(found) == 100
        return [found.rle(i) for i in range(len(found))] if encode else found
    return work


def public(checkout: str, backbone_name: str, encode: bool) -> Callable[[], object]:
    """The same with the public code."""
    config = open_public_code(checkout, backbone_name)
    config.mask_proto_debug = False  # its own eval.py sets that
    import torch
    from pycocotools import mask as mask_api
    postprocess = public_module('layers.output_utils').postprocess
    cells = torch.from_numpy(anchors(preset(backbone_name)))
    made = {name: torch.from_numpy(array) for name, array in
            predictions(len(cells), preset(backbone_name).prototype_size).items()}
    raw = {'priors': cells, **{name: array[None] for name, array in made.items()}}
    detect = public_module('layers.functions').Detect(
        config.num_classes, bkg_label=0, top_k=200, conf_thresh=0.05, nms_thresh=0.5)
    detect.use_fast_nms = True
    network = public_module('yolact').Yolact()
    network.eval()

    @torch.no_grad()
    def work() -> object:
        *_, masks = postprocess(detect(raw, network), WIDTH, HEIGHT)
        masks = masks.byte().numpy()
        assert len(masks) == 100
        return [mask_api.encode(np.asfortranarray(mask)) for mask in masks] if encode else masks
    return work


if __name__ == '__main__':
    main()
