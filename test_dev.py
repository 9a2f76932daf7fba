"""The masks that a checkpoint finds in the images of test-dev, in the file that COCO's server takes.

    python test_dev.py --model_path weights/yolact_plus_resnet50.pd
"""
import argparse
import contextlib
import functools
import hashlib
import json
import os
import shutil
import signal
import sys
import zipfile
from pathlib import Path

from tqdm import tqdm

from data.coco import CocoDataset
from engines.selection import model_files
from evaluation.evaluate import check_classes
from evaluation.results import to_coco, write_results
from prediction.arguments import batch_flags, open_predictor, prediction_flags, thresholds
from prediction.pipeline import predict_dataset, split_into_batches
from system.arguments import nonempty_path
from system.command import run
from system.device import choose_device
from system.files import check_writable, replacing
from system.journal import Journal
from system.messages import one_line


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        parents=[prediction_flags('./pretrained_resnet50dcn', 0.05), batch_flags()],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Write the masks that a checkpoint finds in the images of COCO test-dev, or of any file that\n'
                    "lists images, as COCO's server takes them: as JSON and as a .zip of that. The boxes go into\n"
                    'files of their own, with _bbox in their names, for the server judges them apart.\n\n'
                    'A run that was stopped goes on where it was when the same command is given again, and writes\n'
                    'the same files. Images that cannot be read are left out; they are listed at the end, and\n'
                    'the exit status is 1.',
        epilog='several GPUs, or several processes on a CPU, take turns with the images:\n'
               '  python -m paddle.distributed.launch test_dev.py ...\n'
               '  python -m paddle.distributed.launch --nproc_per_node 2 --backend gloo test_dev.py ...')
    parser.add_argument('--test_images_path', default='../COCO/test2017',
                        help='folder of the images (default: %(default)s)')
    parser.add_argument('--test_anno_path', default='../COCO/annotations/image_info_test-dev2017.json',
                        help='file that lists the images and the classes (default: %(default)s)')
    parser.add_argument('--out', type=nonempty_path,
                        default='results/detections_test-dev2017_yolactplus_results.json',
                        help='file to write (default: %(default)s)')
    args = parser.parse_args(argv)
    if args.out.suffix != '.json':
        parser.error(f'--out {args.out} is to end in .json; a .zip is written beside it')
    return args


def main(argv=None):
    """Write the files. Returns the exit status."""
    args = parse_arguments(argv)
    from system.distributed import init_process_group  # imports Paddle, which takes seconds; --help need not
    dataset = CocoDataset(args.test_anno_path, args.test_images_path)
    dataset.check_folder()
    choose_device(args.device)
    rank, processes = init_process_group()
    with answering_requests_to_stop():
        predictor = open_predictor(args)
        check_classes(dataset, predictor.classes)
        for path in files_of(args.out).values():
            check_writable(path)
            check_writable(path.with_suffix('.zip'))
        problems = work(args, predictor, dataset, rank, processes)
    if rank:
        return 0
    if problems:
        print(*problems, f'Images that were left out: {len(problems)}', sep='\n', file=sys.stderr)
    print(f'Wrote what was found in {len(dataset) - len(problems)} images to {one_line(args.out)}, and as a .zip')
    return 1 if problems else 0


@contextlib.contextmanager
def answering_requests_to_stop():
    """A line for those that come, where Paddle would print pages. The launcher's come twice."""
    from system.distributed import DistributedError, peer_lost

    def stop(*_):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if peer_lost():
            raise DistributedError
        print('test_dev.py: stopped; the same command goes on from here', file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:  # the launcher's would hide the exit status
        signal.signal(signal.SIGTERM, signal.SIG_IGN if 'PADDLE_TRAINER_ID' in os.environ else signal.SIG_DFL)


def files_of(out):
    """The file of each kind of results, masks and boxes."""
    stem, end = (out.stem[:-8], '_results') if out.stem.endswith('_results') else (out.stem, '')
    return {'mask': out, 'box': out.with_name(f'{stem}_bbox{end}{out.suffix}')}


def work(args, predictor, dataset, rank, processes):
    """This process's share of the images, and in the first process the files, when the others are done.

    Returns:
        list of str, a line for each image that is left out; in the first process.
    """
    from system.distributed import barrier
    batches = split_into_batches(dataset.images, args.batch_size)
    journal = Journal(args.out.with_name(f'.{args.out.name}.{fingerprint(args)}.parts'))
    done = journal.finished()
    if done and rank == 0:
        print(f'Going on: {sum(len(batches[piece]) for piece in done)} of {len(dataset)} images are done',
              file=sys.stderr)
    writer = journal.open(rank)
    mine = range(rank, len(batches), processes)
    todo = [piece for piece in mine if piece not in done]
    describe = functools.partial(both_kinds, dataset.classes)
    with tqdm(total=sum(len(batches[piece]) for piece in mine), unit=' images', mininterval=1, disable=rank > 0,
              initial=sum(len(batches[piece]) for piece in mine if piece in done)) as bar:
        found = predict_dataset(predictor, (batches[piece] for piece in todo), describe, args.num_workers)
        for piece, (described, problems) in zip(todo, found):
            writer.write(piece, {'mask': [entry for masks, _ in described for entry in masks],
                                 'box': [entry for _, boxes in described for entry in boxes], 'problems': problems},
                         final=not problems)  # images may be mended meanwhile
            bar.update(len(described) + len(problems))
    writer.close()
    barrier()
    problems = []
    if rank == 0:
        problems = write_files(args.out, journal, range(len(batches)))
        journal.remove()
    barrier()  # the launcher ends all when one has ended
    return problems


def fingerprint(args):
    """Changes with whatever changes what is found: weights, images, thresholds, batches and what computes them."""
    folder = os.path.abspath(args.test_images_path)
    choices = thresholds(args), folder, args.batch_size, args.device, args.engine, args.amp, args.precision
    digest = hashlib.sha256(json.dumps(choices).encode())
    for path in [Path(args.test_anno_path), *model_files(args.model_path)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def both_kinds(classes, image, detections):
    """An image's detections as entries of masks and as entries of boxes."""
    return [to_coco(detections, image.id, classes, kind) for kind in ('mask', 'box')]


def write_files(out, journal, pieces):
    """What was found, in the order of the images, as JSON and zipped.

    Returns:
        list of str, a line for each image that is left out.
    """
    for kind, path in files_of(out).items():
        write_results(path, (entry for content in journal.read(pieces) for entry in content[kind]))
        write_zip(path)
    return [problem for content in journal.read(pieces) for problem in content['problems']]


def write_zip(path):
    """A .zip of a file beside it, always of the same bytes."""
    member = zipfile.ZipInfo(path.name)  # dated 1980
    member.compress_type, member.file_size = zipfile.ZIP_DEFLATED, path.stat().st_size
    with replacing(path.with_suffix('.zip'), 'wb') as file, zipfile.ZipFile(file, 'w') as archive:
        with open(path, 'rb') as source, archive.open(member, 'w') as target:
            shutil.copyfileobj(source, target, 1 << 20)


if __name__ == '__main__':
    run(main)
