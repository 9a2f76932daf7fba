"""Find objects in pictures, videos or what a camera sees, and draw them: masks, boxes, names and scores.

    python demo.py --images my/pictures my/video.mp4 --out my/results
"""
import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from command_line import count, given_path, prediction_flags, predictor_of, run
from data.autolabel import MASKS, coco_file, earlier_masks, labelme_file, write_labelme, write_masks
from data.pictures import SUFFIXES, PictureError, one_line, read_picture, write_picture
from data.sources import find_sources
from data.video import Video, has_screen, read_ahead, writing
from data.visualize import draw_detections
from data.wording import counted
from model.checkpoint import CheckpointError
from model.device import DeviceError
from model.files import check_writable

WRITTEN = set(SUFFIXES) - {'.gif'}
QUIT = {ord('q'), 27}  # Escape
INTERRUPTED = 130  # exit status after Ctrl-C


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        parents=[own_flags(), prediction_flags('weights/shapes.pd', 0.3)],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Find the objects in pictures, videos or what a camera sees, and draw them: masks, boxes,\n'
                    'names and scores. Pictures that cannot be read are named and skipped, and the exit\n'
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
    parser.add_argument('--images', type=given_path, nargs='+', default=['images/test'],
                        help='pictures, videos, folders of them, patterns such as "a/*.jpg", or the number of a camera '
                             '(default: images/test)')
    parser.add_argument('--out', type=given_path, default='images/res',
                        help='folder for what is drawn. Pictures keep their names, videos become .mp4, without sound '
                             '(default: %(default)s)')
    parser.add_argument('--no_draw', action='store_true', help='draw nothing, only save (default: off)')
    parser.add_argument('--save_json', type=given_path, metavar='FILE',
                        help='write COCO-style annotations with scores, of masks as run lengths; pictures keep '
                             'their names, and frames of videos and cameras are named NAME#NUMBER (default: off)')
    parser.add_argument('--polygons', action='store_true',
                        help='masks as polygons in that file, to within a pixel (default: off)')
    parser.add_argument('--save_masks', choices=MASKS,
                        help='write masks into --out as PNG: ids, one file a picture, of 16 bits, with the number of '
                             'the object that each pixel belongs to; or objects, a file for each object (default: off)')
    parser.add_argument('--save_labelme', type=given_path, metavar='DIR',
                        help='write a file for labelme (github.com/wkentaro/labelme) for each picture that has none, '
                             "to correct by hand; labelme opens both if it is the pictures' own folder (default: off)")
    parser.add_argument('--batch_size', type=count, default=1,
                        help='frames of a video that go through the network together; a GPU likes more '
                             '(default: %(default)s)')
    return parser


