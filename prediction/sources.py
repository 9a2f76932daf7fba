"""Sources of images: files, folders, glob patterns, videos, cameras."""
import glob
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from data.images import ImageError, find_images
from prediction.video import is_video

MAX_CAMERA_DIGITS = 4
_ADDRESS = re.compile('([a-z]{2,}):/+(.*)', re.IGNORECASE)  # Path makes one slash of two; C:/ is a drive


@dataclass
class Sources:
    """Sources by kind.

    Attributes:
        images: list of Path.
        videos: list of Path.
        cameras: list of int, their numbers.
    """
    images: list[Path] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)
    cameras: list[int] = field(default_factory=list)

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return self.images + self.videos


def find_sources(names: Iterable[str | Path]) -> Sources:
    """The sources that names stand for.

    Args:
        names: list of str or Path: an image or a video, a folder of them, a pattern (a/*.jpg), or a camera's number.
    Returns:
        `Sources`, in the order of the names, and by name within each.
    Raises:
        ImageError: there is nothing of that name, or it is the address of a page.
    """
    found = Sources()
    for name in map(str, names):
        if name.isdecimal() and not os.path.exists(name):
            if len(name) > MAX_CAMERA_DIGITS:
                raise ImageError(f'{name[:20]}: no camera has such a number; name one, such as 0')
            found.cameras.append(int(name))
            continue
        if (address := _ADDRESS.match(name)) and not os.path.lexists(name):
            raise ImageError(f'{address[1]}://{address[2]}: addresses are not taken; download the file first, and '
                             'name that')
        matches = [name] if os.path.lexists(name) else sorted(glob.glob(name, recursive=True))
        if not matches and glob.has_magic(name):
            raise ImageError(f'{name}: no file has such a name')
        for match in matches or [name]:
            _add(Path(match), found)
    found.images, found.videos = _distinct(found.images), _distinct(found.videos)
    return found


def _distinct(paths: list[Path]) -> list[Path]:
    """Paths without those that name an earlier file in another way. A link is a file of its own."""
    first: dict[tuple[str, str], Path] = {}
    for path in paths:
        first.setdefault((os.path.realpath(path.parent), path.name), path)
    return list(first.values())


def _add(path: Path, found: Sources) -> None:
    if is_video(path) and not os.path.isdir(path):
        found.videos.append(path)
        return
    images = find_images(path)
    entries = sorted(path.iterdir()) if os.path.isdir(path) else []
    videos = [entry for entry in entries if is_video(entry) and not os.path.isdir(entry)]
    if not images and not videos:
        raise ImageError(f'{path}: no images in this folder; put some there, or name another with --images')
    found.images += images
    found.videos += videos
