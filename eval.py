"""Box and mask AP of a checkpoint on a COCO-style dataset.

    python eval.py --model_path weights/yolact_plus_resnet50.pd
"""
import system  # noqa: F401  the first import, so that Ctrl-C during the others is quiet

# isort: split
import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from data.arguments import add_allow_outside
from data.coco import CocoDataset
from engines.selection import model_files
from evaluation.average_precision import AveragePrecision
from evaluation.error_analysis import Errors
from evaluation.evaluate import check_classes, evaluate, evaluate_results
from evaluation.report import write_report
from evaluation.results import read_results
from model.classes import Classes
from prediction.arguments import batch_flags, open_predictor, prediction_flags
from system.arguments import ArgumentParser, nonempty_path, positive_int
from system.command import run
from system.errors import UserError
from system.files import check_output, replacing
from system.messages import one_line
from visualization.training_log import read_training_log

WARNINGS_SHOWN = 5


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(
        parents=[prediction_flags('./pretrained_resnet50dcn', 0.05), batch_flags()],
        description='ImageEvaluator a checkpoint on a COCO-style dataset: the twelve metrics of pycocotools for boxes '
                    'and for masks, AP by IoU threshold, and AP by class. Images that cannot be read count as '
                    'having no detections; they are listed, and the exit status is 1.')
    parser.add_argument('--valid_images_path', default='../COCO/val2017',
                        help='folder of the images (default: %(default)s)')
    parser.add_argument('--valid_anno_path', default='../COCO/annotations/instances_val2017.json',
                        help='their annotation file (default: %(default)s)')
    add_allow_outside(parser)
    parser.add_argument('--max_images', type=positive_int,
                        help='evaluate on the first so many images only (default: all)')
    parser.add_argument('--results', type=nonempty_path, metavar='FILE',
                        help='evaluate this results file, such as test_dev.py writes, instead of a checkpoint; needs '
                             'no images (default: none)')
    parser.add_argument('--json', type=nonempty_path, metavar='FILE',
                        help='also write every metric to this file, for machines (default: none)')
    parser.add_argument('--report', type=nonempty_path, metavar='FILE',
                        help='also write a page to look at in a browser, such as results/report.html: metrics, curves, '
                             'AP by class, the confusion matrix, and the worst images (default: none)')
    args = parser.parse_args(argv)
    if args.json and args.report and os.path.realpath(args.json) == os.path.realpath(args.report):
        parser.error('--json and --report are to be two files')
    return args


def main(argv: list[str] | None = None) -> int:
    """Print the metrics. Returns the exit status."""
    args = parse_arguments(argv)
    dataset = read_dataset(args.valid_anno_path, args.valid_images_path, not args.results, args.allow_outside)
    evaluated = [args.results] if args.results else model_files(args.model_path)
    for path in filter(None, (args.json, args.report)):
        check_output(path, [*dataset.files, *evaluated])
    errors = Errors(len(dataset.classes)) if args.report else None
    metrics, problems = (evaluate_results_file if args.results else evaluate_checkpoint)(args, dataset, errors)
    print(metrics, flush=True)
    if args.json:
        write_metrics(args.json, metrics, dataset.classes, problems)
    if args.report:
        assert errors is not None  # as there is to be a report
        write_report(args.report, dataset, metrics, errors, about(args), problems, log_of(args), args.num_workers)
        print(f'\nOpen {one_line(args.report)} in a browser')
    if problems:
        print(*problems, f'Images that count as having no detections: {len(problems)}', sep='\n',
              file=sys.stderr)
    return 1 if problems else 0


def evaluate_checkpoint(args: argparse.Namespace, dataset: CocoDataset,
                        errors: Errors | None) -> tuple[AveragePrecision, list[str]]:
    """`AveragePrecision` of the checkpoint, and a line for each image that could not be read. `Errors` are added."""
    predictor = open_predictor(args)
    check_classes(dataset, predictor.classes)
    return evaluate(predictor, dataset, args.batch_size, args.max_images, args.num_workers, errors)


def evaluate_results_file(args: argparse.Namespace, dataset: CocoDataset,
                          errors: Errors | None) -> tuple[AveragePrecision, list[str]]:
    """The same of the file of results, and no problems."""
    boxes, masks = read_results(args.results, dataset)
    return evaluate_results(dataset, boxes, masks, args.max_images, args.num_workers, errors), []


def read_dataset(annotations_path: str, images_path: str, images: bool, allow_outside: bool) -> CocoDataset:
    """The dataset, after a look at what is wrong with it, and if they are needed for its images."""
    dataset = CocoDataset(annotations_path, images_path, allow_outside)
    dataset.check_annotations()
    if images:
        dataset.check_folder()
    if dataset.warnings:
        print(*dataset.warnings[:WARNINGS_SHOWN], f'Annotations that are left out: {len(dataset.warnings)}',
              sep='\n', file=sys.stderr)
    return dataset


def write_metrics(path: Path, metrics: AveragePrecision, classes: Classes, problems: list[str]) -> None:
    """Write every metric as JSON, from 0 to 1, or null where the dataset has no such objects."""
    def known(value: float) -> float | None:
        return None if value < 0 else value
    content: dict[str, Any] = {kind: {**{name: known(value) for name, value in getattr(metrics, kind).items()},
                      'by_iou': {iou: known(value) for iou, value in metrics.by_iou[kind].items()}}
               for kind in metrics.by_iou}
    content['classes'] = [{'id': id, 'name': name, 'objects': objects,
                           **{kind: known(values[label]) for kind, values in metrics.by_class.items()}}
                          for label, (id, name, objects) in enumerate(zip(classes.ids, classes.names,
                                                                          metrics.objects))]
    content['problems'] = problems
    with replacing(path) as file:
        json.dump(content, file, indent=1)
        file.write('\n')


def about(args: argparse.Namespace) -> dict[str, str]:
    """What is evaluated, for the report."""
    choices = ', '.join(f'{name} {getattr(args, name)}'
                        for name in ('obj_threshold', 'nms_threshold', 'top_k', 'cross_class_nms'))
    evaluated = {'results': args.results} if args.results else {'weights': args.model_path, 'thresholds': choices}
    first = {'images': f'the first {args.max_images}'} if args.max_images else {}
    return {name: str(value) for name, value in {**evaluated, 'annotations': args.valid_anno_path, **first}.items()}


def log_of(args: argparse.Namespace) -> Any:
    """The log of the run that a checkpoint is of, None where it is not beside it."""
    try:
        return None if args.results else read_training_log(Path(args.model_path).absolute().parent / 'log.jsonl')
    except UserError:
        return None


if __name__ == '__main__':
    run(main)
