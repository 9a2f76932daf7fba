"""Export a checkpoint to ONNX, to Paddle Inference, or to a checkpoint of a quarter of the size.

    python export.py --model_path weights/step0010000-ep003-loss5.715.pd
"""
import system  # noqa: F401  the first import, so that Ctrl-C during the others is quiet

# isort: split
import argparse
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from data.images import read_image
from engines.export import check_onnx, to_onnx, to_paddle
from engines.selection import mask_iou_net_path
from model.checkpoint import Checkpoint, halve, load_checkpoint, save_checkpoint
from system.arguments import ArgumentParser, Renamed, nonempty_path
from system.command import run
from system.errors import UserError
from system.files import replacing
from system.messages import one_line

SUFFIXES = {'onnx': '.onnx', 'paddle': '_paddle', 'half': '_half.pd'}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Export a checkpoint. An exported network is compared with Paddle on an image first.\n\n'
                    "  onnx     X.onnx: from images at the network's input size, float32 [n, size, size, 3], BGR,\n"
                    '           0 to 255, to boxes, scores, coefficients and prototypes; and X_mask_iou.onnx, the\n'
                    '           mask-IoU net of YOLACT++. docs/deployment.md has a program that uses them.\n'
                    '  paddle   a folder with the same for Paddle Inference\n'
                    '  half     a checkpoint of only the weights, in half precision, to predict with or to finetune',
        epilog='examples:\n'
               '  python export.py --model_path weights/step0010000-ep003-loss5.715.pd --out mine.onnx\n'
               '  python demo.py --model_path mine.onnx')
    parser.add_argument('--model_path', type=nonempty_path, required=True, help='folder of the checkpoint')
    parser.add_argument('--format', choices=('onnx', 'paddle', 'half'), default='onnx', help='(default: %(default)s)')
    parser.add_argument('--out', type=nonempty_path,
                        help='what to write (default: beside the checkpoint, X.onnx, X_paddle or X_half.pd)')
    parser.add_argument('--with_nms', action='store_true',
                        help='append Fast NMS to the network, which then outputs the 100 best boxes of each image, '
                             'with classes, scores and coefficients (default: off)')
    parser.add_argument('--winograd', action='store_true',
                        help='for ONNX Runtime on a CPU: compute large 3x3 convolutions as Winograd convolutions, '
                             'which takes a fifth less time and makes the file larger (default: off)')
    parser.add_argument('--picture', action=Renamed, const='--image')
    parser.add_argument('--image', type=nonempty_path, default=Path(__file__).parent / 'images/test/shapes_2000004.jpg',
                        help='image to compare with Paddle on (default: one of images/test)')
    args = parser.parse_args(argv)
    if args.winograd and args.format != 'onnx':
        parser.error('--winograd goes only with --format onnx')
    if args.with_nms and args.format == 'half':
        parser.error('--with_nms goes only with --format onnx and --format paddle')
    return args


def main(argv: list[str] | None = None) -> int:
    """Write the files. Returns the exit status."""
    args = parse_arguments(argv)
    checkpoint_path = Path(os.path.abspath(args.model_path))
    out = Path(os.path.abspath(args.out or checkpoint_path.parent / (checkpoint_path.stem + SUFFIXES[args.format])))
    if args.format == 'onnx' and out.suffix != '.onnx':
        raise UserError(f'{out}: must end in .onnx, by which the scripts recognise it; name another --out')
    if args.format != 'onnx' and out.exists():
        raise UserError(f'{out}: exists; remove it or name another --out')
    checkpoint = load_checkpoint(args.model_path)
    if checkpoint.backbone_only and args.format != 'half':
        raise UserError(f'{args.model_path}: only a backbone; there is nothing to predict with yet')
    written = EXPORTERS[args.format](args, checkpoint, out)
    for path in written:
        files = path.iterdir() if path.is_dir() else [path]
        print(f'Wrote {one_line(path)}, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB')
    return 0


def write_onnx(args: argparse.Namespace, checkpoint: Checkpoint, out: Path) -> list[Path]:
    """Write ONNX files. Returns their paths."""
    image = read_input(args.image, checkpoint.config.input_size)
    files = to_onnx(checkpoint, args.model_path, args.with_nms, args.winograd)
    check_onnx(files, checkpoint, args.model_path, image, args.with_nms)
    contents = {out: files.network}
    if files.mask_iou_net is not None:
        contents[mask_iou_net_path(out)] = files.mask_iou_net
    for path, content in contents.items():
        with replacing(path, 'wb') as file:
            file.write(content)
    if files.mask_iou_net is None:
        mask_iou_net_path(out).unlink(missing_ok=True)  # of an earlier network of this name
    return list(contents)


def write_paddle(args: argparse.Namespace, checkpoint: Checkpoint, out: Path) -> list[Path]:
    """Write a folder for Paddle Inference. Returns its path."""
    to_paddle(checkpoint, args.model_path, out, read_input(args.image, checkpoint.config.input_size), args.with_nms)
    return [out]


def write_half(args: argparse.Namespace, checkpoint: Checkpoint, out: Path) -> list[Path]:
    """Write a checkpoint in half precision. Returns its path."""
    save_checkpoint(out, halve(checkpoint))
    return [out]


def read_input(path: Path, size: int) -> np.ndarray:
    """An image at the network's input size, float32 [size, size, 3], BGR, 0 to 255."""
    return cv2.resize(read_image(path).astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)


EXPORTERS: dict[str, Callable[[argparse.Namespace, Checkpoint, Path], list[Path]]] = {
    'onnx': write_onnx, 'paddle': write_paddle, 'half': write_half,
}


if __name__ == '__main__':
    run(main)
