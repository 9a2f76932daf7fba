"""Which images are near copies of one another: by name, as augmentation tools write them, or by what they look like.

Two images look alike if their thumbnails correlate, one of them possibly mirrored or turned by quarter turns. A
correlation does not see brightness and contrast, and a thumbnail neither blur, noise nor compression.
"""
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from data.images import read_image

THUMBNAIL_SIDE = 32  # pixels
SIMILARITY = 0.93  # correlation of two thumbnails, above which they show the same
_COARSE_SIDE = 8  # pixels; of the thumbnails that are compared first
_COARSE_MARGIN = 0.05  # what a correlation of coarse thumbnails may be below one of fine ones
_BLOCK = 512  # images compared with as many others at a time, which bounds the memory
_MIN_CONTRAST = 1.0  # grey levels, standard deviation of a thumbnail; an empty image looks like any other
_ROBOFLOW_NAME = re.compile(r'(.+)_(\w+)\.rf\.[0-9A-Za-z_-]+\.\w+')


def original_path(path: Path) -> Path:
    """The image that a copy by Roboflow is of: a/cat.jpg for a/cat_jpg.rf.0a1b2c.jpg. Others are their own."""
    match = _ROBOFLOW_NAME.fullmatch(path.name)
    return path.with_name(f'{match[1]}.{match[2]}') if match else path


def read_thumbnail(path: Path) -> np.ndarray:
    """A thumbnail of an image.

    Raises:
        ImageError: the file cannot be read.
    """
    return thumbnail(read_image(path))


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """The thumbnail of an image, uint8 [h, w, 3], BGR: float32 [32, 32], grey levels."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


def similar_pairs(thumbnails: np.ndarray, similarity: float = SIMILARITY) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of thumbnails that correlate by more than a threshold.

    All are compared, most of them by 8x8 pixels only. On two cores, 10,000 images of different things take a quarter of
    a minute, and of the same thing, as a fixed camera takes them, a minute; ten times as many a hundred times as long.

    Args:
        thumbnails: float32 [n, 32, 32], grey levels.
        similarity: -1 to 1.
    Yields:
        int64 [m] and int64 [m], the smaller index first; a pair may be there more than once.
    """
    fine = _normalized(thumbnails)
    coarse = _normalized(_shrink(thumbnails))
    for turned in _symmetries(thumbnails):
        turned_fine, turned_coarse = _normalized(turned), _normalized(_shrink(turned))
        for top in range(0, len(fine), _BLOCK):
            for left in range(top, len(fine), _BLOCK):
                close = coarse[top:top + _BLOCK] @ turned_coarse[left:left + _BLOCK].T > similarity - _COARSE_MARGIN
                rows, columns = top + np.flatnonzero(close.any(1)), left + np.flatnonzero(close.any(0))
                if len(rows):
                    i, j = np.nonzero(fine[rows] @ turned_fine[columns].T > similarity)
                    ordered = rows[i] < columns[j]
                    yield rows[i[ordered]], columns[j[ordered]]


def group_near_copies(paths: Sequence[Path], thumbnails: Sequence[np.ndarray | None],
                      similarity: float = SIMILARITY) -> np.ndarray:
    """The groups of images that are near copies of one another, directly or by way of others.

    Args:
        paths: of the images.
        thumbnails: float32 [32, 32] each; None for images that are grouped by name only.
        similarity: as of `similar_pairs`.
    Returns:
        int64 [n], the group of each image, from 0, in the order of their first images.
    """
    parents = list(range(len(paths)))
    first: dict[Path, int] = {}
    for i, path in enumerate(paths):
        _join(parents, first.setdefault(original_path(path), i), i)
    readable = np.array([i for i, one in enumerate(thumbnails) if one is not None], np.int64)
    if len(readable):
        stacked = np.stack([one for one in thumbnails if one is not None])
        for rows, columns in similar_pairs(stacked, similarity):
            for i, j in zip(readable[rows].tolist(), readable[columns].tolist()):
                _join(parents, i, j)
    _, starts, groups = np.unique([_root(parents, i) for i in range(len(paths))], return_index=True,
                                  return_inverse=True)
    return np.argsort(np.argsort(starts))[groups]


def _normalized(images: np.ndarray) -> np.ndarray:
    """Float32 [n, pixels], whose dot products are the correlations of images, [n, side, side]; 0 of empty ones."""
    pixels = images.reshape(len(images), -1)
    centred = pixels - pixels.mean(1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    empty = norms < _MIN_CONTRAST * np.sqrt(pixels.shape[1])
    return np.where(empty, 0, centred / np.where(empty, 1, norms)).astype(np.float32)


def _shrink(thumbnails: np.ndarray) -> np.ndarray:
    factor = THUMBNAIL_SIDE // _COARSE_SIDE
    return thumbnails.reshape(-1, _COARSE_SIDE, factor, _COARSE_SIDE, factor).mean((2, 4))


def _symmetries(images: np.ndarray) -> Iterator[np.ndarray]:
    """The images, [n, side, side], in each of the eight ways that a square can be mirrored and turned."""
    for mirrored in (images, images[:, :, ::-1]):
        for quarter_turns in range(4):
            yield np.rot90(mirrored, quarter_turns, (1, 2))


def _root(parents: list[int], i: int) -> int:
    """The first member of the set that i is in (disjoint sets, with path halving)."""
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


def _join(parents: list[int], i: int, j: int) -> None:
    a, b = sorted((_root(parents, i), _root(parents, j)))
    parents[b] = a
