"""Annotation files that are wrong as a whole or in an entry, results files, label files."""

import json
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.bad_annotations import (
    BAD_ANNOTATIONS,
    BAD_FILES,
    UNUSUAL_ANNOTATIONS,
    annotation,
    content,
    image,
    without,
)
from tests.hostile.base import CATEGORIES, Base
from tests.hostile.case import Case

LONG = 'x' * 1_000_000
MORE_BAD_FILES = {
    'a byte order mark of UTF-16': ('\ufeff' + 'x', 'is not JSON'),
    'nested too deep': ('[' * 200_000, 'is not JSON'),
    'a number': ('3', 'not a JSON object'),
    'a text': ('"x"', 'not a JSON object'),
    'null': ('null', 'not a JSON object'),
    'a very long number': ('{"images": 1' + '0' * 10_000 + '}', ''),
    'a category of a long name': (content(categories=[{'id': 3, 'name': LONG}]), ''),
    'a category id of 10^30': (content(categories=[{'id': 10**30, 'name': 'x'}]), ''),
    'image id of 10^30': (content(images=[image(10**30, file_name='7.jpg')]), ''),
    'file name of 10^6 characters': (content(images=[image(7, file_name=LONG)]), ''),
    'file name with NUL': (content(images=[image(7, file_name='a\0b.jpg')]), ''),
    'file name with newline': (content(images=[image(7, file_name='a\nb.jpg')]), ''),
    'file name with escape codes': (content(images=[image(7, file_name='\x1b[31mred\x1b]0;title\x07.jpg')]), ''),
    'file name is a number': (content(images=[image(7, file_name=7)]), ''),
    'file name is a list': (content(images=[image(7, file_name=['7.jpg'])]), ''),
    'file name is empty': (content(images=[image(7, file_name='')]), ''),
    'file name is a dot': (content(images=[image(7, file_name='.')]), ''),
    'width of a fraction': (content(images=[image(7, width=80.5)]), 'whole numbers'),
    'negative height': (content(images=[image(7, height=-60)]), 'give whole numbers'),
    'width is true': (content(images=[image(7, width=True)]), ''),
    'lone surrogates': (
        '{"images": [{"id": 7, "file_name": "\\ud800", "width": 80, "height": 60}], '
        '"categories": [{"id": 3, "name": "\\udfff"}], "annotations": []}',
        '',
    ),
    'a key twice': (
        '{"images": [], "images": [], "categories": [], "annotations": []}',
        'no categories at all|no images',
    ),
}


def _bad_file(base: Base, here: Path, bad: object) -> None:
    text = bad if isinstance(bad, str) else json.dumps(bad)
    (here / 'wrong.json').write_text(text, 'utf-8', 'surrogatepass')


def _commands(base: Base) -> dict[str, list[str]]:
    path = '{here}/wrong.json'
    return {
        'eval': base.eval(valid_anno_path=path),
        'test_dev': base.test_dev(test_anno_path=path),
        'train': base.train(train_anno_path=path),
        'check': base.check(annotations=path),
        'samples': base.samples(annotations=path),
        'anchors': base.anchors(annotations=path),
        'train --eval': base.train('--eval', valid_images_path=base.photos, valid_anno_path=path),
        'eval --results': base.eval(valid_anno_path=path, results=base.results),
    }


