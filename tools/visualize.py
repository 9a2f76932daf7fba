"""Draws what is better looked at than read: training curves, augmented samples, anchors, prototypes.

    python -m tools.visualize curves weights
"""
import argparse
import io
import sys
from pathlib import Path

from model.config import PRESETS, preset
from system.command import run
from system.errors import UserError
from system.files import replacing
from system.messages import one_line
from visualization.curves import draw_curves, read_log

IMAGES = ('.png', '.jpg', '.jpeg')
FIGURES = (*IMAGES, '.pdf', '.svg')
MOST = 1000  # images of samples


def main(argv=None):
    """Draw what the command line asks for. Returns the exit status."""
    args = _parse(argv)
    _check_suffix(args.out, args.suffixes)
    save, problems = args.draw(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save(args.out)
    print(*problems, sep='\n', end='\n' * bool(problems), file=sys.stderr)
    print(args.out)
    return 1 if problems else 0


def _check_suffix(out, suffixes):
    if out.suffix.lower() not in suffixes:
        raise ValueError(one_line(f"{out}: an image is not written as '{out.suffix}'; name one that ends in "
                                  f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"))


def _parse(argv):
    parser = argparse.ArgumentParser(prog='python -m tools.visualize', description='Draw what is better looked at.')
    subjects = parser.add_subparsers(required=True, metavar='{curves,samples,anchors,prototypes}')

    def subject(name, draw, help, description, out, told='%(default)s', suffixes=FIGURES):
        made = subjects.add_parser(name, help=help, description=description)
        made.add_argument('--out', type=Path, default=out, help=f'image to write (default: {told})')
        made.set_defaults(draw=draw, suffixes=suffixes)
        return made
    curves = subject('curves', _curves, 'the course of a training run, from its log',
                     'Draw the losses, AP, learning rate and time of a training run, from the log that train.py '
                     'writes, at any time while it goes on or after.', None, 'curves.png in that folder')
    curves.add_argument('run', type=Path, help='folder that train.py saves in, such as weights')
    samples = subject('samples', _samples, 'what a network learns from',
                      'Draw augmented images with their boxes and masks, as train.py makes them.',
                      Path('results/samples.jpg'), suffixes=IMAGES)
    anchors = subject('anchors', _anchors, 'anchors against the boxes of a dataset',
                      "Draw the sizes of a network's anchors and of a dataset's boxes, and how well these are covered.",
                      Path('results/anchors.png'))
    for each in (samples, anchors):
        each.add_argument('annotations', type=Path, help='annotation file')
        each.add_argument('images', type=Path, help='folder of its images')
        each.add_argument('--backbone_name', choices=PRESETS, default='resnet50dcn', help='(default: %(default)s)')
        each.add_argument('--input_size', type=int, default=550, help='pixels (default: %(default)s)')
    samples.add_argument('--augmentation', choices=('full', 'light'), default='full', help='(default: %(default)s)')
    samples.add_argument('--seed', type=_whole(0, 10 ** 9), default=0, help='(default: %(default)s)')
    samples.add_argument('--number', type=_whole(1, MOST), default=12, help='of images (default: %(default)s)')
    prototypes = subject('prototypes', _prototypes, 'what a mask is made of',
                         'Draw the best detection in an image, the prototypes, and its coefficient of each.',
                         Path('results/prototypes.png'))
    prototypes.add_argument('image', type=Path, help='image')
    prototypes.add_argument('--model_path', default='weights/shapes.pd', help='checkpoint (default: %(default)s)')
    args = parser.parse_args(argv)
    args.out = args.out or args.run / 'curves.png'
    return args


def _whole(least, most):
    """A type of flags: whole numbers in a range."""
    def whole(text):
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f'{text} is not a whole number from {least} to {most}')
        return value
    return whole


# Each of these draws what the flags ask for: a callable that writes it to a path, and a list of str, a line for each
# thing that was left out.

def _curves(args):
    return _writer(draw_curves(read_log(args.run / 'log.jsonl'), one_line(args.run))), []


def _samples(args):
    from data.images import write_image
    from data.loader import Batches
    from visualization.plots import draw_samples
    dataset, config = _dataset(args)
    made = Batches(dataset, config, 1, args.seed, augmentation=args.augmentation)
    batches = [made[step] for step in range(args.number)]
    drawn = draw_samples(batches, dataset.classes.names, args.number)
    return lambda out: write_image(out, drawn), list(dict.fromkeys(
        problem for batch in batches for problem in batch.problems))


def _anchors(args):
    from visualization.plots import draw_anchors
    return _writer(draw_anchors(*_dataset(args))), []


def _prototypes(args):
    from data.images import read_image
    from prediction.predictor import Predictor
    from visualization.plots import draw_prototypes
    image = read_image(args.image)
    try:
        return _writer(draw_prototypes(Predictor(args.model_path), image)), []
    except UserError as error:
        raise ValueError(one_line(f'{args.image}: {error}')) from None


def _writer(figure):
    def write(out):
        encoded = io.BytesIO()
        figure.savefig(encoded, format=out.suffix.lower()[1:])
        with replacing(out, 'wb') as file:
            file.write(encoded.getvalue())
    return write


def _dataset(args):
    """The dataset and the network's `Config` that flags name."""
    from data.coco import CocoDataset
    dataset = CocoDataset(args.annotations, args.images)
    return dataset, preset(args.backbone_name, input_size=args.input_size, num_classes=len(dataset.classes) + 1)


if __name__ == '__main__':
    run(main)
