"""The masks of Pascal VOC (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf, section 7).

For each image there are two PNGs, whose palette indices are the number of the object in `SegmentationObject`, and its
class in `SegmentationClass`. 0 is background, and 255 is void: outlines and what is hard to tell. Files in
`ImageSets/Segmentation` list the images of each split. labelme and CVAT export such folders, too, with the class names
in `class_names.txt` and `labelmap.txt`; CVAT's PNGs have colours in place of a palette.
"""
import os
from pathlib import Path

import numpy as np

from data.images import SUFFIXES, ImageError, read_size, read_values
from data.label_set import LabelledImage, LabelledObject, LabelSet, LeftOut, Split, UnusableLabels
from data.masks import encode_pixels, regions
from system.errors import UserError
from system.files import is_inside
from system.limits import MAX_CLASS_LIST, MAX_LABEL_FILE, check_size
from system.progress import show_progress

IMAGES, OBJECTS, CLASSES, SPLITS = 'JPEGImages', 'SegmentationObject', 'SegmentationClass', 'ImageSets/Segmentation'
NAMES = ('aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow', 'diningtable', 'dog',
         'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor')  # from index 1 on
NO_CLASSES = ('background', '_background_', '__background__', '__ignore__', 'void', 'ignored')
VOID, VOID_CODE = 255, -1
BYTES = np.array([1 << 16, 1 << 8, 1], np.int32)  # red, green and blue in a colour's code
MAX_OBJECTS = 10_000  # in an image; one with more is a photograph, or was compressed with loss

ClassNames = dict[int, str]  # by palette index, or by colour, as of `_codes`


def is_voc(folder: Path) -> bool:
    """Whether a folder has the folders of Pascal VOC's masks."""
    return os.path.isdir(folder / IMAGES) and (os.path.isdir(folder / OBJECTS) or os.path.isdir(folder / CLASSES))


def read_voc(folder: Path) -> LabelSet:
    """Read a folder of images and masks.

    Raises:
        UserError: it is wrong as a whole.
    """
    for name in (OBJECTS, CLASSES):
        if not os.path.isdir(folder / name):
            raise UserError(f'{folder}: has no {name}; both {OBJECTS} and {CLASSES} are needed, as one tells the '
                            'objects apart and the other their classes')
    labels = LabelSet({})
    by_index, by_colour = _read_names(folder, labels.files)
    labels.classes = list(by_index.values())
    for split, ids in _read_splits(folder, labels.files).items():
        images = labels.splits[split] = Split(folder / IMAGES, [])
        for id in show_progress(ids, len(ids), 'images', 'reading'):
            try:
                images.images.append(_read_image(folder, id, by_index, by_colour, labels))
            except UnusableLabels as error:
                labels.left_out.append(error.left_out)
    return labels


def _read_names(folder: Path, files: list[Path]) -> tuple[ClassNames, ClassNames]:
    """The class names by palette index and by colour. Files that were read are added to `files`."""
    colours = colour_map()
    names = dict(enumerate(NAMES, 1))
    for path in (folder / 'labelmap.txt', folder / 'class_names.txt'):
        if not os.path.isfile(path):
            continue
        files.append(path)
        lines = [line for line in _read_lines(path, MAX_CLASS_LIST) if line[:1] not in ('', '#')]
        if path.name == 'labelmap.txt':
            colours = np.array([_read_colour(path, line) for line in lines])
        elif lines[:1] == ['__ignore__']:
            del lines[0]
        names = {index: name for index, line in enumerate(lines) if (name := line.split(':')[0]) not in NO_CLASSES}
        break
    if len(set(names.values())) < len(names):
        raise UserError(f'{files[0]}: names two classes alike; rename one')
    return names, {int(_codes(colours, True)[index]): name for index, name in names.items() if index < len(colours)}


def _read_colour(path: Path, line: str) -> np.ndarray:
    """The colour, uint8 [3], in a line of labelmap.txt: name:red,green,blue:parts:actions."""
    try:
        red, green, blue = map(int, line.split(':')[1].split(','))
        return np.array([red, green, blue], np.uint8)
    except (IndexError, ValueError, OverflowError):
        raise UserError(f'{path}: has a line without a name and a colour, {line[:60]!r}; correct it') from None


