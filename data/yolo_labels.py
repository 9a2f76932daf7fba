"""The label format of YOLO segmentation (https://docs.ultralytics.com/datasets/segment/): a text file for each image.

A line is an object: the number of its class, and the x and y of its outline's points as fractions of the image's width
and height. A file `data.yaml` names the classes and the folders of images; without it `classes.txt` does, beside the
folders `images` and `labels`.
"""
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import yaml

from data.images import SUFFIXES, ImageError, read_size
from data.label_set import SPLIT_NAMES, LabelledImage, LabelledObject, LabelSet, LeftOut, Split
from system.errors import UserError
from system.files import is_inside
from system.limits import MAX_CLASS_LIST, MAX_LABEL_FILE, check_size
from system.progress import show_progress

SPLIT_KEYS = ('train', 'val', 'test')  # of data.yaml
OUTSIDE = 1  # a point may be this many widths or heights out of the image; if it is farther, its unit is another
BOX_NUMBERS = 5  # of a line that is a class and a box

Names = dict[int, str]  # class names by their number


def find_data_yaml(folder: Path) -> Path | None:
    """The data.yaml of a folder, whatever its name if it is the only YAML file; None without one."""
    found = sorted(path for suffix in ('yaml', 'yml') for path in folder.glob(f'*.{suffix}'))
    named = [path for path in found if path.stem == 'data']
    return named[0] if named else found[0] if len(found) == 1 else None


def read_yolo(path: Path, allow_outside: bool = False) -> LabelSet:
    """Read the labels that a data.yaml leads to, or those of a folder with images, labels and classes.txt.

    Args:
        path: of the file or the folder.
        allow_outside: whether data.yaml may name folders that are not in its own.
    Raises:
        UserError: it is wrong as a whole.
    """
    if os.path.isdir(path):
        names, sources, files = _read_folder(path)
        labels, root = LabelSet({}, files=files), path
    else:
        content = _load_yaml(path)
        names, root = _read_names(path, content.get('names')), path.parent
        labels = LabelSet({}, files=[path])
        sources = _sources(path, content, labels, allow_outside)
    labels.classes = list(names.values())
    for split, places in sources.items():
        images = list(_list_images(places, root, allow_outside, labels))
        labels.splits[split] = Split(places[0] if len(places) == 1 and os.path.isdir(places[0]) else root, [])
        for image in show_progress(images, len(images), 'images', 'reading'):
            _read_labels(image, names, labels, labels.splits[split].images)
    return labels


def _read_folder(folder: Path) -> tuple[Names, dict[str, list[Path]], list[Path]]:
    """The class names of a folder without data.yaml, its folders of images by split, and the files that were read."""
    lists = [path for path in (folder / 'classes.txt', folder / 'labels/classes.txt') if os.path.isfile(path)]
    if not lists:
        raise UserError(f'{folder}: has images and labels, but neither data.yaml nor classes.txt; '
                        'add classes.txt with the name of a class in each line')
    images = folder / 'images'
    subfolders = [name for name in SPLIT_NAMES if os.path.isdir(images / name)]
    sources = {name: [images / name] for name in subfolders} or {'': [images]}
    lines = _read_text(lists[0], MAX_CLASS_LIST).splitlines()
    return _read_names(lists[0], [line.strip() for line in lines if line.strip()]), sources, lists


def _load_yaml(path: Path) -> dict[str, Any]:
    """The content of data.yaml. The loader makes nothing but plain values of it."""
    text = _read_text(path, MAX_CLASS_LIST)
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = getattr(error, 'problem', None) or type(error).__name__
        raise UserError(f'{path}: is not YAML ({reason}); correct it') from None
    if not isinstance(content, dict) or 'names' not in content:
        raise UserError(f"{path}: has no names of classes, as a YOLO dataset's data.yaml has; add them")
    return content


def _read_text(path: Path, maximum: int) -> str:
    """A file's text, in which bytes that are not UTF-8 are replaced."""
    try:
        check_size(path, maximum)
        return path.read_bytes().decode('utf-8-sig', errors='replace')
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); check the path') from None


def _read_names(path: Path, names: Any) -> Names:
    """Class names by number, from a list or a mapping."""
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not (isinstance(names, dict) and names and all(type(number) is int and isinstance(name, (str, int, float))
                                                      for number, name in names.items())):
        raise UserError(f'{path}: its names are neither a list of class names nor a mapping from numbers to them; '
                        'correct it')
    names = {number: str(names[number]) for number in sorted(names)}
    if len(set(names.values())) < len(names):
        raise UserError(f'{path}: names two classes alike; rename one')
    return names


