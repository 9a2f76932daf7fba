"""Videos and cameras, frame by frame."""
import contextlib
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from data.images import ImageError
from system.files import replacing_path
from system.streams import silenced

SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv')
MAX_PIXELS = 178_000_000  # of a frame, as of an image
DEFAULT_FPS = 25.0  # of videos that do not say
COMPLETE = 0.9  # part of the promised frames from which a video is complete; many promise a few too many


class Video:
    """The frames of a video file, or of a camera.

    Attributes:
        fps: float, frames a second.
        frames: int, how many it says that there are, 0 where it does not.
        read: int, how many were read so far.
        ended: bool, whether there is no other one to read.
    """

    def __init__(self, source: int | Path) -> None:
        """
        Args:
            source: Path of a file, or int, the number of a camera.
        Raises:
            ImageError: it cannot be opened.
        """
        self.source, self.read, self.ended, self._time = source, 0, False, 0.0
        if not isinstance(source, int) and os.path.exists(source) and not os.path.isfile(source):
            raise ImageError(f'{source}: a pipe, a device or a folder; name a file')  # a pipe might never end
        self._capture = _open_capture(source if isinstance(source, int) else _opencv_name(source))
        if not self._capture.isOpened():
            raise ImageError(f'camera {source}: cannot be opened; is it there, and free?' if isinstance(source, int)
                             else f'{source}: not a video that can be read; convert it to .mp4 or copy it again')
        width, height = (self._capture.get(side) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > MAX_PIXELS:
            raise ImageError(f'{source}: frames of {width:.0f}x{height:.0f} pixels; make it smaller')
        self.fps = _plausible(self._capture.get(cv2.CAP_PROP_FPS)) or DEFAULT_FPS
        self.frames = int(_plausible(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[np.ndarray]:
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
    def cut(self) -> bool:
        """Whether it ended long before it should have, by its frames and by its time.

        Frames alone tell too little: where a file does not list them, their number is a guess from its time.
        """
        return self.ended and max(self.read, self._time * self.fps) < COMPLETE * self.frames

    def close(self) -> None:
        """Lets others have the camera."""
        self._capture.release()


class VideoWriter:
    """A video that takes its place when it is complete. It has no sound. A context manager.

    Args:
        path: ends in .mp4.
        fps: frames a second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps, self._written = path, fps, 0
        self._writer, self._replacing = cv2.VideoWriter(), contextlib.ExitStack()

    def __enter__(self) -> 'VideoWriter':
        return self

    def write(self, frame: np.ndarray) -> None:
        """Write a frame, uint8 [h, w, 3], BGR, of the size of the first one.

        Raises:
            ImageError: the video cannot be written.
        """
        if not self._written:
            self._open(frame.shape[1], frame.shape[0])
        self._writer.write(frame)
        self._written += 1

    def _open(self, width: int, height: int) -> None:
        with self._as_image_errors():
            self._part = self._replacing.enter_context(replacing_path(self._path, '.mp4'))
        codec = cv2.VideoWriter.fourcc(*'mp4v')
        # The format knows no fraction such as 66.6667, which the average rate of a phone's video may be.
        rates = self._fps, float(round(self._fps))
        backends, name = _file_backends(cv2.videoio_registry.getWriterBackends()), _opencv_name(self._part)
        if not any(self._writer.open(name, backend, codec, rate, (width, height))
                   for rate in rates for backend in backends):
            raise ImageError(f'{self._path}: a video of {self._fps:g} frames a second cannot be written there; convert '
                             'it to another rate, or name another folder')

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._writer.release()
        with self._as_image_errors(), self._replacing:
            if error is not None:
                raise error
            if self._written and _count_frames(self._part) != self._written:  # OpenCV says nothing of a full disk
                raise ImageError(f'{self._path}: cannot be written; check that its folder may be written to and has '
                                 'room')

    @contextlib.contextmanager
    def _as_image_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno is None:  # not the file system's but a GPU's, from the block
                raise
            raise ImageError(f'{self._path}: cannot be written ({error.strerror})') from error


def prefetch(frames: Iterable[np.ndarray], number: int) -> Iterator[np.ndarray]:
    """Frames, of which a thread reads a number ahead."""
    source = iter(frames)
    with ThreadPoolExecutor(1) as reader:
        waiting: deque[Future[np.ndarray | None]] = deque(reader.submit(next, source, None) for _ in range(number))
        while (frame := waiting.popleft().result()) is not None:
            waiting.append(reader.submit(next, source, None))
            yield frame


def has_screen() -> bool:
    """Whether a window could be shown."""
    return sys.platform in ('win32', 'darwin') or bool(os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY'))


def is_video(path: str | Path) -> bool:
    """Whether a file is a video, by its name."""
    return Path(path).suffix.lower() in SUFFIXES


def _open_capture(source: int | str) -> cv2.VideoCapture:
    """A capture of OpenCV, opened in silence: ImageError says it better."""
    with silenced():
        if isinstance(source, int):
            return cv2.VideoCapture(source)
        for backend in _file_backends(cv2.videoio_registry.getStreamBackends()):
            if (capture := cv2.VideoCapture(source, backend)).isOpened():
                break
        return capture


def _file_backends(backends: Iterable[int]) -> list[int]:
    """Those that take a file's name as it is. One takes %03d, or digits, for the pattern of a sequence of images."""
    return [backend for backend in backends if backend != cv2.CAP_IMAGES]


def _opencv_name(path: Path) -> str:
    """A path as OpenCV takes it, which ends the process over one that is not in UTF-8."""
    try:
        # Absolute, so that a name with a colon is no address.
        return os.path.abspath(path).encode('utf-8').decode()
    except UnicodeEncodeError:
        raise ImageError(f'{path}: a name that is not in UTF-8; rename it') from None


def _count_frames(path: Path) -> int:
    """How many frames a file that was just written has."""
    try:
        video = Video(path)
    except ImageError:
        return 0
    video.close()
    return video.frames


def _plausible(number: float) -> float:
    """A number that a file claims, 0 where it is nonsense."""
    return number if 0 < number < 1e9 else 0
