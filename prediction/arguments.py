"""The flags of the scripts that predict."""
import argparse
from typing import Any

from engines.selection import ENGINES
from prediction.predictor import Predictor
from system.arguments import (
    MAX_BATCH_SIZE,
    MAX_WORKERS,
    fraction,
    int_in_range,
    nonempty_path,
    positive_int,
)
from system.cpu import default_workers
from system.errors import UserError


def prediction_flags(model_path: str, obj_threshold: float) -> argparse.ArgumentParser:
    """The flags of every script that predicts.

    Args:
        model_path, obj_threshold: their defaults.
    Returns:
        ArgumentParser, a parent for the script's own.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument('--model_path', type=nonempty_path, default=model_path,
                        help='what to predict with: the folder of a checkpoint, or an .onnx file that export.py '
                             'wrote (default: %(default)s)')
    parser.add_argument('--obj_threshold', type=fraction, default=obj_threshold,
                        help='a box is considered if its best class scores more than this, 0 to 1 '
                             '(default: %(default)s)')
    parser.add_argument('--nms_threshold', type=fraction, default=0.5,
                        help='a box is dropped if a better one of its class overlaps it by an IoU of more '
                             'than this, 0 to 1 (default: %(default)s)')
    parser.add_argument('--top_k', type=positive_int, default=200,
                        help='how many of the best boxes of each class take part in Fast NMS '
                             '(default: %(default)s); at most 100 objects an image are kept after it')
    parser.add_argument('--cross_class_nms', action='store_true',
                        help='let a box drop lesser ones of any class, so that no object is found twice '
                             'under different names; --top_k is then of all classes together (default: off)')
    parser.add_argument('--device', metavar='{cpu,gpu,gpu:N}',
                        help='what to compute on (default: a GPU if there is one, otherwise the CPU)')
    parser.add_argument('--engine', choices=ENGINES,
                        help='what to compute with; onnx: ONNX Runtime, for the CPU, which keeps what it makes of a '
                             'checkpoint beside it; paddle (default: onnx on a CPU, paddle on a GPU)')
    parser.add_argument('--amp', choices=('O0', 'O1'), default='O0',
                        help='O1: half precision where it is safe, which needs a GPU (default: %(default)s, single '
                             'precision)')
    parser.add_argument('--precision', choices=('fp32', 'bf16'), default='fp32',
                        help='bf16: faster on a CPU that computes in bfloat16, by OpenVINO, which is to be installed; '
                             'it finds nearly the same (default: %(default)s)')
    return parser


def batch_flags() -> argparse.ArgumentParser:
    """The flags of the scripts that predict for a whole dataset: ArgumentParser, a parent for the script's own."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument('--batch_size', type=int_in_range(1, MAX_BATCH_SIZE), default=1,
                        help='images that go through the network together; 1 suits a CPU, a GPU is faster '
                             'with more (default: %(default)s)')
    parser.add_argument('--num_workers', type=int_in_range(0, MAX_WORKERS), default=default_workers(),
                        help='processes that work on what the network found while it goes on; 0 takes turns with it '
                             '(default here: %(default)s)')
    return parser


def open_predictor(args: argparse.Namespace) -> Predictor:
    """The `Predictor` that the flags ask for.

    Raises:
        UserError, UserError: as of `Predictor`.
    """
    if args.amp == 'O1' and args.precision == 'bf16':
        raise UserError('--amp=O1 is for a GPU and --precision=bf16 for a CPU; leave one out')
    return Predictor.open(args.model_path, args.device, args.engine, 'amp' if args.amp == 'O1' else args.precision,
                          **thresholds(args))


def thresholds(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that decide what counts as an object, as keywords of `Predictor`."""
    return dict(score_threshold=args.obj_threshold, iou_threshold=args.nms_threshold, top_k=args.top_k,
                cross_class=args.cross_class_nms)
