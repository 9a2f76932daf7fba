"""Find objects in pictures, videos or what a camera sees, and draw them: masks, boxes, names and scores.

    python demo.py --images my/pictures my/video.mp4 --out my/results
"""
import argparse
import contextlib
import itertools
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
from tqdm import tqdm

from command_line import count, given_path, prediction_flags, predictor_of, run
from data.autolabel import MASKS, coco_file, write_labelme, write_masks
from data.pictures import SUFFIXES, PictureError, one_line, read_picture, write_picture
from data.sources import find_sources
from data.video import Video, has_screen, read_ahead, writing
from data.visualize import draw_detections
from model.checkpoint import CheckpointError
from model.device import DeviceError
from model.files import check_writable

WRITTEN = set(SUFFIXES) - {'.gif'}
QUIT = {ord('q'), 27}  # Escape


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        parents=[prediction_flags('weights/shapes.pd', 0.3)], formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Find the objects in pictures, videos or what a camera sees, and draw them: masks, boxes,\n'
                    'names and scores. Pictures that cannot be read are named and skipped, and the exit\n'
                    'status is 1.',
        epilog='examples:\n'
               '  python demo.py --images holiday "more/*.jpg" --out drawn\n'
               '  python demo.py --images street.mp4 --out drawn                    # drawn/street.mp4\n'
               '  python demo.py --images 0                                         # the camera; q ends it\n'
               '  python demo.py --images mine --no_draw --save_json mine.json      # COCO-style annotations\n'
               '  python demo.py --images mine --no_draw --save_labelme mine        # to correct with labelme')
    parser.add_argument('--images', type=given_path, nargs='+', default=['images/test'],
                        help='pictures, videos, folders of them, patterns such as "a/*.jpg", or the number of a camera '
                             '(default: images/test)')
    parser.add_argument('--out', type=given_path, default='images/res',
                        help='folder for what is drawn. Pictures keep their names, videos become .mp4, without sound '
                             '(default: %(default)s)')
    parser.add_argument('--no_draw', action='store_true', help='draw nothing, only save (default: off)')
    parser.add_argument('--save_json', type=given_path, metavar='FILE',
                        help='write COCO-style annotations with scores, of masks as run lengths; pictures keep '
                             'their names, and frames of videos are named NAME#NUMBER (default: off)')
    parser.add_argument('--polygons', action='store_true',
                        help='masks as polygons in that file, to within a pixel (default: off)')
    parser.add_argument('--save_masks', choices=MASKS,
                        help='write masks into --out as PNG: ids, one file a picture, of 16 bits, with the number of '
                             'the object that each pixel belongs to; or objects, a file for each object (default: off)')
    parser.add_argument('--save_labelme', type=given_path, metavar='DIR',
                        help='write a file for labelme (github.com/wkentaro/labelme) for each picture, to correct by '
                             "hand; labelme opens both if it is the pictures' own folder (default: off)")
    parser.add_argument('--batch_size', type=count, default=1,
                        help='frames of a video that go through the network together; a GPU likes more '
                             '(default: %(default)s)')
    args = parser.parse_args(argv)
    if args.polygons and not args.save_json:
        parser.error('--polygons says what to write into --save_json FILE; name one')
    if args.no_draw and not (args.save_json or args.save_masks or args.save_labelme):
        parser.error('--no_draw leaves nothing to do; add --save_json, --save_masks or --save_labelme')
    return args


class Job(NamedTuple):
    """What to do with what is found.

    Attributes:
        predictor: `Predictor`.
        threshold: the least score of an object.
        out: folder to draw into.
        draws: whether to.
        savers: callables of a name, the picture's path (None for a frame) and `Detections`.
    """
    predictor: object
    threshold: float
    out: object
    draws: bool
    savers: list

    def find(self, pictures):
        """The objects in pictures, list of `Detections`."""
        found = self.predictor(pictures)
        # A box may also be kept for classes that score less.
        return [one.select(one.box_scores > self.threshold) for one in found]

    def keep(self, name, path, detections):
        for save in self.savers:
            save(name, path, detections)

    def drawn(self, picture, detections):
        return draw_detections(picture, detections, self.predictor.classes.names)


