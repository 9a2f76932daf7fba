"""The masks that a checkpoint finds in the pictures of test-dev, in the file that COCO's server takes.

    python test_dev.py --model_path weights/yolact_plus_resnet50.pd
"""
import argparse
import sys

from tqdm import tqdm

from command_line import count, given_path, prediction_flags, run, thresholds
from data.coco import AnnotationError, CocoDataset
from data.pictures import one_line
from data.results import check_classes, predict, to_coco, write_results
from model.checkpoint import CheckpointError


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        parents=[prediction_flags('./pretrained_resnet50dcn', 0.05)],
        description='Write the masks that a checkpoint finds in the pictures of COCO test-dev, or of any '
                    "file that lists pictures, as COCO's server takes them. Pictures that cannot be read are "
                    'left out; they are listed at the end, and the exit status is 1.')
    parser.add_argument('--test_images_path', default='../COCO/test2017',
                        help='folder of the pictures (default: %(default)s)')
    parser.add_argument('--test_anno_path', default='../COCO/annotations/image_info_test-dev2017.json',
                        help='file that lists the pictures and the classes (default: %(default)s)')
    parser.add_argument('--out', type=given_path,
                        default='results/detections_test-dev2017_yolactplus_results.json',
                        help='file to write (default: %(default)s)')
    parser.add_argument('--batch_size', type=count, default=1,
                        help='pictures that go through the network together; 1 suits a CPU, a GPU is faster '
                             'with more (default: %(default)s)')
    return parser.parse_args(argv)


def main(argv=None):
    """Write the file. Returns the exit status."""
    args = parse_arguments(argv)
    from model.predictor import DeviceError, Predictor  # takes seconds, which --help need not
    try:
        dataset = CocoDataset(args.test_anno_path, args.test_images_path)
        dataset.check_folder()
        predictor = Predictor(args.model_path, args.device, **thresholds(args))
        check_classes(dataset, predictor.classes)
        problems = write_masks(args.out, predictor, dataset, args.batch_size)
    except (AnnotationError, CheckpointError, DeviceError) as error:
        print(f'test_dev.py: error: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        print(f'test_dev.py: error: {one_line(args.out)}: cannot be written ({error.strerror}); check that '
              'its folder may be written to and has room', file=sys.stderr)
        return 2
    if problems:
        print(*problems, f'Pictures that were left out: {len(problems)}', sep='\n', file=sys.stderr)
    print(f'Wrote the masks of {len(dataset) - len(problems)} pictures to {one_line(args.out)}')
    return 1 if problems else 0


def write_masks(out, predictor, dataset, batch_size):
    """Predicts and writes a picture at a time, so that memory holds one batch.

    Returns:
        list of str, a line for each picture that is left out.
    """
    problems = []
    with tqdm(dataset.images, unit=' pictures', mininterval=1) as bar:
        found = predict(predictor, bar, batch_size, problems)
        write_results(out, (entry for picture, detections in found
                            for entry in to_coco(detections, picture.id, dataset.classes, 'mask')))
    return problems


if __name__ == '__main__':
    run(main)
