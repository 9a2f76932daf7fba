"""Paths that leave the folder of images, odd entries in folders, files of absurd size, names on a terminal."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.hostile.base import Base, copy_photos, listed, write_json
from tests.hostile.case import Case
from tests.hostile.images import sparse


def cases(base: Base) -> Iterator[Case]:
    yield from _leaving(base)
    yield from _entries(base)
    yield from _sizes(base)
    yield from _terminal(base)


def _entries_with(base: Base, own: str = '{here}/own.json') -> dict[str, list[str]]:
    images = '{here}/in'
    return {
        'eval': base.eval(valid_images_path=images, valid_anno_path=own),
        'eval --report': base.eval(valid_images_path=images, valid_anno_path=own, report='{here}/r.html'),
        'test_dev': base.test_dev(test_images_path=images, test_anno_path=own),
        'train': base.train(train_images_path=images, train_anno_path=own, batch_size=2),
        'check': base.check(images=images, annotations=own),
        'samples': base.samples(images=images, annotations=own),
    }


def _leaving(base: Base) -> Iterator[Case]:
    """A file outside the folder of images is neither read nor shown."""

    def prepare(here: Path, name: str) -> None:
        folder = copy_photos(base, here)
        shutil.copy(folder / '7.jpg', here / 'secret.jpg')
        (folder / 'sub').mkdir()
        (folder / 'link.jpg').symlink_to('../secret.jpg')
        listed(base, here, file_name=name.replace('{here}', str(here)))

    for name in (
        '../secret.jpg',
        '{here}/secret.jpg',
        'sub/../../secret.jpg',
        './../secret.jpg',
        '../in/../secret.jpg',
    ):
        for entry, line in _entries_with(base).items():
            yield Case(
                'paths that leave the folder',
                f'{name}, {entry}',
                line,
                lambda here, name=name: prepare(here, name),
                (1, 2),
                'secret.jpg',
                outputs=('r*', '.r*', 's.*', 'w', 'w/*'),
                max_lines=8,
            )


def _entries(base: Base) -> Iterator[Case]:
    odd = {
        'a link with a long name': lambda folder: (folder / 'x.jpg').symlink_to('y' * 300),
        'a loop': lambda folder: (folder / 'x.jpg').symlink_to('x.jpg'),
        'a name that is no UTF-8': lambda folder: shutil.copy(
            folder / '7.jpg', os.path.join(os.fsencode(folder), b'\xff\xfe.jpg')
        ),
        'a name with a newline': lambda folder: shutil.copy(folder / '7.jpg', folder / 'a\nb.jpg'),
        'a name with escape codes': lambda folder: shutil.copy(folder / '7.jpg', folder / '\x1b[31mred\x07.jpg'),
        'a name of 250 characters': lambda folder: shutil.copy(folder / '7.jpg', folder / ('n' * 246 + '.jpg')),
        'a hidden file': lambda folder: (folder / '.x.jpg').write_text('x'),
        'a folder named as an image': lambda folder: (folder / 'x.jpg').mkdir(),
        'a FIFO': lambda folder: os.mkfifo(folder / 'x.jpg'),
        'a socket': lambda folder: _socket(folder / 'x.jpg'),
        'a device': lambda folder: (folder / 'x.jpg').symlink_to('/dev/zero'),
        'a link to itself above': lambda folder: (folder / 'x').symlink_to('.'),
        'a video of nothing': lambda folder: (folder / 'x.mp4').write_bytes(b''),
        'a FIFO as video': lambda folder: os.mkfifo(folder / 'x.mp4'),
        'a loop as video': lambda folder: (folder / 'x.mp4').symlink_to('x.mp4'),
        'a long link as video': lambda folder: (folder / 'x.mp4').symlink_to('y' * 300),
    }
    fine = {
        'a name with a newline',
        'a name with escape codes',
        'a name of 250 characters',
        'a hidden file',
        'a folder named as an image',
        'a link to itself above',
        'a name that is no UTF-8',
    }
    modes = {
        'demo': base.demo(images='{here}/in'),
        'demo --save_json': base.demo(images='{here}/in', save_json='{here}/x.json'),
        'demo --save_masks': base.demo(images='{here}/in', save_masks='objects'),
        'demo --save_labelme': base.demo(images='{here}/in', save_labelme='{here}/l'),
    }
    for name, make in odd.items():
        for entry, line in modes.items():
            yield Case(
                'odd entry in a folder',
                f'{name}, {entry}',
                line,
                lambda here, make=make: make(copy_photos(base, here)),
                (0, 1) if name in fine else (1,),
                '' if name in fine else r'in/x\.',
                outputs=('out', 'out/*', 'x.json', 'l', 'l/*'),
                must_exist=('out/7.jpg', 'out/8.jpg'),
                max_lines=5,
            )
    labels = {
        'a FIFO': lambda folder: os.mkfifo(folder / 'x.json'),
        'a loop': lambda folder: (folder / 'x.json').symlink_to('x.json'),
        'a long link': lambda folder: (folder / 'x.json').symlink_to('y' * 300),
        'a folder': lambda folder: (folder / 'x.json').mkdir(),
        '100 GB of holes': lambda folder: sparse(folder / 'x.json'),
        'a device': lambda folder: (folder / 'x.json').symlink_to('/dev/zero'),
    }
    for name, make in labels.items():

        def prepare(here: Path, make: object = make) -> None:
            shutil.copytree(base.labels, here / 'in')
            make(here / 'in')

        yield Case(
            'odd entry in a folder',
            f'{name}, convert',
            ['tools.convert', '{here}/in', '--out', '{here}/all.json'],
            prepare,
            (1,),
            r'in/x\.json',
            outputs=('all.json',),
            must_exist=('all.json',),
        )


def _socket(path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def _sizes(base: Base) -> Iterator[Case]:
    flags = {
        'annotations, eval': base.eval(valid_anno_path='{here}/x.json'),
        'annotations, train': base.train(train_anno_path='{here}/x.json'),
        'annotations, test_dev': base.test_dev(test_anno_path='{here}/x.json'),
        'annotations, check': base.check(annotations='{here}/x.json'),
        'results, eval': base.eval(results='{here}/x.json'),
    }
    for name, line in flags.items():
        yield Case(
            'absurd size',
            f'100 GB of holes, {name}',
            line,
            lambda here: sparse(here / 'x.json'),
            (2,),
            r'x\.json: ',
            outputs=('w',),
            max_seconds=30,
        )
        yield Case(
            'absurd size',
            f'600 MB of one list, {name}',
            line,
            lambda here: (here / 'x.json').write_text('[' + '0,' * 300_000_000 + '0]'),
            (2,),
            r'x\.json: ',
            outputs=('w',),
            max_seconds=60,
        )
    for name, make in {
        '100 GB of holes': sparse,
        'lines of 10^8 characters': lambda path: path.write_bytes(b'x' * 10**8 + b'\n'),
        'a FIFO': os.mkfifo,
        'a loop': lambda path: path.symlink_to(path.name),
    }.items():
        yield Case(
            'absurd size',
            f'log.jsonl is {name}, curves',
            ['tools.visualize', 'curves', '{here}', '--out', '{here}/c.png'],
            lambda here, make=make: make(here / 'log.jsonl'),
            (2,),
            r'log\.jsonl: ',
            max_seconds=30,
        )

        def beside(here: Path, make: object = make) -> None:
            shutil.copytree(base.model, here / 'm.pd')
            make(here / 'log.jsonl')

        yield Case(
            'absurd size',
            f'log.jsonl is {name}, eval --report',
            base.eval(model_path='{here}/m.pd', report='{here}/r.html'),
            beside,
            (0,),
            outputs=('r.html', '.m.pd.*'),
            max_seconds=40,
        )
        yield Case(
            'absurd size',
            f'a class file is {name}, converter',
            ['1_pytorch2paddle.py', '{here}/x.pth', '--classes', '{here}/c.txt'],
            lambda here, make=make: make(here / 'c.txt'),
            (2,),
            max_seconds=30,
        )


def _terminal(base: Base) -> Iterator[Case]:
    """Names from files reach the terminal escaped, and cut to a length."""
    names = {
        'escape codes': '\x1b[31mred\x1b]0;title\x07\x9b',
        'newlines': 'a\nb\rc',
        'right to left': 'a\u202eb',
        '10^6 characters': 'x' * 10**6,
        'NUL': 'a\0b',
        'a surrogate': '\ud800',
        'a very wide character': '\ufdfd' * 50,
        'nothing': '',
    }
    for name, text in names.items():

        def prepare(here: Path, text: str = text) -> None:
            copy_photos(base, here)
            content = json.loads(base.annotations.read_text())
            content['categories'][0]['name'] = text
            content['annotations'][0]['bbox'] = [0, 0, 0, 0]
            write_json(here / 'own.json', content)
            shutil.copytree(base.model, here / 'm.pd')
            meta = json.loads((here / 'm.pd/meta.json').read_text())
            meta['classes']['names'][0] = text
            (here / 'm.pd/meta.json').write_text(json.dumps(meta))

        for entry, line in _entries_with(base).items():
            line = [part.replace(str(base.model), '{here}/m.pd') for part in line]
            yield Case(
                'names on the terminal',
                f'a class of {name}, {entry}',
                line,
                prepare,
                (0, 1, 2),
                outputs=('r*', '.r*', 's.*', 'w', 'w/*', '.m.pd.*'),
                max_lines=12,
            )
        yield Case(
            'names on the terminal',
            f'a class of {name}, demo',
            base.demo(model_path='{here}/m.pd'),
            prepare,
            (0, 2),
            outputs=('out', 'out/*', '.m.pd.*'),
        )