def main(argv=None):
    """Find, draw and save. Returns the exit status."""
    args = parse_arguments(argv)
    try:
        sources = find_sources(args.images)
        check_flags(args, sources)
        predictor = predictor_of(args)
        if not args.no_draw or args.save_masks:
            make_folder(args.out)
        with open_savers(args, predictor.classes) as savers:
            job = Job(predictor, args.obj_threshold, args.out, not args.no_draw, savers)
            status = pictures(job, sources.pictures)
            for path in sources.videos:
                status = max(status, video(job, path, args.batch_size))
            for number in sources.cameras:
                camera(job, number)
    except (CheckpointError, DeviceError, PictureError) as error:
        print(f'demo.py: error: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        place = one_line(error.filename or args.save_json)
        print(f'demo.py: error: {place}: cannot be written ({error.strerror})', file=sys.stderr)
        return 2
    return status


def check_flags(args, sources):
    """What is drawn must not take the place of what was named.

    Raises:
        PictureError: it would, or flags and sources do not go together.
        OSError: a file cannot be written.
    """
    for path in sources.paths:
        if os.path.exists(args.out) and args.out.samefile(path.parent):
            raise PictureError(f'{args.out}: --out is where the pictures are, and they would be overwritten; '
                               'name another folder')
    if args.save_labelme and not sources.pictures:
        raise PictureError('--save_labelme is for pictures; labelme has no videos')
    if args.save_json:
        check_writable(args.save_json)


@contextlib.contextmanager
def open_savers(args, classes):
    """The savers that the flags ask for."""
    with contextlib.ExitStack() as stack:
        savers = []
        if args.save_json:
            add = stack.enter_context(coco_file(args.save_json, classes, args.polygons))
            savers.append(lambda name, path, detections: add(name, detections))
        if args.save_masks:
            savers.append(lambda name, path, detections: write_masks(args.out, args.save_masks, name, detections,
                                                                     classes))
        if args.save_labelme:
            savers.append(lambda name, path, detections: path and write_labelme(args.save_labelme, path, detections,
                                                                                classes))
        yield savers


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


def pictures(job, paths):
    """Finds the objects in each picture and tells about it.

    Returns:
        The exit status: 1 if a picture was skipped.
    """
    started, times, names = time.perf_counter(), [], set()
    for path in paths:
        name = drawn_name(path)
        try:
            if name in names:
                raise PictureError(f'{path}: would be drawn over {job.out / name}, of another picture; rename one')
            number, seconds = picture(job, path, job.out / name)
            names.add(name)
        except PictureError as problem:
            print(f'skipped: {problem}', file=sys.stderr)
            continue
        times.append(seconds)
        print(f'{one_line(path.name)}: {objects(number)}, {1000 * seconds:.0f} ms', flush=True)
    if times:
        print(f'{len(times)} of {len(paths)} pictures in {time.perf_counter() - started:.1f} s with reading '
              f'and drawing; finding the objects took {1000 * sum(times) / len(times):.0f} ms a picture.'
              + f' Results are in {one_line(job.out)}' * job.draws)
    return 0 if len(times) == len(paths) else 1


def picture(job, path, out):
    """Finds the objects in one picture.

    Returns:
        The number of objects and the seconds that finding them took.
    Raises:
        PictureError: a picture cannot be read or written.
    """
    pixels = read_picture(path)
    started = time.perf_counter()
    detections, = job.find([pixels])
    seconds = time.perf_counter() - started
    job.keep(path.name, path, detections)
    if job.draws:
        write_picture(out, job.drawn(pixels, detections))
    return len(detections), seconds


def drawn_name(path):
    """The picture's own name, with .png appended where its format cannot be written."""
    return path.name if path.suffix.lower() in WRITTEN else path.name + '.png'


def video(job, path, batch_size):
    """Finds the objects in every frame of a video. Memory does not grow with its length.

    Returns:
        The exit status: 1 if it was skipped.
    """
    number, total, out, started = 0, 0, job.out / f'{path.stem}.mp4', time.perf_counter()
    try:
        source = Video(path)
        with writing(out, source.fps) if job.draws else contextlib.nullcontext() as write, tqdm(
                total=source.frames or None, desc=one_line(path.name), unit=' frames', disable=None) as bar:
            for frame, detections in find_in_frames(job, read_ahead(source, 2 * batch_size), batch_size):
                number, total = number + 1, total + len(detections)
                job.keep(f'{path.name}#{number:06d}', None, detections)
                if write:
                    write(frame)
                bar.update()
        if not number:
            raise PictureError(f'{path}: a video without a frame that can be read; convert it to .mp4 or copy it again')
    except PictureError as problem:
        print(f'skipped: {problem}', file=sys.stderr)
        return 1
    seconds = time.perf_counter() - started
    print(f'{one_line(path.name)}: {objects(total)} in {number} frames, {number / seconds:.1f} frames a second'
          + f', in {one_line(out)}' * job.draws)
    return 0


def find_in_frames(job, frames, batch_size):
    """Frames as they are drawn, and their `Detections`. The next ones are looked at while the last are drawn."""
    def draw(frame, detections):
        return job.drawn(frame, detections) if job.draws else frame, detections
    with ThreadPoolExecutor(1) as drawer:
        waiting = []
        while batch := list(itertools.islice(frames, batch_size)):
            ready, waiting = waiting, [drawer.submit(draw, *pair) for pair in zip(batch, job.find(batch))]
            yield from (one.result() for one in ready)
        yield from (one.result() for one in waiting)


def camera(job, number):
    """Shows what a camera sees in a window, with the frames a second, until q is pressed; or, where there is no screen,
    writes it to a video until Ctrl-C."""
    source = Video(number)
    try:
        if has_screen():
            show(job, source)
        else:
            record(job, source, job.out / f'camera{number}.mp4')
    finally:
        source.close()


def show(job, source):
    """A window of what a `Video` shows, until q or Escape is pressed or the window is closed."""
    title = 'YOLACT++ - q ends'
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_GUI_NORMAL)  # without tools
    began, rate = time.perf_counter(), 0.0
    for frame in source:
        detections, = job.find([frame])
        now = time.perf_counter()
        rate, began = 0.9 * rate + 0.1 / (now - began) if rate else 1 / (now - began), now
        drawn = job.drawn(frame, detections)
        cv2.putText(drawn, f'{rate:.1f} FPS', (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 2, cv2.LINE_AA)
        cv2.imshow(title, drawn)
        if cv2.waitKey(1) & 255 in QUIT or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            break
    cv2.destroyAllWindows()


def record(job, source, out):
    """Writes what a `Video` shows until Ctrl-C."""
    print(f'there is no screen here: writing to {one_line(out)} until Ctrl-C')
    with writing(out, source.fps) as write, contextlib.suppress(KeyboardInterrupt):
        for frame in source:
            write(job.drawn(frame, job.find([frame])[0]))


def objects(number):
    return f'{number} object{"s" * (number != 1)}'


if __name__ == '__main__':
    run(main)
