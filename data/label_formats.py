"""Recognising the format of labels.

The libraries that convert between such formats are not used: datumaro and FiftyOne need dozens of packages, of which
datumaro's exclude OpenCV 5, and FiftyOne a database; supervision and PyLabel trace masks as polygons, which loses
holes. None of them says what it leaves out.
"""
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from data.label_set import SPLIT_NAMES, LabelSet
from data.labelme import read_labelme_files
from data.via import read_via
from data.voc import is_voc, read_voc
from data.yolo_labels import find_data_yaml, read_yolo
from system.errors import UserError

HEAD = 4096  # bytes of a JSON file that tell its format
OWN_COCO = re.compile(r'\{"(images|annotations)": \[')  # how the files begin that tools.convert and demo.py write
COCO = re.compile(r'\s*\{\s*"(images|annotations|categories|info|licenses)"\s*:')
VIA = re.compile(r'\s*\{\s*("_via_\w+"\s*:|"[^"]*"\s*:\s*\{\s*"(filename|file_attributes|regions)"\s*:)')
LABELME = re.compile(r'(?s)\s*\{.*"(shapes|imagePath|version)"\s*:')
RECOGNISED = ("labelme's JSON files, a data.yaml of YOLO or a folder with images, labels and classes.txt, a folder "
              'with JPEGImages, SegmentationObject and SegmentationClass (Pascal VOC), JSON of VGG Image Annotator 2')


@dataclass(frozen=True)
class Options:
    """What the user may say about labels.

    Attributes:
        images: the folder of images, where the labels do not say it.
        attribute: as of `read_via`.
        allow_outside: whether files may be read that are not in the folder of labels or of images.
    """
    images: Path | None = None
    attribute: str | None = None
    allow_outside: bool = False


Reader = Callable[[Options], LabelSet]


def recognise(path: Path) -> Reader:
    """What reads the labels at a path, a file or a folder. Folders in it that are named as splits may have labels each.

    Raises:
        UserError: nothing is recognised there, or it needs no conversion.
    """
    if not os.path.exists(path):
        raise UserError(f'{path}: is not there; check the path')
    reader = (_recognise_folder if os.path.isdir(path) else _recognise_file)(path)
    if reader:
        return reader
    folders = [path / name for name in SPLIT_NAMES if os.path.isdir(path / name)]
    readers = {folder.name: one for folder in folders if (one := _recognise_folder(folder))}
    if not readers:
        raise UserError(f'{path}: is not recognised; give {RECOGNISED}')
    return lambda options: _read_splits(readers, options)


def _recognise_folder(folder: Path) -> Reader | None:
    """What reads the labels of a folder; None if it has none."""
    data_yaml = find_data_yaml(folder)
    if data_yaml:
        return lambda options: read_yolo(data_yaml, options.allow_outside)
    if is_voc(folder):
        return lambda options: read_voc(folder)
    if os.path.isdir(folder / 'images') and os.path.isdir(folder / 'labels'):
        return lambda options: read_yolo(folder)
    paths = [path for path in sorted(folder.glob('*.json')) if not OWN_COCO.match(_head(path))]
    of_via = [path for path in paths if VIA.match(_head(path))]
    if of_via and len(of_via) == len(paths):
        if len(of_via) > 1:
            raise UserError(f'{folder}: has several files of VGG Image Annotator; give one of them')
        return _recognise_file(of_via[0])
    of_coco = [path for path in paths if COCO.match(_head(path))]
    if of_coco and len(of_coco) == len(paths):
        raise _needs_no_conversion(of_coco[0])
    return (lambda options: read_labelme_files(paths, folder, options.images)) if paths else None


def _recognise_file(path: Path) -> Reader | None:
    """What reads a file of labels; None if it is not one."""
    head = _head(path)
    if path.suffix.lower() in ('.yaml', '.yml'):
        return lambda options: read_yolo(path, options.allow_outside)
    if VIA.match(head):
        return lambda options: read_via(path, options.images, options.attribute, options.allow_outside)
    if COCO.match(head):
        raise _needs_no_conversion(path)
    if LABELME.match(head):
        return lambda options: read_labelme_files([path], path.parent, options.images)
    return None


def _needs_no_conversion(path: Path) -> UserError:
    return UserError(f'{path}: is a COCO-style annotation file already; give it to train.py as it is: '
                     f'--train_anno_path={path}')


def _head(path: Path) -> str:
    """How a file begins; nothing if it cannot be read, as whatever reads the whole file says why."""
    if not os.path.isfile(path):
        return ''
    try:
        with path.open('rb') as file:
            return file.read(HEAD).decode('utf-8-sig', errors='replace')
    except OSError:
        return ''


def _read_splits(readers: dict[str, Reader], options: Options) -> LabelSet:
    """Read folders, each of which is a split of a dataset."""
    whole = LabelSet({})
    for name, reader in readers.items():
        images = options.images / name if options.images and os.path.isdir(options.images / name) else options.images
        labels = reader(replace(options, images=images))
        if labels.classes is not None and whole.splits and labels.classes != whole.classes:
            raise UserError(f'{name}: its classes are not those of the other folders; make them the same')
        whole.classes = labels.classes
        whole.splits[name] = next(iter(labels.splits.values()))
        whole.left_out += labels.left_out
        whole.files += labels.files
    return whole
