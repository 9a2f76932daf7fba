"""Predicting on videos, and on what a camera sees."""
import contextlib
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from data.images import ImageError
from model.postprocess import Detections
from prediction.run import PredictionRun
from prediction.video import Video, VideoWriter, has_screen, prefetch
from system.messages import one_line, pluralize
from system.progress import progress_bar

QUIT_KEYS = {ord('q'), 27}  # Escape


@dataclass
class Tally:
    """How many frames there were, and objects in them."""
    frames: int = 0
    objects: int = 0
    started: float = field(default_factory=time.perf_counter)

    def add(self, detections: Detections) -> None:
        """Count a frame."""
        self.frames += 1
        self.objects += len(detections)

    def __str__(self) -> str:
        rate = self.frames / (time.perf_counter() - self.started)
        return f'{pluralize(self.objects, "object")} in {pluralize(self.frames, "frame")}, {rate:.1f} frames a second'


def predict_video(run: PredictionRun, path: Path) -> int:
    """Predict on every frame of a video, until all are done or a stop is requested. Memory does not grow.

    Returns:
        The exit status: 1 if the video was skipped or is cut off.
    """
    out = run.out / f'{path.stem}.mp4'
    try:
        with run.claiming(path, out):
            video = Video(path)
            tally = _predict_frames(run, video, path, out)
            if not tally.frames and not run.stop_request.requested:
                raise ImageError(f'{path}: a video without a frame that can be read; convert it to .mp4 or copy it '
                                 'again')
    except ImageError as problem:
        print(f'skipped: {problem}', file=sys.stderr)
        return 1
    if run.stop_request.requested:
        verb = 'is' if tally.frames == 1 else 'are'
        place = f' in {run.places(out)}' if tally.frames else ''
        print(f'interrupted: {pluralize(tally.frames, "frame")} {verb} kept{place}', file=sys.stderr)
        return 0
    print(f'{one_line(path.name)}: {tally}, in {run.places(out)}')
    if video.cut:
        print(one_line(f'{path}: ends early: {video.read} of {video.frames} frames can be read; copy it again'),
              file=sys.stderr)
    return int(video.cut)


def _predict_frames(run: PredictionRun, video: Video, path: Path, out: Path) -> Tally:
    """Predict, write and draw the frames of a video, with a progress bar."""
    tally = Tally()
    writer = VideoWriter(out, video.fps) if run.draw else contextlib.nullcontext()
    with writer, progress_bar(video.frames or None, 'frames', one_line(path.name)) as bar:
        for frame, detections in predict_batches(run, prefetch(video, 2 * run.batch_size)):
            tally.add(detections)
            run.write(f'{path.name}#{tally.frames:06d}', None, detections)
            if isinstance(writer, VideoWriter):
                writer.write(frame)
            bar.update()
    return tally


def predict_batches(run: PredictionRun, frames: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, Detections]]:
    """Frames, drawn if that is wanted, and their detections. A thread draws a batch while the next one is predicted."""
    def draw(frame: np.ndarray, detections: Detections) -> tuple[np.ndarray, Detections]:
        return run.drawn(frame, detections) if run.draw else frame, detections
    with ThreadPoolExecutor(1) as drawer:
        drawing: list[Future[tuple[np.ndarray, Detections]]] = []
        while not run.stop_request.requested and (batch := list(islice(frames, run.batch_size))):
            ready, drawing = drawing, [drawer.submit(draw, *pair) for pair in zip(batch, run.predictor(batch))]
            yield from (future.result() for future in ready)
        yield from (future.result() for future in drawing)


def predict_camera(run: PredictionRun, number: int) -> int:
    """Show what a camera sees in a window, until q is pressed; without a screen, write a video until Ctrl-C; without
    drawing, only write detections until Ctrl-C.

    Returns:
        The exit status: 1 if the camera was skipped.
    """
    name, tally = f'camera{number}', Tally()
    out = run.out / f'{name}.mp4'
    shows = run.draw and has_screen()
    try:
        with run.claiming(name, out), contextlib.closing(Video(number)) as video:
            if run.draw and not shows:
                print(f'there is no screen here: writing to {one_line(out)} until Ctrl-C', flush=True)
            elif not run.draw:
                print(f'{name}: saving detections until Ctrl-C', flush=True)
            with _camera_output(run, shows, out, video.fps) as output:
                for frame in video:
                    if run.stop_request.requested:
                        break
                    detections = run.predictor.predict(frame)
                    tally.add(detections)
                    run.write(f'{name}#{tally.frames:06d}', None, detections)
                    if output:
                        output.write(run.drawn(frame, detections))
                        if isinstance(output, Window) and output.closed:
                            break
    except ImageError as problem:
        print(f'skipped: {problem}', file=sys.stderr)
        return 1
    places = run.places(None if shows else out) if tally.frames else ''
    print(f'{name}: {tally}' + (f', in {places}' if places else ''))
    return 0


def _camera_output(run: PredictionRun, shows: bool, out: Path,
                   fps: float) -> 'contextlib.AbstractContextManager[Window | VideoWriter | None]':
    if shows:
        return Window('YOLACT++ - q ends')
    return VideoWriter(out, fps) if run.draw else contextlib.nullcontext()


class Window:
    """A window of frames with their rate, until q or Escape is pressed or it is closed. A context manager.

    Attributes:
        closed: whether somebody did that.
    """

    def __init__(self, title: str) -> None:
        self._title, self._shown, self._rate, self.closed = title, time.perf_counter(), 0.0, False

    def __enter__(self) -> 'Window':
        cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_GUI_NORMAL)  # without tools
        return self

    def write(self, frame: np.ndarray) -> None:
        """Show a frame, which is drawn on."""
        now = time.perf_counter()
        rate = 1 / max(now - self._shown, 1e-6)
        self._rate, self._shown = 0.9 * self._rate + 0.1 * rate if self._rate else rate, now
        cv2.putText(frame, f'{self._rate:.1f} FPS', (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 2,
                    cv2.LINE_AA)
        cv2.imshow(self._title, frame)
        self.closed = (cv2.waitKey(1) & 255 in QUIT_KEYS
                       or cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        cv2.destroyAllWindows()