def colour_map() -> np.ndarray:
    """Pascal VOC's palette, uint8 [256, 3], RGB: an index's bits, three at a time, become the colours' highest ones."""
    indices = np.arange(256)
    colours = [sum((indices >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)]
    return np.stack(colours, 1).astype(np.uint8)


def _read_splits(folder: Path, files: list[Path]) -> dict[str, list[str]]:
    """The ids of the images of each split. Without lists, all that have masks are one."""
    lists = {path.stem: path for path in sorted((folder / SPLITS).glob('*.txt'))}
    if 'train' in lists or 'val' in lists:
        lists.pop('trainval', None)
    if not lists:
        return {'': sorted(path.stem for path in (folder / OBJECTS).glob('*.png'))}
    files += lists.values()
    splits = {name: [line for line in _read_lines(path, MAX_LABEL_FILE) if line] for name, path in lists.items()}
    return {'': splits['default']} if list(splits) == ['default'] else splits  # which is CVAT's only one


def _read_lines(path: Path, maximum: int) -> list[str]:
    try:
        check_size(path, maximum)
        return [line.strip() for line in path.read_bytes().decode('utf-8-sig', errors='replace').splitlines()]
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); check the path') from None


def _read_image(folder: Path, id: str, by_index: ClassNames, by_colour: ClassNames, labels: LabelSet) -> LabelledImage:
    """An image and its objects.

    Raises:
        UnusableLabels: the image or one of its masks is missing or wrong.
    """
    image = _find_image(folder / IMAGES, id)
    paths = [folder / name / f'{id}.png' for name in (OBJECTS, CLASSES)]
    for path in paths:
        if not os.path.isfile(path):
            raise UnusableLabels(image, f' is left out: it has no mask in {path.parent.name}')
    try:
        size = read_size(image)
        (objects, _), (classes, palette) = map(read_values, paths)
    except ImageError as error:
        raise UnusableLabels(error, '') from None
    labels.files += paths
    if not objects.shape[:2] == classes.shape[:2] == size:
        raise UnusableLabels(image, ' is left out: its masks are not as large as it is')
    if palette is not None and os.path.isfile(folder / 'labelmap.txt'):
        classes = palette[np.minimum(classes, len(palette) - 1)] if len(palette) else classes
    names = by_index if classes.ndim == 2 else by_colour
    return LabelledImage(image, size, _read_objects(paths[0], _codes(objects, objects.ndim == 3),
                                                         _codes(classes, classes.ndim == 3), names, labels))


def _find_image(folder: Path, id: str) -> Path:
    """The image of that id, whatever its suffix."""
    for suffix in SUFFIXES:
        path = folder / f'{id}{suffix}'
        if is_inside(path, folder) and os.path.isfile(path):
            return path
    raise UnusableLabels(folder / f'{id}.jpg', ' is left out: it is not there')


def _codes(values: np.ndarray, colours: bool) -> np.ndarray:
    """Palette indices as they are, and colours [..., 3] as 24-bit numbers, but void's as -1."""
    if colours:
        codes, void = values.astype(np.int32) @ BYTES, colour_map()[VOID] @ BYTES
    else:
        codes, void = values.astype(np.int32), VOID
    return np.where(codes == void, VOID_CODE, codes)


def _read_objects(path: Path, objects: np.ndarray, classes: np.ndarray, names: ClassNames,
                  labels: LabelSet) -> list[LabelledObject]:
    """The objects of an image. An object has the class that most of its pixels have.

    Args:
        path: of the mask of objects.
        objects: their codes, int32 [h, w].
        classes: the classes' codes, int32 [h, w].
        names: the classes' names by code.
    """
    if len(np.unique(objects)) > MAX_OBJECTS:
        raise UnusableLabels(path, f': has more than {MAX_OBJECTS} objects; give a mask that was saved without loss')
    found: list[LabelledObject] = []
    classes = classes.ravel('F')
    for number, pixels in regions(objects).items():
        if number in (0, VOID_CODE):
            continue
        code = _most_common(classes[pixels])
        if code in names:
            found.append((names[code], encode_pixels(pixels, (objects.shape[0], objects.shape[1]))))
        else:
            reason = f'its class, {code}, has no name' if code else 'it has no class'
            labels.left_out.append(LeftOut(f'{path}: object {number}', f' is left out: {reason}'))
    return found


def _most_common(codes: np.ndarray) -> int:
    """The code that most pixels have, of those that have a class; 0 if none has."""
    found, counts = np.unique(codes[(codes != 0) & (codes != VOID_CODE)], return_counts=True)
    return int(found[counts.argmax()]) if len(found) else 0
