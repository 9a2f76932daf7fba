"""Images and videos that are damaged, huge, or no files at all; alone and among good ones."""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.bad_images import black_png, png, saved
from tests.hostile.base import Base, copy_photos, listed
from tests.hostile.case import Case

SPARSE = 100 * 2**30  # bytes that a file claims and does not take


def sparse(path: Path, size: int = SPARSE) -> None:
    """A file of holes, after a byte of its kind."""
    with open(path, 'wb') as file:
        file.truncate(size)


def _noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))


def _jpeg() -> bytes:
    return saved(_noise(), 'jpg')


def _gif_bomb() -> bytes:
    """A GIF whose screen is far larger than its frame."""
    return (
        b'GIF89a'
        + struct.pack('<HH', 65535, 65535)
        + b'\x80\0\0'
        + b'\0\0\0\xff\xff\xff'
        + (b',' + struct.pack('<HHHH', 0, 0, 1, 1) + b'\0\x02\x02D\x01\0;')
    )


def _text_bomb() -> bytes:
    """A PNG whose text chunk unpacks to 2 GB."""
    data = png(8, 8, bytes(8 * 25))
    text = b'key\0\0' + zlib.compress(bytes(2**31 - 1), 9)
    chunk = struct.pack('>I', len(text)) + b'zTXt' + text + struct.pack('>I', zlib.crc32(b'zTXt' + text))
    return data[:33] + chunk + data[33:]


