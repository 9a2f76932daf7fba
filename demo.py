"""Draw the objects that a checkpoint finds in pictures: masks, boxes, names and scores.

    python demo.py
"""
import argparse
import os
import sys
import tempfile
import time

from command_line import given_path, prediction_flags, predictor_of, run
from data.pictures import SUFFIXES, PictureError, find_pictures, one_line, read_picture, write_picture
from data.visualize import draw_detections
from model.checkpoint import CheckpointError
from model.device import DeviceError

WRITTEN = set(SUFFIXES) - {'.gif'}


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        parents=[prediction_flags('weights/shapes.pd', 0.3)],
        description='Find the objects in pictures and draw them: masks, boxes, names and scores. Pictures '
                    'that cannot be read are named and skipped, and the exit status is 1.')
    parser.add_argument('--images', type=given_path, default='images/test',
                        help='a folder of pictures, or one picture (default: %(default)s)')
    parser.add_argument('--out', type=given_path, default='images/res',
                        help='folder for the drawn pictures, which keep their names (default: %(default)s)')
    return parser.parse_args(argv)


def main(argv=None):
    """Draw on the pictures. Returns the exit status."""
    args = parse_arguments(argv)
    sys.stdout.reconfigure(errors='backslashreplace')  # a file may have a name that the terminal cannot show
    try:
        paths = list_pictures(args.images, args.out)
        predictor = predictor_of(args)
        make_folder(args.out)
    except (CheckpointError, DeviceError, PictureError) as error:
        print(f'demo.py: error: {error}', file=sys.stderr)
        return 2
    return draw_all(predictor, paths, args.out, args.obj_threshold)


def list_pictures(images, out):
    """The pictures to draw on.

    Raises:
        PictureError: there are none, or `out` would put the drawn ones in their place.
    """
    paths = find_pictures(images)
    if not paths:
        raise PictureError(f'{images}: no pictures in this folder; put some there, or name another '
                           'with --images')
    if os.path.exists(out) and out.samefile(paths[0].parent):
        raise PictureError(f'{out}: --out is where the pictures are, and they would be overwritten; '
                           'name another folder')
    return paths


def make_folder(out):
    """Makes a folder, and makes sure that files can be written to it.

    Raises:
        PictureError: they cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise PictureError(f'{out}: cannot be a folder for the drawn pictures ({error.strerror}); '
                           'name another one') from error


def draw_all(predictor, paths, out, score_threshold):
    """Draws on each picture and tells about it.

    Returns:
        The exit status: 1 if a picture was skipped.
    """
    started, times, names = time.perf_counter(), [], set()
    for path in paths:
        name = drawn_name(path)
        try:
            if name in names:
                raise PictureError(f'{path}: would be drawn over {out / name}, of another picture; rename one')
            number, seconds = draw(predictor, path, out / name, score_threshold)
            names.add(name)
        except PictureError as problem:
            print(f'skipped: {problem}', file=sys.stderr)
            continue
        times.append(seconds)
        print(f'{one_line(path.name)}: {number} object{"s" * (number != 1)}, {1000 * seconds:.0f} ms', flush=True)
    if times:
        print(f'{len(times)} of {len(paths)} pictures in {time.perf_counter() - started:.1f} s with reading '
              f'and drawing; finding the objects took {1000 * sum(times) / len(times):.0f} ms a picture. '
              f'Results are in {one_line(out)}')
    return 0 if len(times) == len(paths) else 1


def draw(predictor, path, out, score_threshold):
    """Draws on one picture.

    Returns:
        The number of objects and the seconds that finding them took.
    Raises:
        PictureError: a picture cannot be read or written.
    """
    picture = read_picture(path)
    started = time.perf_counter()
    detections, = predictor([picture])
    seconds = time.perf_counter() - started
    # A box may also be kept for classes that score less.
    detections = detections.select(detections.box_scores > score_threshold)
    write_picture(out, draw_detections(picture, detections, predictor.classes.names))
    return len(detections), seconds


def drawn_name(path):
    """The picture's own name, with .png appended where its format cannot be written."""
    return path.name if path.suffix.lower() in WRITTEN else path.name + '.png'


if __name__ == '__main__':
    run(main)