def _sources(path: Path, content: dict[str, Any], labels: LabelSet, allow_outside: bool) -> dict[str, list[Path]]:
    """The folders and lists of images that data.yaml names, by split. What is not there is left out."""
    root = path.parent / str(content.get('path') or '')
    if not os.path.isdir(root):
        root = path.parent  # Ultralytics looks in a folder of all its datasets, too
    sources: dict[str, list[Path]] = {}
    for split in SPLIT_KEYS:
        named = content.get(split) or []
        for name in named if isinstance(named, list) else [named]:
            if not isinstance(name, str):
                raise UserError(f'{path}: its {split} is not the name of a folder; correct it')
            place = _find(root, name)
            if not os.path.exists(place):
                labels.left_out.append(LeftOut(f'{path}: its {split} images, {place},', ' are not there'))
                continue
            if not allow_outside and not is_inside(place, path.parent):
                raise UserError(f'{path}: its {split} images, {place}, are out of its folder; '
                                'allow that with --allow_outside')
            sources.setdefault(split, []).append(place)
    if not sources:
        raise UserError(f'{path}: none of the folders that it names as train, val and test is there; correct it')
    return sources


def _find(root: Path, name: str) -> Path:
    """A place that data.yaml names. Roboflow writes '../train/images' for a folder beside data.yaml."""
    place = Path(os.path.normpath(root / PureWindowsPath(name).as_posix()))
    beside = root / name.removeprefix('../')
    return beside if not os.path.exists(place) and os.path.exists(beside) else place


def _list_images(places: list[Path], root: Path, allow_outside: bool, labels: LabelSet) -> Iterator[Path]:
    """The images in folders and their subfolders, and those that text files list."""
    for place in places:
        if os.path.isdir(place):
            yield from sorted(path for path in place.rglob('*')
                              if path.suffix.lower() in SUFFIXES and not path.name.startswith('.'))
            continue
        labels.files.append(place)
        for line in _read_text(place, MAX_LABEL_FILE).splitlines():
            if not line.strip():
                continue
            image = place.parent / PurePosixPath(line.strip())
            if allow_outside or is_inside(image, root):
                yield Path(os.path.normpath(image))
            else:
                labels.left_out.append(LeftOut(f'{place}: {line.strip()}', ' is left out: out of the folder of '
                                                                           'data.yaml; allow it with --allow_outside'))


def _read_labels(image: Path, names: Names, labels: LabelSet, images: list[LabelledImage]) -> None:
    """Add an image and its objects. An image without a label file has none."""
    try:
        size = read_size(image)
    except ImageError as error:
        labels.left_out.append(LeftOut(str(image), str(error).removeprefix(str(image))))
        return
    path, objects = _label_file(image), []
    if os.path.lexists(path):
        labels.files.append(path)
        for number, line in enumerate(_read_text(path, MAX_LABEL_FILE).splitlines(), 1):
            if line.strip():
                try:
                    objects.append(_read_line(line, names, size))
                except ValueError as error:
                    labels.left_out.append(LeftOut(f'{path}: line {number}', f' is left out: {error}'))
    images.append(LabelledImage(image, size, objects))


def _label_file(image: Path) -> Path:
    """Where the labels of an image are: in the folder `labels` in place of `images`, if it is in such a folder."""
    *folders, name = image.parts
    if 'images' in folders:
        folders[len(folders) - 1 - folders[::-1].index('images')] = 'labels'
    return Path(*folders, name).with_suffix('.txt')


def _read_line(line: str, names: Names, size: tuple[int, int]) -> LabelledObject:
    """An object.

    Raises:
        ValueError: the line is wrong. The message says why.
    """
    try:
        values = np.array(line.split(), np.float64)
    except ValueError:
        raise ValueError('it is not numbers alone') from None
    if len(values) == BOX_NUMBERS:
        raise ValueError('it is a box, which has no outline')
    if len(values) < 7 or len(values) % 2 == 0:
        raise ValueError('it is not a class and the x and y of three points or more')
    if values[0] not in names:
        raise ValueError(f'its class, {line.split()[0][:20]}, has no name')
    points = values[1:].reshape(-1, 2)
    if not (np.abs(points - 0.5) <= 0.5 + OUTSIDE).all():  # NaN is not either
        raise ValueError("its points are not fractions of the image's width and height")
    return names[int(values[0])], [points * size[::-1]]
