"""Predict on images, videos or what a camera sees, and draw the objects: masks, boxes, class names and scores.

    python demo.py --images my/images my/video.mp4 --out my/results
"""
import system  # noqa: F401  the first import, so that Ctrl-C during the others is quiet

# isort: split
import argparse
import os
import tempfile
from pathlib import Path

from engines.selection import model_files
from prediction.arguments import open_predictor, prediction_flags
from prediction.formats import MASK_FORMATS, open_writers
from prediction.run import PredictionRun, predict_images
from prediction.sources import Sources, find_sources
from prediction.video_run import predict_camera, predict_video
from system.arguments import MAX_BATCH_SIZE, ArgumentParser, int_in_range, nonempty_path
from system.command import run
from system.errors import UserError
from system.files import check_output
from system.interruption import StopRequest


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(
        parents=[own_flags(), prediction_flags('weights/shapes.pd', 0.3)],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Predict on images, videos or what a camera sees, and draw the objects: masks, boxes,\n'
                    'class names and scores. Images that cannot be read are named and skipped, and the exit\n'
                    'status is 1.',
        epilog='examples:\n'
               '  python demo.py --images holiday "more/*.jpg" --out drawn\n'
               '  python demo.py --images street.mp4 --out drawn                    # drawn/street.mp4\n'
               '  python demo.py --images 0                                         # the camera; q ends it\n'
               '  python demo.py --images mine --no_draw --save_json mine.json      # COCO-style annotations\n'
               '  python demo.py --images mine --no_draw --save_labelme mine        # to correct with labelme')
    args = parser.parse_args(argv)
    if args.polygons and not args.save_json:
        parser.error('--polygons says what to write into --save_json FILE; name one')
    if args.no_draw and not (args.save_json or args.save_masks or args.save_labelme):
        parser.error('--no_draw leaves nothing to do; add --save_json, --save_masks or --save_labelme')
    return args


def own_flags() -> argparse.ArgumentParser:
    """What to predict on and what to write: a parent parser. Help shows these before the other parent's."""
    parser = ArgumentParser(add_help=False)
    parser.add_argument('--images', type=nonempty_path, nargs='+', default=['images/test'],
                        help='images, videos, folders of them, patterns such as "a/*.jpg", or the number of a camera '
                             '(default: images/test)')
    parser.add_argument('--out', type=nonempty_path, default='images/res',
                        help='folder for what is drawn. Images keep their names, videos become .mp4, without sound '
                             '(default: %(default)s)')
    parser.add_argument('--no_draw', action='store_true', help='draw nothing, only save (default: off)')
    parser.add_argument('--save_json', type=nonempty_path, metavar='FILE',
                        help='write COCO-style annotations with scores, masks as RLE; images keep their names, and '
                             'frames of videos and cameras are named NAME#NUMBER (default: off)')
    parser.add_argument('--polygons', action='store_true',
                        help='masks as polygons in that file, to within a pixel (default: off)')
    parser.add_argument('--save_masks', choices=MASK_FORMATS,
                        help='write masks into --out as PNG: ids, one file an image, of 16 bits, with the number of '
                             'the object that each pixel belongs to; or objects, a file for each object (default: off)')
    parser.add_argument('--save_labelme', type=nonempty_path, metavar='DIR',
                        help='write a file for labelme (github.com/wkentaro/labelme) for each image that has none, '
                             "to correct by hand; labelme opens both if it is the images' own folder (default: off)")
    parser.add_argument('--batch_size', type=int_in_range(1, MAX_BATCH_SIZE), default=1,
                        help='frames of a video that go through the network together; a GPU is faster with more '
                             '(default: %(default)s)')
    return parser


def main(argv: list[str] | None = None) -> int:
    """Predict, draw and save. Returns the exit status."""
    args = parse_arguments(argv)
    sources = find_sources(args.images)
    check_flags(args, sources)
    predictor = open_predictor(args)
    if not args.no_draw or args.save_masks:
        make_folder(args.out)
    with StopRequest() as stop_request, open_writers(predictor.classes, args.save_labelme, args.save_json,
                                                     args.polygons, args.save_masks, args.out) as writers:
        written = [args.save_json, args.save_masks and args.out, args.save_labelme]
        prediction = PredictionRun(predictor, args.out, not args.no_draw, writers, tuple(filter(None, written)),
                                   stop_request, args.batch_size)
        return predict(prediction, sources)


def predict(prediction: PredictionRun, sources: Sources) -> int:
    """Predict on everything, until all is done or a stop is requested. A camera is there to be stopped.

    Returns:
        The exit status: 1 if something was skipped, 128 and the signal after a stop request.
    """
    stop_request = prediction.stop_request
    status = predict_images(prediction, sources.images) if sources.images else 0
    for path in sources.videos:
        if not stop_request.requested:
            status = max(status, predict_video(prediction, path))
    if stop_request.requested:
        return 128 + stop_request.signal
    for number in sources.cameras:
        if not stop_request.requested:
            status = max(status, predict_camera(prediction, number))
    return status


def check_flags(args: argparse.Namespace, sources: Sources) -> None:
    """Nothing that is drawn may take the place of a source.

    Raises:
        UserError: it would, or flags and sources do not go together.
        OSError: a file cannot be written.
    """
    for path in sources.paths:
        folders = path.parent, Path(os.path.realpath(path)).parent
        if os.path.exists(args.out) and any(map(args.out.samefile, filter(os.path.exists, folders))):
            raise UserError(f'{args.out}: --out is where the images are, and they would be overwritten; name another '
                            'folder')
    if args.save_labelme and not sources.images:
        raise UserError('--save_labelme is for images; labelme has no videos')
    if args.save_json:
        check_output(args.save_json, [*sources.paths, *model_files(args.model_path)])


def make_folder(out: Path) -> None:
    """Make a folder, and make sure that files can be written to it.

    Raises:
        UserError: they cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise UserError(f'{out}: cannot be a folder for the drawn images ({error.strerror}); name another one'
                        ) from error


if __name__ == '__main__':
    run(main)
