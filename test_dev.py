"""Masks of all images of test-dev, in the file that COCO's server takes.

    python test_dev.py --model_path weights/yolact_plus_resnet50.pd
"""
import system  # noqa: F401  the first import, so that Ctrl-C during the others is quiet

# isort: split
import argparse
import os
import sys
from pathlib import Path

from data.arguments import add_allow_outside
from data.coco import CocoDataset
from engines.selection import model_files
from evaluation.evaluate import check_classes
from evaluation.submission import check_outputs, fingerprint, write_submission
from prediction.arguments import batch_flags, open_predictor, prediction_flags, thresholds
from system import gpu_errors
from system.arguments import ArgumentParser, nonempty_path
from system.command import run
from system.device import choose_device
from system.errors import UserError
from system.interruption import Stopped, StopRequest
from system.messages import one_line


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(
        parents=[prediction_flags('./pretrained_resnet50dcn', 0.05), batch_flags()],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Predict the masks of the images of COCO test-dev, or of any file that lists images, and write\n'
                    "them as COCO's server takes them: as JSON and as a .zip of that. The boxes go into files of\n"
                    'their own, with _bbox in their names, since the server evaluates them apart.\n\n'
                    'A stopped run resumes when the same command is given again, and writes the same files.\n'
                    'Images that cannot be read are left out; they are listed at the end, and the exit status\n'
                    'is 1.',
        epilog='several GPUs, or several processes on a CPU, share the images:\n'
               '  python -m paddle.distributed.launch test_dev.py ...\n'
               '  python -m paddle.distributed.launch --nproc_per_node 2 --backend gloo test_dev.py ...')
    parser.add_argument('--test_images_path', default='../COCO/test2017',
                        help='folder of the images (default: %(default)s)')
    parser.add_argument('--test_anno_path', default='../COCO/annotations/image_info_test-dev2017.json',
                        help='file that lists the images and the classes (default: %(default)s)')
    add_allow_outside(parser)
    parser.add_argument('--out', type=nonempty_path,
                        default='results/detections_test-dev2017_yolactplus_results.json',
                        help='file to write (default: %(default)s)')
    args = parser.parse_args(argv)
    if args.out.suffix != '.json':
        parser.error(f'--out {args.out} is to end in .json; a .zip is written beside it')
    return args


def main(argv: list[str] | None = None) -> int:
    """Write the files. Returns the exit status."""
    args = parse_arguments(argv)
    from system.distributed import DistributedError, init_process_group  # imports Paddle, which --help need not
    dataset = CocoDataset(args.test_anno_path, args.test_images_path, args.allow_outside)
    dataset.check_folder()
    choose_device(args.device)
    try:
        rank, world_size = init_process_group()
        with (StopRequest() as stop_request, stop_request.immediately(),
              gpu_errors.adding('The same command goes on from here')):
            predictor = open_predictor(args)
            check_classes(dataset, predictor.classes)
            check_outputs(args.out, [*dataset.files, *model_files(args.model_path)])
            problems = write_submission(predictor, dataset, args.out, key_of(args), args.batch_size, args.num_workers,
                                        rank, world_size)
    except Stopped as stop:
        raise Stopped(stop.signal, 'stopped; the same command goes on from here') from None
    except DistributedError as error:
        raise UserError(f'{error}. The same command goes on from here') from error
    if rank:
        return 0
    if problems:
        print(*problems, f'Images that were left out: {len(problems)}', sep='\n', file=sys.stderr)
    print(f'Wrote the detections in {len(dataset) - len(problems)} images to {one_line(args.out)}, and as a .zip')
    return 1 if problems else 0


def key_of(args: argparse.Namespace) -> str:
    """The `fingerprint` of flags and files."""
    settings = (thresholds(args), os.path.abspath(args.test_images_path), args.batch_size, args.device, args.engine,
                args.amp, args.precision)
    return fingerprint(settings, [Path(args.test_anno_path), *model_files(args.model_path)])


if __name__ == '__main__':
    run(main)
