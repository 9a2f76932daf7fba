"""Find objects in images, videos or what a camera sees, and draw them: masks, boxes, names and scores.

    python demo.py --images my/images my/video.mp4 --out my/results
"""
import argparse
import contextlib
import os
import sys
import tempfile
import time
from functools import partial
from itertools import takewhile

from data.images import SUFFIXES, ImageError, read_image, write_image
from prediction.arguments import prediction_flags, predictor_of
from prediction.finding import INTERRUPTED, Job, interruptible, taking
from prediction.footage import camera, video
from prediction.formats import MASKS, coco_file, earlier_masks, labelme_file, write_labelme, write_masks
from prediction.sources import find_sources
from system.arguments import nonempty_path, positive_int
from system.command import run
from system.files import check_writable
from system.messages import one_line, pluralize

WRITTEN = set(SUFFIXES) - {'.gif'}


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        parents=[own_flags(), prediction_flags('weights/shapes.pd', 0.3)],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Find the objects in images, videos or what a camera sees, and draw them: masks, boxes,\n'
                    'names and scores. Images that cannot be read are named and skipped, and the exit\n'
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


def own_flags():
    """What to look at and what to make of it: ArgumentParser, a parent. Help shows these before the other parent's."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument('--images', type=nonempty_path, nargs='+', default=['images/test'],
                        help='images, videos, folders of them, patterns such as "a/*.jpg", or the number of a camera '
                             '(default: images/test)')
    parser.add_argument('--out', type=nonempty_path, default='images/res',
                        help='folder for what is drawn. Images keep their names, videos become .mp4, without sound '
                             '(default: %(default)s)')
    parser.add_argument('--no_draw', action='store_true', help='draw nothing, only save (default: off)')
    parser.add_argument('--save_json', type=nonempty_path, metavar='FILE',
                        help='write COCO-style annotations with scores, of masks as run lengths; images keep '
                             'their names, and frames of videos and cameras are named NAME#NUMBER (default: off)')
    parser.add_argument('--polygons', action='store_true',
                        help='masks as polygons in that file, to within a pixel (default: off)')
    parser.add_argument('--save_masks', choices=MASKS,
                        help='write masks into --out as PNG: ids, one file an image, of 16 bits, with the number of '
                             'the object that each pixel belongs to; or objects, a file for each object (default: off)')
    parser.add_argument('--save_labelme', type=nonempty_path, metavar='DIR',
                        help='write a file for labelme (github.com/wkentaro/labelme) for each image that has none, '
                             "to correct by hand; labelme opens both if it is the images' own folder (default: off)")
    parser.add_argument('--batch_size', type=positive_int, default=1,
                        help='frames of a video that go through the network together; a GPU likes more '
                             '(default: %(default)s)')
    return parser


def main(argv=None):
    """Find, draw and save. Returns the exit status."""
    args = parse_arguments(argv)
    sources = find_sources(args.images)
    check_flags(args, sources)
    predictor = predictor_of(args)
    if not args.no_draw or args.save_masks:
        make_folder(args.out)
    with interruptible() as wished, open_savers(args, predictor.classes) as savers:
        saved = [args.save_json, args.save_masks and args.out, args.save_labelme]
        job = Job(predictor, args.obj_threshold, args.out, not args.no_draw, savers, tuple(filter(None, saved)))
        return look(job, sources, args.batch_size, wished)


def look(job, sources, batch_size, wished):
    """Finds the objects in everything, until all is done or somebody interrupts it.

    Returns:
        The exit status: 1 if something was skipped, `INTERRUPTED`.
    """
    taken, status = set(), images(job, sources.images, wished)
    tasks = [*(partial(video, job, path, batch_size, taken, wished) for path in sources.videos),
             *(partial(camera, job, number, taken, wished) for number in sources.cameras)]
    for task in tasks:
        if wished:
            break
        status = max(status, task())
    return status


def check_flags(args, sources):
    """What is drawn must not take the place of what was named.

    Raises:
        ImageError: it would, or flags and sources do not go together.
        OSError: a file cannot be written.
    """
    for path in sources.paths:
        if os.path.exists(args.out) and args.out.samefile(path.parent):
            raise ImageError(f'{args.out}: --out is where the images are, and they would be overwritten; '
                               'name another folder')
    if args.save_labelme and not sources.images:
        raise ImageError('--save_labelme is for images; labelme has no videos')
    if args.save_json:
        check_writable(args.save_json)


@contextlib.contextmanager
def open_savers(args, classes):
    """The savers that the flags ask for."""
    with contextlib.ExitStack() as stack:
        savers = []
        if args.save_labelme:  # the first, as it may refuse an image
            savers.append(labelme_saver(args.save_labelme, classes))
        if args.save_json:
            add = stack.enter_context(coco_file(args.save_json, classes, args.polygons))
            savers.append(lambda name, path, detections: add(name, detections))
        if args.save_masks:
            earlier = earlier_masks(args.out)
            savers.append(lambda name, path, detections: write_masks(args.out, args.save_masks, name, detections,
                                                                     classes, earlier))
        yield savers


def labelme_saver(folder, classes):
    """A saver of files for labelme, which leaves alone those that were there before: they may be corrected by hand."""
    written = set()

    def save(name, path, detections):
        if path is None:
            return
        file = labelme_file(folder, path)
        if file in written:
            raise ImageError(f'{path}: would be labelled over {file}, of another image; rename one')
        if file.exists():
            print(one_line(f'{path}: has labels already, which are kept; remove {file} to write them anew'),
                  file=sys.stderr)
            return
        write_labelme(folder, path, detections, classes)
        written.add(file)
    return save


def make_folder(out):
    """Makes a folder, and makes sure that files can be written to it.

    Raises:
        ImageError: they cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise ImageError(f'{out}: cannot be a folder for the drawn images ({error.strerror}); '
                           'name another one') from error


def images(job, paths, wished):
    """Finds the objects in each image and tells about it.

    Returns:
        The exit status: 1 if an image was skipped, `INTERRUPTED`.
    """
    started, times, taken = time.perf_counter(), [], set()
    for path in takewhile(lambda _: not wished, paths):
        out = job.out / drawn_name(path)
        try:
            with taking(job, path, out, taken):
                number, seconds = image(job, path, out)
        except ImageError as problem:
            print(f'skipped: {problem}', file=sys.stderr)
            continue
        times.append(seconds)
        print(f'{one_line(path.name)}: {pluralize(number, "object")}, {1000 * seconds:.0f} ms', flush=True)
    if times:
        print(f'{len(times)} of {pluralize(len(paths), "image")} in {time.perf_counter() - started:.1f} s with reading '
              f'and {"drawing" if job.draws else "saving"}; finding the objects took '
              f'{1000 * sum(times) / len(times):.0f} ms an image. Results are in {job.places(job.out)}', flush=True)
    if wished:
        print('demo.py: interrupted; files that were written are whole', file=sys.stderr)
        return INTERRUPTED
    return 0 if len(times) == len(paths) else 1


def image(job, path, out):
    """Finds the objects in one image.

    Returns:
        The number of objects and the seconds that finding them took.
    Raises:
        ImageError: an image cannot be read or written.
    """
    pixels = read_image(path)
    started = time.perf_counter()
    detections, = job.find([pixels])
    seconds = time.perf_counter() - started
    job.keep(path.name, path, detections)
    if job.draws:
        write_image(out, job.drawn(pixels, detections))
    return len(detections), seconds


def drawn_name(path):
    """The image's own name, with .png appended where its format cannot be written."""
    return path.name if path.suffix.lower() in WRITTEN else path.name + '.png'


if __name__ == '__main__':
    run(main)
