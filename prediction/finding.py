"""What to do with the objects that are found, and when to stop."""
import contextlib
import signal
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.images import ImageError
from system.messages import one_line
from visualization.drawing import draw_detections

INTERRUPTED = 130  # exit status after Ctrl-C


class Job(NamedTuple):
    """What to do with what is found.

    Attributes:
        predictor: `Predictor`.
        threshold: the least score of an object.
        out: folder to draw into.
        draws: whether to.
        savers: callables of a name, the image's path (None for a frame) and `Detections`.
        saved: the files and folders that these write.
    """
    predictor: object
    threshold: float
    out: object
    draws: bool
    savers: list
    saved: tuple = ()

    def find(self, images):
        """The objects in images, list of `Detections`."""
        found = self.predictor(images)
        # A box may also be kept for classes that score less, and for a mask without a pixel, which is no object.
        return [one.select((one.box_scores > self.threshold) & np.array([mask.any() for mask in one.masks], bool))
                for one in found]

    def keep(self, name, path, detections):
        """Saves the `Detections` of an image, in every form that is wanted."""
        for save in self.savers:
            save(name, path, detections)

    def drawn(self, image, detections):
        """An image with its `Detections` drawn into it, as `draw_detections` does."""
        return draw_detections(image, detections, self.predictor.classes.names)

    def places(self, drawn):
        """Where results are, for people. What is drawn is in this file or folder, or, if it is None, nowhere."""
        return ', '.join(dict.fromkeys(map(one_line, [drawn] * bool(self.draws and drawn) + [*self.saved])))


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
        path: Path of an image or a video, or the name of a camera.
        out: Path of what is drawn of it.
        taken: set of the places of others, which this one is added to.
    Raises:
        ImageError: its place is taken.
    """
    place = out if job.draws else Path(path).name
    if place in taken:
        raise ImageError(f'{path}: would be drawn over {out}, of another file; rename one' if job.draws else
                           f'{path}: has the name of another file; rename one')
    yield
    taken.add(place)