def cases(base: Base) -> Iterator[Case]:
    for name, (bad, reason) in {**BAD_FILES, **MORE_BAD_FILES}.items():
        for entry, line in _commands(base).items():
            if entry == 'test_dev' and reason == 'no list of annotations':
                continue
            yield Case(
                'annotation file',
                f'{name}, {entry}',
                line,
                prepare=lambda here, bad=bad: _bad_file(base, here, bad),
                status=(2,) if reason else (0, 1, 2),
                line=rf'wrong\.json: .*({reason})' if reason else '',
                outputs=('r.json*', '.r.json*', 'r_bbox*', 'r.*', 's.*', 'a.png', 'w/*', 'w'),
                max_lines=8,
            )
    for name, (keys, reason) in BAD_ANNOTATIONS.items():
        bad = content([annotation(1, **keys), annotation(2, image_id=8)], categories=CATEGORIES)
        for entry, line in _commands(base).items():
            if entry in ('eval', 'train', 'check', 'samples', 'anchors'):
                yield Case(
                    'annotation',
                    f'{name}, {entry}',
                    line,
                    prepare=lambda here, bad=bad: _bad_file(base, here, bad),
                    status=(1,) if entry == 'check' else (0,),
                    outputs=('s.*', 'a.png', 'w/*', 'w'),
                    max_lines=12,
                    line=f'annotation 1 is left out: .*({reason})' if entry in ('eval', 'train') else '',
                )
    for name, keys in UNUSUAL_ANNOTATIONS.items():
        odd = content([annotation(1, **keys), annotation(2, image_id=8)], categories=CATEGORIES)
        for entry, line in _commands(base).items():
            if entry in ('eval', 'train', 'check', 'samples'):
                yield Case(
                    'annotation',
                    f'{name}, {entry}',
                    line,
                    prepare=lambda here, odd=odd: _bad_file(base, here, odd),
                    status=(0, 1) if entry == 'check' else (0,),
                    outputs=('s.*', 'w/*', 'w'),
                    max_lines=12,
                )
    yield from _results(base)
    yield from _labels(base)


ENTRY = {'image_id': 7, 'category_id': 3, 'score': 0.5, 'bbox': [1, 2, 30, 40]}
BAD_RESULTS = {
    'empty file': (b'', 'is not JSON'),
    'cut short': (b'[{"image_id": 7', 'is not JSON'),
    'nested too deep': (b'[' * 200_000, 'is not JSON'),
    'not text': (b'\xff\xfe\0', 'is not JSON'),
    'an object': (b'{}', 'is not a list'),
    'null': (b'null', 'is not a list'),
    'a number in it': (b'[3]', 'result 1'),
    **{
        f'{key} {str(value)[:20]}': (json.dumps([{**ENTRY, key: value}]).encode(), 'result 1')
        for key, value in (
            ('image_id', 99),
            ('image_id', None),
            ('image_id', [7]),
            ('image_id', 7.5),
            ('image_id', 10**20),
            ('category_id', 99),
            ('category_id', 'x'),
            ('category_id', 10**20),
            ('category_id', True),
            ('score', 'high'),
            ('score', None),
            ('score', float('nan')),
            ('score', float('inf')),
            ('score', 10**400),
            ('bbox', [1, 2, 3]),
            ('bbox', 'box'),
            ('bbox', [1, 2, 3, None]),
            ('bbox', [1, 2, float('nan'), 4]),
            ('bbox', [1, 2, 10**400, 4]),
            ('segmentation', []),
            ('segmentation', 'x'),
            ('segmentation', {'size': [1, 1], 'counts': '0'}),
            ('segmentation', {'size': [60, 80], 'counts': '\x01'}),
            ('segmentation', {'size': [60, 80], 'counts': [4800, 1]}),
            ('segmentation', {'size': [60, 80], 'counts': [-1, 4801]}),
            ('segmentation', {'size': [60, 80]}),
            ('segmentation', {'size': [60, 80], 'counts': [10**20]}),
        )
    },
    'neither box nor mask': (json.dumps([without(ENTRY, 'bbox')]).encode(), 'neither bbox nor segmentation'),
    'large integers in a box': (json.dumps([{**ENTRY, 'bbox': [10**20, 1, 10**20, 4]}]).encode(), ''),
    'a score of 10^20': (json.dumps([{**ENTRY, 'score': 10**20}]).encode(), ''),
    'negative sizes': (json.dumps([{**ENTRY, 'bbox': [5, 5, -3, -3]}]).encode(), ''),
    'a very long key': (json.dumps([{**ENTRY, LONG: 1}]).encode(), ''),
}


