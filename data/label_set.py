"""What label files of any format say, before it becomes a COCO-style annotation file."""
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from data.masks import Segmentation
from system.errors import UserError
from system.messages import one_line

SPLIT_NAMES = ('train', 'val', 'valid', 'test')  # of folders, one of each of which a dataset may have
LINES_PER_REASON = 5  # that name what is left out

LabelledObject = tuple[str, Segmentation]  # class name, and polygons or a compressed RLE


class LabelledImage(NamedTuple):
    """An image and its objects.

    Attributes:
        path: of the image.
        size: its height and width in pixels.
        objects: the labelled objects.
    """
    path: Path
    size: tuple[int, int]
    objects: list[LabelledObject]


class LeftOut(NamedTuple):
    """Something that is not converted. As a str it is a line for the user.

    Attributes:
        what: which file or shape, such as 'mine/one.json: shape 3'.
        why: the rest of the line, which is the same for all that are left out for one reason.
    """
    what: str
    why: str

    def __str__(self) -> str:
        return one_line(self.what + self.why)


class UnusableLabels(UserError):
    """Labels of an image that are wrong as a whole."""

    def __init__(self, what: object, why: str) -> None:
        """Arguments as of `LeftOut`."""
        super().__init__(f'{what}{why}')
        self.left_out = LeftOut(str(what), why)


class Split(NamedTuple):
    """The images of one annotation file.

    Attributes:
        folder: where they should be; file names are relative to it.
        images: the labelled images.
    """
    folder: Path
    images: list[LabelledImage]


@dataclass
class LabelSet:
    """A dataset as its label files have it.

    Attributes:
        splits: by name, such as 'train' and 'val'. The name of the only one is '' where the format has none.
        classes: the class names, in order; None for those that occur, sorted.
        left_out: what is left out.
        files: the files that were read, images aside.
    """
    splits: dict[str, Split]
    classes: list[str] | None = None
    left_out: list[LeftOut] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @property
    def inputs(self) -> Iterator[Path]:
        """All files that were read."""
        yield from self.files
        for split in self.splits.values():
            yield from (image.path for image in split.images)


def summarise(left_out: Iterable[LeftOut]) -> Iterator[str]:
    """Lines for what is left out, reason by reason: the first few things, and how many there are."""
    groups: dict[str, list[LeftOut]] = {}
    for one in left_out:
        groups.setdefault(one.why or one.what, []).append(one)
    for group in groups.values():
        yield from map(str, group[:LINES_PER_REASON])
        if len(group) > LINES_PER_REASON:
            yield f'… and {len(group) - LINES_PER_REASON} more for this reason, {len(group)} in all'
