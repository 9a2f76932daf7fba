"""The label format of VGG Image Annotator 2 (https://www.robots.ox.ac.uk/~vgg/software/via/): one JSON for all images.

It is either a project or what 'Export annotations (as json)' writes; version 1 wrote the same with regions in a
mapping. Images are named by their file names alone. A region may have several attributes, one of which is the class.
"""
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data.drawn_shapes import UnusableShape, ellipse, polygon, rectangle
from data.images import ImageError, read_size
from data.label_set import LabelledImage, LabelledObject, LabelSet, LeftOut, Split
from system.errors import UserError
from system.files import is_inside
from system.limits import MAX_JSON, check_size
from system.progress import show_progress

ONLY_CLASS = 'object'  # where no region has an attribute


def read_via(path: Path, images: Path | None = None, attribute: str | None = None,
             allow_outside: bool = False) -> LabelSet:
    """Read the labels of VGG Image Annotator.

    Args:
        path: of the file.
        images: the folder of images; None for that of the file.
        attribute: the name of the regions' attribute that is the class; None for the one that most regions have.
        allow_outside: whether images may be named that are not in the folder.
    Raises:
        UserError: the file is wrong as a whole.
    """
    content = _load(path)
    records = content.get('_via_img_metadata', content)
    try:
        regions = [(record['filename'], _regions(record)) for record in records.values()]
        attribute = attribute or _choose_attribute(path, [one for _, several in regions for one in several])
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f'{path}: is not of VGG Image Annotator 2 ({type(error).__name__}: {str(error)[:60]}); export '
                        'the annotations as JSON there') from None
    folder = images or path.parent
    folders = [folder, *_default_folder(content, folder)]
    labels = LabelSet({'': Split(folder, [])}, files=[path])
    for name, shapes in show_progress(regions, len(regions), 'images', 'reading'):
        try:
            image = _find_image(folders, name, None if allow_outside else folder)
            size = read_size(image)
        except ImageError as error:
            labels.left_out.append(LeftOut(str(error), ''))
        except ValueError as error:
            labels.left_out.append(LeftOut(f'{path}: {str(name)[:200]}', f' is left out: {error}'))
        else:
            objects = list(_read_objects(image, shapes, attribute, labels))
            labels.splits[''].images.append(LabelledImage(image, size, objects))
    return labels


def _load(path: Path) -> dict[str, Any]:
    """The file's top-level object."""
    try:
        check_size(path, MAX_JSON)
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); check the path') from None
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path}: is not JSON ({str(error)[:60]}); export it again') from None
    if not isinstance(content, dict):
        raise UserError(f'{path}: is not a JSON object; export the annotations as JSON from VGG Image Annotator 2')
    return content


def _regions(record: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The shape and the attributes of each region of an image."""
    regions = record['regions']
    return [(dict(region['shape_attributes']), dict(region['region_attributes']))
            for region in (regions.values() if isinstance(regions, dict) else regions)]


def _choose_attribute(path: Path, regions: list[tuple[dict[str, Any], dict[str, Any]]]) -> str | None:
    """The attribute that most regions have; None if no region has any."""
    counts = Counter(name for _, attributes in regions for name in attributes if _classes(attributes[name]))
    most = max(counts.values(), default=0)
    names = sorted(name for name, count in counts.items() if count == most)
    if len(names) > 1:
        raise UserError(f'{path}: its regions have several attributes, {", ".join(names)}; say which is the class: '
                        '--attribute')
    return names[0] if names else None


def _classes(value: Any) -> list[str]:
    """The classes that an attribute's value names: one, or those that are ticked of several."""
    if isinstance(value, dict):
        return [str(name) for name, ticked in value.items() if ticked]
    return [str(value).strip()] if isinstance(value, (str, int, float)) and str(value).strip() else []


def _default_folder(content: dict[str, Any], folder: Path) -> Iterator[Path]:
    """Where the project says that the images are."""
    try:
        yield folder / content['_via_settings']['core']['default_filepath']
    except (KeyError, TypeError):
        return


def _find_image(folders: list[Path], name: Any, within: Path | None) -> Path:
    """An image in one of the folders, which must be in another, if that is given.

    Raises:
        ValueError: it is not there. The message says what is wrong.
    """
    if not isinstance(name, str):
        raise ValueError('its name is not a text')
    for path in (folder / name for folder in folders):
        if os.path.isfile(path):
            if within and not is_inside(path, within):
                raise ValueError('it is out of the folder of images; allow that with --allow_outside')
            return path
    raise ValueError('it is not in the folder of images; name that with --images')


def _read_objects(image: Path, regions: list[tuple[dict[str, Any], dict[str, Any]]], attribute: str | None,
                  labels: LabelSet) -> Iterator[LabelledObject]:
    """The objects of an image. Regions that are left out are added to the labels."""
    for number, (shape, attributes) in enumerate(regions, 1):
        try:
            classes = _classes(attributes.get(attribute)) if attribute else [ONLY_CLASS]
            if len(classes) != 1:
                raise UnusableShape(f'its {attribute} names {"several classes" if classes else "no class"}')
            yield classes[0], [_polygon(shape)]
        except UnusableShape as error:
            labels.left_out.append(LeftOut(f'{image}: region {number}', f' is left out: {error}'))


def _polygon(shape: dict[str, Any]) -> np.ndarray:
    """A region's outline.

    Raises:
        UnusableShape: it has none.
    """
    kind = shape.get('name')
    try:
        if kind == 'rect':
            x, y = float(shape['x']), float(shape['y'])
            return rectangle(x, y, x + float(shape['width']), y + float(shape['height']))
        if kind in ('circle', 'ellipse'):
            radii = [float(shape[name]) for name in (('r', 'r') if kind == 'circle' else ('rx', 'ry'))]
            center = polygon([shape['cx'], shape['cy']])[0]
            return ellipse(center, (radii[0], radii[1]), float(shape.get('theta') or 0))
        if kind != 'polygon':
            raise UnusableShape(f'a {str(kind)[:30]} has no area')
        points = polygon(list(zip(shape['all_points_x'], shape['all_points_y'])))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UnusableShape('its shape lacks numbers') from None
    if len(points) < 3:
        raise UnusableShape('a polygon of less than 3 points has no area')
    return points
