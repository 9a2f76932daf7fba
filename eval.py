"""Box and mask AP of a checkpoint on a COCO-style dataset.

    python eval.py --model_path weights/yolact_plus_resnet50.pd
"""
import argparse
import sys

from command_line import count, prediction_flags, run, thresholds
from data.coco import AnnotationError, CocoDataset
from data.results import check_classes, evaluate
from model.checkpoint import CheckpointError

WARNINGS_SHOWN = 5


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        parents=[prediction_flags('./pretrained_resnet50dcn', 0.05)],
        description='Judge a checkpoint on a COCO-style dataset: the twelve figures of pycocotools for boxes '
                    'and for masks. Pictures that cannot be read count as having no detections; they are '
                    'listed, and the exit status is 1.')
    parser.add_argument('--valid_images_path', default='../COCO/val2017',
                        help='folder of the pictures (default: %(default)s)')
    parser.add_argument('--valid_anno_path', default='../COCO/annotations/instances_val2017.json',
                        help='their annotation file (default: %(default)s)')
    parser.add_argument('--batch_size', type=count, default=1,
                        help='pictures that go through the network together; 1 suits a CPU, a GPU is faster '
                             'with more (default: %(default)s)')
    parser.add_argument('--max_images', type=count,
                        help='judge on so many pictures only, the first (default: all)')
    return parser.parse_args(argv)


def main(argv=None):
    """Print the figures. Returns the exit status."""
    args = parse_arguments(argv)
    from model.predictor import DeviceError, Predictor  # takes seconds, which --help need not
    try:
        dataset = read_dataset(args.valid_anno_path, args.valid_images_path)
        predictor = Predictor(args.model_path, args.device, **thresholds(args))
        check_classes(dataset, predictor.classes)
    except (AnnotationError, CheckpointError, DeviceError) as error:
        print(f'eval.py: error: {error}', file=sys.stderr)
        return 2
    figures, problems = evaluate(predictor, dataset, args.batch_size, args.max_images)
    print(figures)
    if problems:
        print(*problems, f'Pictures that count as having no detections: {len(problems)}', sep='\n',
              file=sys.stderr)
    return 1 if problems else 0


def read_dataset(annotations_path, images_path):
    """The dataset, after a look at what is wrong with it."""
    dataset = CocoDataset(annotations_path, images_path)
    if not dataset.has_annotations:
        raise AnnotationError(f'{annotations_path}: has no annotations to judge by; '
                              'use test_dev.py for such a file')
    dataset.check_folder()
    if dataset.warnings:
        print(*dataset.warnings[:WARNINGS_SHOWN], f'Annotations that are left out: {len(dataset.warnings)}',
              sep='\n', file=sys.stderr)
    return dataset


if __name__ == '__main__':
    run(main)