class Job(NamedTuple):
    """What to do with what is found.

    Attributes:
        predictor: `Predictor`.
        threshold: the least score of an object.
        out: folder to draw into.
        draws: whether to.
        savers: callables of a name, the picture's path (None for a frame) and `Detections`.
        saved: the files and folders that these write.
    """
    predictor: object
    threshold: float
    out: object
    draws: bool
    savers: list
    saved: tuple = ()

    def find(self, pictures):
        """The objects in pictures, list of `Detections`."""
        found = self.predictor(pictures)
        # A box may also be kept for classes that score less, and for a mask without a pixel, which is no object.
        return [one.select((one.box_scores > self.threshold) & np.array([mask.any() for mask in one.masks], bool))
                for one in found]

    def keep(self, name, path, detections):
        for save in self.savers:
            save(name, path, detections)

    def drawn(self, picture, detections):
        return draw_detections(picture, detections, self.predictor.classes.names)

    def places(self, drawn):
        """Where results are, for people. What is drawn is in this file or folder, or, if it is None, nowhere."""
        return ', '.join(dict.fromkeys(map(one_line, [drawn] * bool(self.draws and drawn) + [*self.saved])))


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
            saved = [args.save_json, args.save_masks and args.out, args.save_labelme]
            job = Job(predictor, args.obj_threshold, args.out, not args.no_draw, savers, tuple(filter(None, saved)))
            return look(job, sources, args.batch_size)
    except (CheckpointError, DeviceError, PictureError) as error:
        print(f'demo.py: error: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        place = one_line(error.filename or args.save_json)
        print(f'demo.py: error: {place}: cannot be written ({error.strerror})', file=sys.stderr)
        return 2


def look(job, sources, batch_size):
    """Finds the objects in everything, until all is done or somebody interrupts it.

    Returns:
        The exit status: 1 if something was skipped, `INTERRUPTED`.
    """
    taken, status = set(), pictures(job, sources.pictures)
    tasks = [*(partial(video, job, path, batch_size, taken) for path in sources.videos),
             *(partial(camera, job, number, taken) for number in sources.cameras)]
    for task in tasks:
        if status == INTERRUPTED:
            break
        status = max(status, task())
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
        if args.save_labelme:  # the first, as it may refuse a picture
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
            raise PictureError(f'{path}: would be labelled over {file}, of another picture; rename one')
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
        The exit status: 1 if a picture was skipped, `INTERRUPTED`.
    """
    started, times, taken = time.perf_counter(), [], set()
    with interruptible() as wished:
        for path in takewhile(lambda _: not wished, paths):
            out = job.out / drawn_name(path)
            try:
                with taking(job, path, out, taken):
                    number, seconds = picture(job, path, out)
            except PictureError as problem:
                print(f'skipped: {problem}', file=sys.stderr)
                continue
            times.append(seconds)
            print(f'{one_line(path.name)}: {counted(number, "object")}, {1000 * seconds:.0f} ms', flush=True)
    if times:
        print(f'{len(times)} of {counted(len(paths), "picture")} in {time.perf_counter() - started:.1f} s with reading '
              f'and {"drawing" if job.draws else "saving"}; finding the objects took '
              f'{1000 * sum(times) / len(times):.0f} ms a picture. Results are in {job.places(job.out)}', flush=True)
    if wished:
        print('demo.py: interrupted; files that were written are whole', file=sys.stderr)
        return INTERRUPTED
    return 0 if len(times) == len(paths) else 1


@contextlib.contextmanager
def interruptible():
    """While this lasts, Ctrl-C is a wish to stop, which is granted when nothing is half done. Another stops at once.

    Yields:
        list, empty until somebody wishes it.
    """
    wished = []

    def note(*_):
        wished.append(True)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    earlier = signal.signal(signal.SIGINT, note)
    try:
        yield wished
    finally:
        signal.signal(signal.SIGINT, earlier)


@contextlib.contextmanager
def taking(job, path, out, taken):
    """Makes sure that nothing takes the place of what was made of something else. What fails in here takes no place.

    Args:
        job: `Job`.
        path: Path of a picture or a video, or the name of a camera.
        out: Path of what is drawn of it.
        taken: set of the places of others, which this one is added to.
    Raises:
        PictureError: its place is taken.
    """
    place = out if job.draws else Path(path).name
    if place in taken:
        raise PictureError(f'{path}: would be drawn over {out}, of another file; rename one' if job.draws else
                           f'{path}: has the name of another file; rename one')
    yield
    taken.add(place)


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


@dataclass
class Tally:
    """How many frames there were, and objects in them."""
    frames: int = 0
    objects: int = 0
    started: float = field(default_factory=time.perf_counter)

    def add(self, detections):
        self.frames += 1
        self.objects += len(detections)

    def __str__(self):
        rate = self.frames / (time.perf_counter() - self.started)
        return f'{counted(self.objects, "object")} in {counted(self.frames, "frame")}, {rate:.1f} frames a second'


def video(job, path, batch_size, taken):
    """Finds the objects in every frame of a video. Memory does not grow with its length.

    Returns:
        The exit status: 1 if it was skipped, `INTERRUPTED`.
    """
    tally, out = Tally(), job.out / f'{path.stem}.mp4'
    try:
        with interruptible() as wished, taking(job, path, out, taken):
            source = Video(path)
            frames = takewhile(lambda _: not wished, read_ahead(source, 2 * batch_size))
            with writing(out, source.fps) if job.draws else contextlib.nullcontext() as write, tqdm(
                    total=source.frames or None, desc=one_line(path.name), unit=' frames', disable=None) as bar:
                for frame, _ in kept(job, path.name, find_in_frames(job, frames, batch_size), tally):
                    if write:
                        write(frame)
                    bar.update()
            if not tally.frames and not wished:
                raise PictureError(f'{path}: a video without a frame that can be read; convert it to .mp4 or copy it '
                                   'again')
    except PictureError as problem:
        print(f'skipped: {problem}', file=sys.stderr)
        return 1
    if wished:
        verb = 'is' if tally.frames == 1 else 'are'
        print(f'interrupted: {counted(tally.frames, "frame")} {verb} kept' + f' in {job.places(out)}' *
              bool(tally.frames), file=sys.stderr)
        return INTERRUPTED
    print(f'{one_line(path.name)}: {tally}, in {job.places(out)}')
    return 0


def find_in_frames(job, frames, batch_size):
    """Frames as they are drawn, and their `Detections`. The next ones are looked at while the last are drawn."""
    def draw(frame, detections):
        return job.drawn(frame, detections) if job.draws else frame, detections
    with ThreadPoolExecutor(1) as drawer:
        waiting = []
        while batch := list(islice(frames, batch_size)):
            ready, waiting = waiting, [drawer.submit(draw, *pair) for pair in zip(batch, job.find(batch))]
            yield from (one.result() for one in ready)
        yield from (one.result() for one in waiting)


def camera(job, number, taken):
    """Shows what a camera sees in a window, with the frames a second, until q is pressed; or, where there is no screen,
    writes it to a video until Ctrl-C. Where nothing is drawn, only saves what is found, until Ctrl-C.

    Returns:
        The exit status: 1 if it was skipped.
    """
    name, shows = f'camera{number}', job.draws and has_screen()
    tally, out = Tally(), job.out / f'{name}.mp4'
    try:
        with taking(job, name, out, taken), contextlib.closing(Video(number)) as source, interruptible() as wished:
            frames = takewhile(lambda _: not wished, source)
            found = kept(job, name, ((frame, job.find([frame])[0]) for frame in frames), tally)
            if shows:
                show(job, found)
            elif job.draws:
                print(f'there is no screen here: writing to {one_line(out)} until Ctrl-C', flush=True)
                record(job, found, out, source.fps)
            else:
                print(f'{name}: saving what is found until Ctrl-C', flush=True)
                deque(found, 0)
    except PictureError as problem:
        print(f'skipped: {problem}', file=sys.stderr)
        return 1
    places = job.places(None if shows else out) if tally.frames else ''
    print(f'{name}: {tally}' + f', in {places}' * bool(places))
    return 0


def kept(job, name, found, tally):
    """Pairs of a frame and its `Detections`, saved and counted as they go by."""
    for frame, detections in found:
        tally.add(detections)
        job.keep(f'{name}#{tally.frames:06d}', None, detections)
        yield frame, detections


def show(job, frames):
    """A window of frames with what is found in them, until q or Escape is pressed or the window is closed."""
    title = 'YOLACT++ - q ends'
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_GUI_NORMAL)  # without tools
    began, rate = time.perf_counter(), 0.0
    for frame, detections in frames:
        now = time.perf_counter()
        rate, began = 0.9 * rate + 0.1 / (now - began) if rate else 1 / (now - began), now
        drawn = job.drawn(frame, detections)
        cv2.putText(drawn, f'{rate:.1f} FPS', (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 2, cv2.LINE_AA)
        cv2.imshow(title, drawn)
        if cv2.waitKey(1) & 255 in QUIT or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            break
    cv2.destroyAllWindows()


def record(job, frames, out, fps):
    """Writes frames with what is found in them to a video."""
    with writing(out, fps) as write:
        for frame, detections in frames:
            write(job.drawn(frame, detections))


if __name__ == '__main__':
    run(main)
