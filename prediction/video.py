"""Videos and cameras, frame by frame."""
import contextlib
import os
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # ImageError says it better
import cv2  # noqa: E402

from data.images import ImageError  # noqa: E402

SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv')
USUAL_FPS = 25.0  # of videos that do not say
WHOLE = 0.9  # the part of what a video promises from which it is whole; many promise a few frames more than they have


class Video:
    """The frames of a video file, or of a camera.

    Attributes:
        fps: float, frames a second.
        frames: int, how many it says that there are, 0 where it does not.
        read: int, how many were read so far.
        ended: bool, whether there is no other one to read.
    """

    def __init__(self, source):
        """
        Args:
            source: Path of a file, or int, the number of a camera.
        Raises:
            ImageError: it cannot be opened.
        """
        self.source, self.read, self.ended, self._time = source, 0, False, 0.0
        if not isinstance(source, int) and os.path.exists(source) and not os.path.isfile(source):
            raise ImageError(f'{source}: a pipe, a device or a folder; name a file')  # a pipe might never end
        self._capture = _open(source if isinstance(source, int) else _name(source))
        if not self._capture.isOpened():
            raise ImageError(f'camera {source}: cannot be opened; is it there, and free?' if isinstance(source, int)
                             else f'{source}: not a video that can be read; convert it to .mp4 or copy it again')
        self.fps = _positive(self._capture.get(cv2.CAP_PROP_FPS)) or USUAL_FPS
        self.frames = int(_positive(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self):
        """Yields uint8 [h, w, 3], BGR, upright."""
        while True:
            there, frame = self._capture.read()
            if not there:
                self.ended = True
                return
            self.read += 1
            self._time = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield frame

    @property
    def cut(self):
        """Whether it ended long before it should have, by its frames and by its time.

        Frames alone tell too little: where a file does not list them, their number is a guess from its time.
        """
        return self.ended and max(self.read, self._time * self.fps) < WHOLE * self.frames

    def close(self):
        """Lets others have the camera."""
        self._capture.release()


@contextlib.contextmanager
def writing(path, fps):
    """A video that takes its place when it is complete. It has no sound.

    Args:
        path: Path that ends in .mp4.
        fps: frames a second.
    Yields:
        callable of frames, uint8 [h, w, 3], BGR, all of one size.
    Raises:
        ImageError: it cannot be written.
    """
    part, writer, written = path.with_name(f'.{path.stem}.part.mp4'), cv2.VideoWriter(), 0

    def write(frame):
        nonlocal written
        if not written:
            kind, size = cv2.VideoWriter_fourcc(*'mp4v'), frame.shape[1::-1]
            # The format knows no fraction such as 66.6667, which the average rate of a phone's video may be.
            if not any(writer.open(_name(part), kind, rate, size) for rate in (fps, float(round(fps)))):
                raise ImageError(f'{path}: a video of {fps:g} frames a second cannot be written there; convert it to '
                                 'another rate, or name another folder')
        writer.write(frame)
        written += 1
    try:
        yield write
        writer.release()
        if written and _frames_of(part) != written:  # the writer itself says nothing of a full disk
            raise ImageError(f'{path}: cannot be written; check that its folder may be written to and has room')
        if written:
            _replace(part, path)
    finally:
        writer.release()
        part.unlink(missing_ok=True)


def _replace(part, path):
    try:
        part.replace(path)
    except OSError as error:
        raise ImageError(f'{path}: cannot be written ({error.strerror})') from error


def prefetch(frames, number):
    """The items of an iterable, none of them None, of which a thread gets as many ahead of time."""
    frames = iter(frames)
    with ThreadPoolExecutor(1) as reader:
        waiting = deque(reader.submit(next, frames, None) for _ in range(number))
        while (frame := waiting.popleft().result()) is not None:
            waiting.append(reader.submit(next, frames, None))
            yield frame


def has_screen():
    """Whether a window could be shown."""
    return sys.platform in ('win32', 'darwin') or bool(os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY'))


def is_video(path):
    """Whether a file is a video, by its name."""
    return Path(path).suffix.lower() in SUFFIXES


def _open(source):
    """A capture of OpenCV, opened in silence: ImageError says it better."""
    set_level = getattr(cv2, 'setLogLevel', None) or cv2.utils.logging.setLogLevel  # of version 4, of 5
    before = set_level(0)
    try:
        return cv2.VideoCapture(source)
    finally:
        set_level(before)


def _name(path):
    """A path as OpenCV takes it, which ends the process over one that is no text."""
    try:
        return str(path).encode('utf-8').decode()
    except UnicodeEncodeError:
        raise ImageError(f'{path}: a name that is not in UTF-8; rename it') from None


def _frames_of(path):
    """How many frames a file that was just written has."""
    try:
        video = Video(path)
    except ImageError:
        return 0
    video.close()
    return video.frames


def _positive(number):
    """A number that a file claims, 0 where it is nonsense."""
    return number if 0 < number < 1e9 else 0
