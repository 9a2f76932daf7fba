"""Predicting on images, videos and cameras, and writing what was asked for."""
import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.images import SUFFIXES, ImageError, read_image, write_image
from model.postprocess import Detections
from prediction.formats import DetectionWriter
from prediction.predictor import Predictor
from system.interruption import StopRequest
from system.messages import one_line, pluralize
from visualization.drawing import draw_detections

WRITABLE_SUFFIXES = set(SUFFIXES) - {'.gif'}


@dataclass
class PredictionRun:
    """What predictions are made with and written to.

    Attributes:
        predictor: `Predictor`.
        out: folder to draw into.
        draw: whether to.
        writers: `DetectionWriter`s.
        written: the files and folders that these write, for people.
        stop_request: asked between images and frames.
        batch_size: frames of a video that go through the network together.
    """
    predictor: Predictor
    out: Path
    draw: bool
    writers: list[DetectionWriter]
    written: tuple[Path, ...]
    stop_request: StopRequest
    batch_size: int = 1
    _claimed: set[object] = field(default_factory=set)

    def write(self, name: str, path: Path | None, detections: Detections) -> None:
        """Write the detections of an image or of a frame in every form that is wanted."""
        for writer in self.writers:
            writer.write(name, path, detections)

    def drawn(self, image: np.ndarray, detections: Detections) -> np.ndarray:
        """An image with its detections drawn into it."""
        return draw_detections(image, detections, self.predictor.classes.names)

    def places(self, drawn: Path | None) -> str:
        """Where results are, in words. What is drawn is in this file or folder; None for nowhere."""
        paths = [drawn] if self.draw and drawn else []
        return ', '.join(dict.fromkeys(map(one_line, [*paths, *self.written])))

    @contextlib.contextmanager
    def claiming(self, source: str | Path, out: Path) -> Iterator[None]:
        """Make sure that no output takes the place of another one. A source that fails in here claims nothing.

        Args:
            source: an image, a video, or the name of a camera.
            out: what is drawn of it.
        Raises:
            ImageError: the output's place is claimed.
        """
        place: object = out if self.draw else Path(source).name
        if place in self._claimed:
            raise ImageError(f'{source}: would be drawn over {out}, of another file; rename one' if self.draw else
                             f'{source}: has the name of another file; rename one')
        yield
        self._claimed.add(place)


def predict_images(run: PredictionRun, paths: list[Path]) -> int:
    """Predict on image files, with a line for each, until all are done or a stop is requested.

    Returns:
        The exit status: 1 if an image was skipped.
    """
    started, times = time.perf_counter(), []
    for path in paths:
        if run.stop_request.requested:
            break
        out = run.out / drawn_name(path)
        try:
            with run.claiming(path, out):
                number, seconds = predict_image(run, path, out)
        except ImageError as problem:
            print(f'skipped: {problem}', file=sys.stderr)
            continue
        times.append(seconds)
        print(f'{one_line(path.name)}: {pluralize(number, "object")}, {1000 * seconds:.0f} ms', flush=True)
    if times:
        print(f'{len(times)} of {pluralize(len(paths), "image")} in {time.perf_counter() - started:.1f} s with reading '
              f'and {"drawing" if run.draw else "saving"}; prediction took {1000 * sum(times) / len(times):.0f} ms an '
              f'image. Results are in {run.places(run.out)}', flush=True)
    if run.stop_request.requested:
        print(f'interrupted: {len(times)} of {pluralize(len(paths), "image")} are done', file=sys.stderr)
    return 0 if len(times) == len(paths) else 1


def predict_image(run: PredictionRun, path: Path, out: Path) -> tuple[int, float]:
    """Predict on one image file.

    Returns:
        The number of objects, and the seconds that prediction took.
    Raises:
        ImageError: an image cannot be read or written.
    """
    image = read_image(path)
    started = time.perf_counter()
    detections = run.predictor.predict(image)
    seconds = time.perf_counter() - started
    run.write(path.name, path, detections)
    if run.draw:
        write_image(out, run.drawn(image, detections))
    return len(detections), seconds


def drawn_name(path: Path) -> str:
    """The image's own name, with .png appended where its format cannot be written."""
    return path.name if path.suffix.lower() in WRITABLE_SUFFIXES else path.name + '.png'