def _results(base: Base) -> Iterator[Case]:
    for name, (data, reason) in BAD_RESULTS.items():
        for flags in ({}, {'json': '{here}/m.json'}, {'report': '{here}/r.html'}):
            yield Case(
                'results file',
                f'{name}, {"+".join(flags) or "plain"}',
                base.eval(results='{here}/results.json', **flags),
                prepare=lambda here, data=data: (here / 'results.json').write_bytes(data),
                status=(2,) if reason else (0, 2),
                line=rf'results\.json: .*{reason}' if reason else '',
                outputs=() if reason else ('m.json', 'r.html'),
                max_lines=4,
            )


BAD_LABELS = {
    'empty file': b'',
    'cut short': b'{"shapes": [',
    'not text': b'\xff\xfe\0',
    'nested too deep': b'[' * 100_000,
    'a list': b'[]',
    'a number as path': b'{"shapes": [], "imagePath": 3}',
    'a gone image': b'{"shapes": [], "imagePath": "gone.png"}',
    'NUL in a path': b'{"shapes": [], "imagePath": "a\\u0000"}',
    'a lone surrogate': b'{"shapes": [], "imagePath": "\\ud800"}',
    'endless': b'{"imagePath": "7.jpg", "shapes": [{"label": "x", "points": [[3, 1' + b'0' * 400 + b']]}]}',
    'shapes is a number': b'{"imagePath": "7.jpg", "shapes": 3}',
    'a size of 10^12':
        b'{"imagePath": "7.jpg", "shapes": [], "imageHeight": 1000000000000, "imageWidth": 1000000000000}',
    'an image of 10^6 characters': b'{"shapes": [], "imagePath": "' + b'x' * 10**6 + b'"}',
}
BAD_SHAPES = {
    'no label': {'points': [[1, 2], [30, 2], [9, 9]]},
    'two points': {'label': 'x', 'points': [[1, 2], [3, 4]]},
    'no points': {'label': 'x'},
    'text points': {'label': 'x', 'points': 'abc'},
    'NaN': {'label': 'x', 'points': [[1, 2], [float('nan'), 2], [9, 9]]},
    'far': {'label': 'x', 'points': [[1, 2], [1e9, 2], [9, 9]]},
    'a line': {'label': 'x', 'shape_type': 'line', 'points': [[1, 2], [30, 2]]},
    'an unknown kind': {'label': 'x', 'shape_type': 'x' * 10**5, 'points': [[1, 2], [30, 2]]},
    'a label of 10^6 characters': {'label': 'x' * 10**6, 'points': [[1, 2], [30, 2], [9, 9]]},
    'a label with escape codes': {'label': '\x1b[31mred\x07', 'points': [[1, 2], [30, 2], [9, 9]]},
    'a label that is a list': {'label': [1], 'points': [[1, 2], [30, 2], [9, 9]]},
    'a group of a dict': {'label': 'x', 'group_id': {}, 'points': [[1, 2], [30, 2], [9, 9]]},
}


def _labels(base: Base) -> Iterator[Case]:
    def prepare(here: Path, data: bytes) -> None:
        import shutil

        shutil.copytree(base.labels, here / 'in')
        (here / 'in/bad.json').write_bytes(data)

    convert = ['tools.convert', '{here}/in', '--out', '{here}/all.json']
    for name, data in BAD_LABELS.items():
        yield Case(
            'label file',
            name,
            convert,
            prepare=lambda here, data=data: prepare(here, data),
            status=(1,),
            line=r'bad\.json|in/',
            outputs=('all.json',),
            must_exist=('all.json',),
        )
    for name, shape in BAD_SHAPES.items():
        data = json.dumps({'imagePath': '7.jpg', 'shapes': [shape]}).encode()
        yield Case(
            'label file',
            name,
            convert,
            prepare=lambda here, data=data: prepare(here, data),
            status=(0, 1),
            outputs=('all.json',),
            must_exist=('all.json',),
        )
