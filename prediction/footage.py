"""Objects in videos, and in what cameras see."""
import contextlib
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice, takewhile

import cv2
from tqdm import tqdm

from data.images import ImageError
from prediction.finding import INTERRUPTED, taking
from prediction.video import Video, has_screen, prefetch, writing
from system.messages import one_line, pluralize

QUIT = {ord('q'), 27}  # Escape


@dataclass
class Tally:
    """How many frames there were, and objects in them."""
    frames: int = 0
    objects: int = 0
    started: float = field(default_factory=time.perf_counter)

    def add(self, detections):
        """Takes account of a frame, by its `Detections`."""
        self.frames += 1
        self.objects += len(detections)

    def __str__(self):
        rate = self.frames / (time.perf_counter() - self.started)
        return f'{pluralize(self.objects, "object")} in {pluralize(self.frames, "frame")}, {rate:.1f} frames a second'


def video(job, path, batch_size, taken, wished):
    """Finds the objects in every frame of a video, until all are done or somebody wishes to stop.

    Memory does not grow with its length.

    Returns:
        The exit status: 1 if it was skipped or is cut off, `INTERRUPTED`.
    """
    tally, out = Tally(), job.out / f'{path.stem}.mp4'
    try:
        with taking(job, path, out, taken):
            source = Video(path)
            frames = takewhile(lambda _: not wished, prefetch(source, 2 * batch_size))
            with writing(out, source.fps) if job.draws else contextlib.nullcontext() as write, tqdm(
                    total=source.frames or None, desc=one_line(path.name), unit=' frames', disable=None) as bar:
                for frame, _ in kept(job, path.name, find_in_frames(job, frames, batch_size), tally):
                    if write:
                        write(frame)
                    bar.update()
            if not tally.frames and not wished:
                raise ImageError(f'{path}: a video without a frame that can be read; convert it to .mp4 or copy it '
                                   'again')
    except ImageError as problem:
        print(f'skipped: {problem}', file=sys.stderr)
        return 1
    if wished:
        verb = 'is' if tally.frames == 1 else 'are'
        print(f'interrupted: {pluralize(tally.frames, "frame")} {verb} kept' + f' in {job.places(out)}' *
              bool(tally.frames), file=sys.stderr)
        return INTERRUPTED
    print(f'{one_line(path.name)}: {tally}, in {job.places(out)}')
    if source.cut:
        print(one_line(f'{path}: ends early: {source.read} of {source.frames} frames can be read; copy it again'),
              file=sys.stderr)
    return int(source.cut)


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


def camera(job, number, taken, wished):
    """Shows what a camera sees in a window, with the frames a second, until q is pressed; or, where there is no screen,
    writes it to a video until Ctrl-C. Where nothing is drawn, only saves what is found, until Ctrl-C.

    Returns:
        The exit status: 1 if it was skipped.
    """
    name, shows = f'camera{number}', job.draws and has_screen()
    tally, out = Tally(), job.out / f'{name}.mp4'
    try:
        with taking(job, name, out, taken), contextlib.closing(Video(number)) as source:
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
    except ImageError as problem:
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