# Name → a function that makes it at a path. What may also be readable has a True.
BAD: dict[str, Callable[[Path], object]] = {
    'empty': lambda path: path.write_bytes(b''),
    'a page': lambda path: path.write_bytes(b'<html>404 Not Found</html>'),
    'cut in half': lambda path: path.write_bytes(_jpeg()[: len(_jpeg()) // 2]),
    'a header alone': lambda path: path.write_bytes(_jpeg()[:20]),
    'zeros': lambda path: path.write_bytes(bytes(10_000)),
    'too many pixels claimed': lambda path: path.write_bytes(png(60_000, 60_000, bytes(1000))),
    'too few pixels': lambda path: path.write_bytes(png(12_000, 12_000, bytes(1000))),
    'a bomb': lambda path: path.write_bytes(black_png(15_000)),
    'a folder': lambda path: path.mkdir(),
    'a dangling link': lambda path: path.symlink_to('gone'),
    'a loop of links': lambda path: path.symlink_to(path.name),
    'a FIFO': os.mkfifo,
    'a link with a long name': lambda path: path.symlink_to('x' * 300),
    'a link behind a closed folder': lambda path: (
        path.parent.parent.joinpath('closed').mkdir(exist_ok=True),
        path.symlink_to('../closed/x/y.jpg'),
        path.parent.parent.joinpath('closed').chmod(0),
    ),
    'a sparse file of 100 GB': sparse,
    'a JPEG with 100 GB of holes behind it': lambda path: (path.write_bytes(_jpeg()), os.truncate(path, SPARSE)),
    'a device': lambda path: path.symlink_to('/dev/zero'),
    'a terminal': lambda path: path.symlink_to('/dev/tty'),
    'a GIF with a huge screen': lambda path: path.write_bytes(_gif_bomb()),
}
MAYBE: dict[str, Callable[[Path], object]] = {
    'text that unpacks to 2 GB': lambda path: path.write_bytes(_text_bomb()),
    'one pixel': lambda path: path.write_bytes(saved(_noise().resize((1, 1)), 'png')),
    'one row': lambda path: path.write_bytes(saved(_noise().resize((3000, 1)), 'png')),
    'CMYK': lambda path: path.write_bytes(saved(_noise().convert('CMYK'), 'jpg')),
    'trailing bytes': lambda path: path.write_bytes(_jpeg() + b'PK\x03\x04' * 100),
    'another suffix': lambda path: path.write_bytes(saved(_noise(), 'gif')),
    '49 million pixels': lambda path: path.write_bytes(black_png(7000)),
}


def cases(base: Base) -> Iterator[Case]:
    for name, make in {**BAD, **MAYBE}.items():
        maybe = name in MAYBE

        def alone(here: Path, make: Callable = make) -> None:
            make(here / 'bad.jpg')

        def among(here: Path, make: Callable = make) -> None:
            make(copy_photos(base, here) / 'bad.jpg')
            listed(base, here, file_name='bad.jpg')

        status = (0, 1, 2) if maybe else (1, 2)
        line = '' if maybe else r'bad\.jpg: '
        yield Case(
            'image', f'{name}, demo', base.demo(images='{here}/bad.jpg'), alone, status, line, outputs=('out', 'out/*')
        )
        yield Case(
            'image',
            f'{name}, prototypes',
            base.prototypes('{here}/bad.jpg'),
            alone,
            (0, 2) if maybe else (2,),
            line,
            outputs=('p.png',),
        )
        yield Case(
            'image',
            f'{name}, export',
            base.export(image='{here}/bad.jpg'),
            alone,
            (0, 2) if maybe else (2,),
            line,
            outputs=('e*.onnx',) if maybe else (),
        )
        folder = name in ('a folder',)  # which is not looked into
        yield Case(
            'image in a folder',
            f'{name}, demo',
            base.demo(images='{here}/in'),
            among,
            (0,) if folder else (0, 1) if maybe else (1,),
            '' if folder else line,
            outputs=('out', 'out/*'),
            must_exist=('out/7.jpg', 'out/8.jpg'),
        )
        own = '{here}/own.json'
        yield Case(
            'image in a folder',
            f'{name}, eval',
            base.eval(valid_images_path='{here}/in', valid_anno_path=own),
            among,
            (0, 1) if maybe else (1,),
            line,
            max_lines=5,
        )
        yield Case(
            'image in a folder',
            f'{name}, test_dev',
            base.test_dev(test_images_path='{here}/in', test_anno_path=own),
            among,
            (0, 1) if maybe else (1,),
            line,
            outputs=('r*', '.r*'),
            must_exist=('r.json',),
            max_lines=5,
        )
        yield Case(
            'image in a folder',
            f'{name}, check',
            base.check(images='{here}/in', annotations=own),
            among,
            (1,),
            outputs=('s.jpg',),
            must_exist=('s.jpg',),
        )
        yield Case(
            'image in a folder',
            f'{name}, train',
            base.train(train_images_path='{here}/in', train_anno_path=own, batch_size=2),
            among,
            (0,),
            outputs=('w', 'w/*'),
            max_lines=8,
        )
        yield Case(
            'video',
            f'{name}, demo',
            base.demo(images='{here}/bad.mp4'),
            lambda here, make=make: make(here / 'bad.mp4'),
            (0, 1, 2),
            outputs=('out', 'out/*'),
            max_lines=5,
            max_seconds=30,
        )
    yield from _addresses(base)


def _addresses(base: Base) -> Iterator[Case]:
    """File names that a decoder could take for addresses or protocols."""
    names = (
        'http:127.0.0.1:8765?x.mp4',
        'tcp:127.0.0.1:8766?listen&x.mp4',
        '12:30.mp4',
        'concat:a|b.mp4',
        'pipe:0.mp4',
        'file:x.mp4',
        'rtsp:x.mp4',
        'data:,x.mp4',
        'lavfi:testsrc.mp4',
        '-i.mp4',
        'a%03d.mp4',
        'a b.mp4',
        "a'b.mp4",
        'a\nb.mp4',
        '星.mp4',
        'subfile,,start,0,end,10,,:x.mp4',
    )
    for name in names:

        def prepare(here: Path, name: str = name) -> None:
            (here / 'in').mkdir()
            (here / 'in' / name).write_bytes(base.video.read_bytes())

        yield Case(
            'file name',
            f'{name!r}, a video in a folder',
            base.demo(images='{here}/in'),
            prepare,
            (0,),
            outputs=('out', 'out/*'),
            max_seconds=20,
        )

        def inside(here: Path, name: str = name) -> None:
            (here / name).write_bytes(base.video.read_bytes())

        yield Case(
            'file name',
            f'{name!r}, a video by its relative name',
            base.demo(images=name),
            inside,
            (0, 2),
            outputs=('out', 'out/*'),
            max_seconds=20,
        )
