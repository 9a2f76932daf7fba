"""Masks with holes and parts, written in another format and converted, are the same masks again."""
import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.coco import CocoDataset
from data.masks import rasterise
from data.polygons import polygons
from data.voc import colour_map
from system.command import exit_status
from tests.helpers.labelme import shape, write_labelme
from tools.convert import main

SIZE = (40, 60)  # of the images, height and width


def ring_and_blob() -> np.ndarray:
    """A mask of two parts, one of which has a hole."""
    mask = np.zeros(SIZE, bool)
    mask[3:20, 5:25] = True
    mask[8:12, 10:18] = False
    mask[25:33, 40:52] = True
    return mask


def bar() -> np.ndarray:
    """A mask without holes, at the border of the image."""
    mask = np.zeros(SIZE, bool)
    mask[20:40, 0:9] = True
    return mask


def save(path: Path, image: np.ndarray, palette: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = Image.fromarray(image)
    if palette is not None:
        saved.putpalette(palette.tobytes())
    saved.save(path)
    return path


def photo(path: Path) -> Path:
    return save(path, np.zeros((*SIZE, 3), np.uint8))


def found(annotations: Path, images: Path) -> dict[str, list[tuple[str, np.ndarray]]]:
    """The classes and masks of a converted file, by image, read without --allow_outside."""
    dataset = CocoDataset(annotations, images)
    assert not dataset.warnings
    return {image.path.relative_to(images).as_posix(): [
        (dataset.classes.names[label], rasterise(segmentation, SIZE))
        for label, segmentation in zip(dataset.objects(i).labels, dataset.objects(i).segmentations)]
        for i, image in enumerate(dataset.images)}


def same(objects: list[tuple[str, np.ndarray]], *expected: tuple[str, np.ndarray]) -> bool:
    return (sorted(name for name, _ in objects) == sorted(name for name, _ in expected)
            and all(any(name == other and np.array_equal(mask, truth) for other, truth in expected)
                    for name, mask in objects))


def png_in_base64(mask: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(stream, 'PNG')
    return base64.b64encode(stream.getvalue()).decode()


# labelme


def test_masks_of_labelme_come_back_to_the_pixel(tmp_path):
    ring = ring_and_blob()
    write_labelme(tmp_path, shape('ring', [(5, 3), (51, 32)], shape_type='mask', mask=png_in_base64(ring[3:33, 5:52])),
                  shape('ring', [(0, 20), (8, 39)], shape_type='mask', mask=png_in_base64(bar()[20:40, 0:9])))
    assert main([str(tmp_path), str(tmp_path / 'out.json')]) == 0
    assert same(found(tmp_path / 'out.json', tmp_path)['one.png'], ('ring', ring), ('ring', bar()))


def test_a_mask_and_a_polygon_of_one_group_are_one_object(tmp_path):
    ring = ring_and_blob()
    encoded = png_in_base64(ring[3:33, 5:52])
    write_labelme(tmp_path, shape('ring', [(5, 3), (51, 32)], shape_type='mask', mask=encoded, group_id=4),
                  shape('ring', [(0, 20), (9, 20), (9, 40), (0, 40)], group_id=4))
    assert main([str(tmp_path), str(tmp_path / 'out.json')]) == 0
    assert same(found(tmp_path / 'out.json', tmp_path)['one.png'], ('ring', ring | bar()))


def test_a_mask_that_goes_beyond_the_image_is_clipped(tmp_path):
    write_labelme(tmp_path, shape('bar', [(-3, 20), (8, 45)], shape_type='mask',
                                  mask=png_in_base64(np.ones((26, 12), bool))))
    assert main([str(tmp_path), str(tmp_path / 'out.json')]) == 0
    assert same(found(tmp_path / 'out.json', tmp_path)['one.png'], ('bar', bar()))


@pytest.mark.parametrize(('mask', 'points', 'reason'), [
    ('!', [(0, 0), (3, 3)], 'its mask is not a PNG in base64'), (None, [(0, 0), (3, 3)], 'its mask is not a PNG'),
    (png_in_base64(np.ones((4, 4))), [(0, 0), (4, 4)], 'its mask is not as large as its box'),
    (png_in_base64(np.ones((4, 4))), [(0, 0)], 'its mask is not as large as its box'),
    (png_in_base64(np.zeros((4, 4))), [(0, 0), (3, 3)], 'its mask is empty'),
    (png_in_base64(np.ones((4, 4))), [(90, 90), (93, 93)], 'its mask is empty')])
def test_a_mask_that_cannot_be_used_is_left_out_with_a_line(tmp_path, capsys, mask, points, reason):
    write_labelme(tmp_path, shape('x', points, shape_type='mask', mask=mask), shape())
    assert main([str(tmp_path), str(tmp_path / 'out.json')]) == 1
    assert f'one.json: shape 1 is left out: {reason}' in capsys.readouterr().err
    assert len(found(tmp_path / 'out.json', tmp_path)['one.png']) == 1


def test_images_beside_the_folder_of_labels_need_no_flag_to_train_on(tmp_path, capsys):
    (tmp_path / 'labels').mkdir()
    photo(tmp_path / 'images/a.png')
    write_labelme(tmp_path / 'labels', shape(), imagePath='..\\images\\a.png')
    assert main([str(tmp_path / 'labels'), str(tmp_path / 'out.json')]) == 0
    assert list(found(tmp_path / 'out.json', tmp_path / 'images')) == ['a.png']
    assert f'--train_images_path={tmp_path}/images --train_anno_path={tmp_path}/out.json' in capsys.readouterr().out


def test_a_single_image_out_of_the_folder_needs_allow_outside(tmp_path, capsys):
    (tmp_path / 'mine').mkdir()
    photo(tmp_path / 'secret/a.png')
    write_labelme(tmp_path / 'mine', shape())
    write_labelme(tmp_path / 'mine', shape(), name='two.json', imagePath='../secret/a.png')
    flags = [str(tmp_path / 'mine'), str(tmp_path / 'out.json')]
    assert main(flags) == 1
    assert 'secret/a.png is left out: it is out of the folder of images' in capsys.readouterr().err
    assert list(found(tmp_path / 'out.json', tmp_path / 'mine')) == ['one.png']
    assert main([*flags, '--allow_outside']) == 0
    assert len(CocoDataset(tmp_path / 'out.json', tmp_path / 'mine', allow_outside=True)) == 2


# YOLO


def write_yolo(root: Path, split: str, name: str, *objects: tuple[int, np.ndarray], layout: str = '{kind}/{split}'):
    """An image and its label file. A mask of several parts, or with a hole, becomes a line for each of its polygons."""
    photo(root / layout.format(kind='images', split=split) / f'{name}.png')
    lines = [f'{number} ' + ' '.join(f'{value:.9f}' for value in (outline / SIZE[::-1]).ravel())
             for number, mask in objects for outline in polygons(mask, tolerance=0)]
    path = root / layout.format(kind='labels', split=split) / f'{name}.txt'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(lines) + '\n')
    return path


@pytest.mark.parametrize('layout', ['{kind}/{split}', '{split}/{kind}'])
@pytest.mark.parametrize('names', ['[cat, bar]', '{0: cat, 1: bar}'])
def test_outlines_of_yolo_come_back_to_the_pixel(tmp_path, capsys, layout, names):
    for split in ('train', 'val'):
        write_yolo(tmp_path / 'y', split, split, (1, bar()), layout=layout)
    photo(tmp_path / 'y' / layout.format(kind='images', split='train') / 'empty.png')
    up = '../' if layout.startswith('{split}') else ''  # as Roboflow has it
    (tmp_path / 'y/data.yaml').write_text(''.join(f'{split}: {up}{layout.format(kind="images", split=split)}\n'
                                                  for split in ('train', 'val')) + f'test:\nnames: {names}\n')
    assert main([str(tmp_path / 'y'), str(tmp_path / 'out')]) == 0
    printed = capsys.readouterr().out
    for split in ('train', 'val'):
        images = tmp_path / 'y' / layout.format(kind='images', split=split)
        by_name = found(tmp_path / f'out/{split}.json', images)
        assert same(by_name[f'{split}.png'], ('bar', bar()))
        assert f'--{"valid" if split == "val" else "train"}_images_path={images} ' in printed
    assert found(tmp_path / 'out/train.json', tmp_path / 'y' / layout.format(kind='images', split='train'))[
        'empty.png'] == []
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['train.json', 'val.json']


def test_a_zero_width_bridge_of_yolo_joins_parts(tmp_path):
    line = '0 ' + ' '.join(f'{value:.9f}' for value in (np.array(
        [(5, 5), (15, 5), (15, 10), (30, 10), (30, 5), (40, 5), (40, 15), (30, 15), (30, 10), (15, 10), (15, 15),
         (5, 15)]) / SIZE[::-1]).ravel())
    write_yolo(tmp_path, '.', 'a').write_text(line)
    (tmp_path / 'classes.txt').write_text('cat\n')
    assert main([str(tmp_path), str(tmp_path / 'out.json')]) == 0
    mask = np.zeros(SIZE, bool)
    mask[5:15, 5:15] = mask[5:15, 30:40] = True
    assert same(found(tmp_path / 'out.json', tmp_path / 'images')['a.png'], ('cat', mask))


def test_lines_of_yolo_that_are_no_outlines_are_counted(tmp_path, capsys):
    write_yolo(tmp_path, '.', 'a', (0, bar())).write_text(
        '0 0.5 0.5 0.1 0.1\n' * 7 + 'x\n1 0 0 1 1\n5 0 0 1 0 1 1\n0 0 0 30 0 30 30\n0 nan 0 1 0 1 1\n\n0 0 0 1 0 1 1\n')
    (tmp_path / 'classes.txt').write_text('cat\n')
    assert main([str(tmp_path), str(tmp_path / 'out.json')]) == 1
    err = capsys.readouterr().err
    assert 'a.txt: line 1 is left out: it is a box, which has no outline\n' in err
    assert '… and 3 more for this reason, 8 in all\n' in err
    for reason in ('it is not numbers alone', 'its class, 5, has no name', 'are not fractions of the image'):
        assert reason in err
    assert len(found(tmp_path / 'out.json', tmp_path / 'images')['a.png']) == 1


@pytest.mark.parametrize(('text', 'reason'), [
    ('train: ../../away\nnames: [a]', 'are out of its folder; allow that with --allow_outside'),
    ('train: !!python/object/apply:os.system [ls]\nnames: [a]', 'is not YAML'), ('[' * 50_000, 'is not YAML'),
    ('train: images\nnames: [a, a]', 'names two classes alike'), ('train: images\nnames: 3', 'its names are neither'),
    ('train: images', 'has no names of classes'), ('train: gone\nnames: [a]', 'none of the folders'),
    ('a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\ntrain: images', 'its names are neither'),
    ('train: 2020-99-99\nnames: [a]', 'is not YAML'), ('train: 3\nnames: [a]', 'is not the name of a folder')])
def test_a_data_yaml_that_is_wrong_is_refused_in_a_line(tmp_path, capsys, text, reason):
    (tmp_path / 'away').mkdir()
    photo(tmp_path / 'a/b/images/x.png')
    (tmp_path / 'a/b/data.yaml').write_text(text)
    assert exit_status(main, [str(tmp_path / 'a/b/data.yaml'), str(tmp_path / 'out')]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert 'data.yaml: ' in line and reason in line


# Pascal VOC


def write_voc(root: Path, id: str, objects: list[tuple[int, np.ndarray]], colours: bool = False) -> None:
    """An image and its masks of objects and classes, with void around an object."""
    by_object, by_class = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    by_object[0, :] = by_class[0, :] = 255
    for number, (label, mask) in enumerate(objects, 1):
        by_object[mask], by_class[mask] = number, label
    photo(root / f'JPEGImages/{id}.jpg')
    for name, values in (('Object', by_object), ('Class', by_class)):
        path = root / f'Segmentation{name}/{id}.png'
        save(path, colour_map()[values]) if colours else save(path, values, colour_map())


@pytest.mark.parametrize('colours', [False, True])
def test_masks_of_voc_come_back_to_the_pixel(tmp_path, colours):
    for id in ('2007_1', '2007_2', '2007_3'):
        write_voc(tmp_path / 'v', id, [(8, ring_and_blob()), (15, bar())], colours)
    for split, ids in (('train', '2007_1'), ('val', '2007_2\n2007_3'), ('trainval', '2007_1\n2007_2\n2007_3')):
        path = tmp_path / f'v/ImageSets/Segmentation/{split}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{ids}\n')
    assert main([str(tmp_path / 'v'), str(tmp_path / 'out')]) == 0
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['train.json', 'val.json']
    images = found(tmp_path / 'out/val.json', tmp_path / 'v/JPEGImages')
    assert list(images) == ['2007_2.jpg', '2007_3.jpg']
    assert all(same(objects, ('cat', ring_and_blob()), ('person', bar())) for objects in images.values())


@pytest.mark.parametrize(('name', 'text'), [
    ('labelmap.txt', '# label:color_rgb:parts:actions\nbackground:0,0,0::\nring:128,0,0::\nbar:0,128,0::\n'),
    ('class_names.txt', '__ignore__\n_background_\nring\nbar\n')])
def test_classes_of_voc_may_have_names_of_their_own(tmp_path, name, text):
    write_voc(tmp_path / 'v', 'a', [(1, ring_and_blob()), (2, bar())], colours=name == 'labelmap.txt')
    (tmp_path / 'v' / name).write_text(text)
    assert main([str(tmp_path / 'v'), str(tmp_path / 'out.json')]) == 0
    assert same(found(tmp_path / 'out.json', tmp_path / 'v/JPEGImages')['a.jpg'], ('ring', ring_and_blob()),
                ('bar', bar()))


def test_what_is_wrong_with_images_of_voc_is_said(tmp_path, capsys):
    write_voc(tmp_path / 'v', 'good', [(1, bar()), (99, ring_and_blob())])
    for name in ('no_mask', 'small', 'noise', 'broken'):
        write_voc(tmp_path / 'v', name, [(1, bar())])
    masks = tmp_path / 'v/SegmentationObject'
    (masks / 'no_mask.png').unlink()
    save(masks / 'small.png', np.zeros((3, 3), np.uint8))
    (masks / 'broken.png').write_bytes((masks / 'good.png').read_bytes()[:60])
    path = tmp_path / 'v/ImageSets/Segmentation/train.txt'
    path.parent.mkdir(parents=True)
    path.write_text('good\nno_mask\nsmall\nbroken\ngone\n../../secret/x\n')
    photo(tmp_path / 'secret/x.jpg')
    assert main([str(tmp_path / 'v'), str(tmp_path / 'out')]) == 1
    err = capsys.readouterr().err
    for part in ('good.png: object 2 is left out: its class, 99, has no name',
                 'no_mask.jpg is left out: it has no mask in SegmentationObject',
                 'small.jpg is left out: its masks are not as large as it is', 'broken.png: ',
                 'gone.jpg is left out: it is not there', '../../secret/x.jpg is left out: it is not there'):
        assert part in err, err
    assert list(found(tmp_path / 'out/train.json', tmp_path / 'v/JPEGImages')) == ['good.jpg']


# VGG Image Annotator


def region(shape: dict, **attributes) -> dict:
    return {'shape_attributes': shape, 'region_attributes': attributes}


BAR = {'name': 'polygon', 'all_points_x': [0, 9, 9, 0], 'all_points_y': [20, 20, 40, 40]}
RECT = {'name': 'rect', 'x': 0, 'y': 20, 'width': 9, 'height': 20}


def write_via(folder: Path, *regions: dict, project: bool = False, name: str = 'a.png', mapping: bool = False) -> Path:
    photo(folder / 'a.png')
    kept = {str(i): one for i, one in enumerate(regions)} if mapping else list(regions)
    records = {f'{name}123': {'filename': name, 'size': 123, 'regions': kept, 'file_attributes': {}}}
    content = {'_via_settings': {'core': {'default_filepath': ''}}, '_via_img_metadata': records, '_via_attributes': {}}
    path = folder / 'via.json'
    path.write_text(json.dumps(content if project else records))
    return path


@pytest.mark.parametrize('project', [False, True])
@pytest.mark.parametrize('mapping', [False, True])
def test_regions_of_via_come_back_to_the_pixel(tmp_path, project, mapping):
    path = write_via(tmp_path, region(BAR, kind='bar', note=''), region(RECT, kind={'box': True, 'bar': False}),
                     project=project, mapping=mapping)
    for given in (path, tmp_path):
        assert main([str(given), str(tmp_path / 'out/a.json')]) == 0
        assert same(found(tmp_path / 'out/a.json', tmp_path)['a.png'], ('bar', bar()), ('box', bar()))


def test_circles_and_turned_ellipses_of_via(tmp_path):
    write_via(tmp_path, region({'name': 'circle', 'cx': 30, 'cy': 20, 'r': 10}),
              region({'name': 'ellipse', 'cx': 30, 'cy': 20, 'rx': 18, 'ry': 6, 'theta': np.pi / 2}))
    assert main([str(tmp_path), str(tmp_path / 'out/a.json')]) == 0
    (name, circle), (_, turned) = found(tmp_path / 'out/a.json', tmp_path)['a.png']
    assert name == 'object'
    assert circle.sum() == pytest.approx(np.pi * 100, rel=0.03)
    assert turned.sum() == pytest.approx(np.pi * 18 * 6, rel=0.03)
    assert np.ptp(np.nonzero(turned)[0]) > 2 * np.ptp(np.nonzero(turned)[1])


def test_what_is_left_out_of_via_is_said(tmp_path, capsys):
    write_via(tmp_path, *[region({'name': 'point', 'cx': 1, 'cy': 1}, kind='x')] * 6, region(BAR),
              region({'name': 'polyline', 'all_points_x': [1, 2, 3], 'all_points_y': [1, 2, 9]}, kind='x'),
              region(BAR, kind={'a': True, 'b': True}), region({'name': 'rect', 'x': 1}, kind='x'),
              region({**RECT, 'width': 0}, kind='x'), region(BAR, kind='x'))
    assert main([str(tmp_path), str(tmp_path / 'out/a.json')]) == 1
    err = capsys.readouterr().err
    for part in ('a.png: region 1 is left out: a point has no area', '… and 1 more for this reason, 6 in all',
                 'region 8 is left out: a polyline has no area', 'region 7 is left out: its kind names no class',
                 'region 9 is left out: its kind names several classes', 'region 10 is left out: its shape lacks',
                 'it has no area within the image'):
        assert part in err, err
    assert same(found(tmp_path / 'out/a.json', tmp_path)['a.png'], ('x', bar()))


def test_images_of_via_may_be_elsewhere_but_not_out_of_their_folder(tmp_path, capsys):
    (tmp_path / 'labels').mkdir()
    path = write_via(tmp_path, region(BAR)).rename(tmp_path / 'labels/via.json')
    flags = [str(path), str(tmp_path / 'out.json')]
    assert main(flags) == 1
    assert 'a.png is left out: it is not in the folder of images; name that with --images' in capsys.readouterr().err
    assert main([*flags, '--images', str(tmp_path)]) == 0
    assert same(found(tmp_path / 'out.json', tmp_path)['a.png'], ('object', bar()))
    write_via(tmp_path, region(BAR), name='../a.png').rename(path)
    assert main(flags) == 1
    assert 'is left out: it is out of the folder of images; allow that' in capsys.readouterr().err


def test_the_attribute_that_is_the_class_may_have_to_be_named(tmp_path, capsys):
    path = write_via(tmp_path, region(BAR, kind='bar', colour='red'))
    flags = [str(path), str(tmp_path / 'out.json')]
    assert exit_status(main, flags) == 2
    assert 'its regions have several attributes, colour, kind; say which' in capsys.readouterr().err
    assert main([*flags, '--attribute', 'colour']) == 0
    assert same(found(tmp_path / 'out.json', tmp_path)['a.png'], ('red', bar()))


# All formats


def test_folders_named_as_splits_become_files(tmp_path):
    for split in ('train', 'val'):
        write_via(tmp_path / 'v' / split, region(BAR, kind=split))
    assert main([str(tmp_path / 'v'), str(tmp_path / 'out')]) == 0
    assert same(found(tmp_path / 'out/val.json', tmp_path / 'v/val')['a.png'], ('val', bar()))
    assert CocoDataset(tmp_path / 'out/train.json', tmp_path / 'v/train').classes.names == ('train', 'val')


def test_what_is_not_recognised_is_refused_with_what_is(tmp_path, capsys):
    (tmp_path / 'a.json').write_text('[1]')
    (tmp_path / 'empty').mkdir()
    for path in ('a.json', 'empty'):
        assert exit_status(main, [str(tmp_path / path), str(tmp_path / 'out.json')]) == 2
        line, = capsys.readouterr().err.splitlines()
        assert "is not recognised; give labelme's JSON files, a data.yaml of YOLO" in line
    assert not (tmp_path / 'out.json').exists()


def test_coco_needs_no_conversion(tmp_path, capsys):
    path = tmp_path / 'c/coco.json'
    path.parent.mkdir()
    path.write_text('{"info": {}, "images": [], "annotations": [], "categories": []}')
    for given in (path, path.parent):
        assert exit_status(main, [str(given), str(tmp_path / 'out.json')]) == 2
        assert f'is a COCO-style annotation file already; give it to train.py as it is: --train_anno_path={path}\n' in (
            capsys.readouterr().err)


def test_several_splits_need_a_folder(tmp_path, capsys):
    for split in ('train', 'val'):
        write_via(tmp_path / 'v' / split, region(BAR, kind='bar'))
    assert exit_status(main, [str(tmp_path / 'v'), str(tmp_path / 'out.json')]) == 2
    assert 'has the splits train, val already; name a folder' in capsys.readouterr().err


def test_an_image_is_not_overwritten(tmp_path, capsys):
    path = write_via(tmp_path, region(BAR))
    for out in (path, tmp_path / 'a.png'):
        before = out.read_bytes()
        assert exit_status(main, [str(path), '--out', str(out)]) == 2
        assert 'is an input' in capsys.readouterr().err and out.read_bytes() == before
