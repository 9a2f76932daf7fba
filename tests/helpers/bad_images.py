"""A folder of images with every kind of damage, and of unusual ones without."""
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TRUNCATED = 'copy'  # what the errors of truncated images contain
NOT_AN_IMAGE = 'not a JPEG, PNG, BMP, WebP, TIFF or GIF image'


def pillow(photo: np.ndarray) -> Image.Image:
    """BGR pixels, uint8 [height, width, 3], as a Pillow image."""
    return Image.fromarray(photo[:, :, ::-1])


def png(width: int, height: int, pixels: bytes, bits: int = 8, colours: int = 2) -> bytes:
    """A PNG file, whose header may claim more pixels than it has.

    Args:
        width, height: as the header claims.
        pixels: rows of bytes, each after a 0, PNG's filter type.
        bits: per channel.
        colours: PNG's colour type: 0 for grey, 2 for RGB.
    """
    def chunk(chunk_type: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + chunk_type + data + struct.pack('>I', zlib.crc32(chunk_type + data))
    header = struct.pack('>IIBBBBB', width, height, bits, colours, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(pixels))
            + chunk(b'IEND', b''))


def black_png(side: int) -> bytes:
    """A square PNG with all of its pixels, in a file of a few thousandths of their number of bytes."""
    return png(side, side, bytes((1 + (side + 7) // 8) * side), bits=1, colours=0)


def write_bad_images(folder: Path) -> tuple[dict[str, str], dict[str, tuple[int, int]]]:
    """Write the images.

    Returns:
        By name: what the error contains, of each file that cannot be read; width and height, of each one that can.
    """
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    photo = Image.fromarray(noise)
    bad: dict[str, str] = {}
    good: dict[str, tuple[int, int]] = {}

    def write(name: str, data: bytes, reason: str | None = None, size: tuple[int, int] = (80, 60)) -> None:
        (folder / name).write_bytes(data)
        if reason:
            bad[name] = reason
        else:
            good[name] = size

    for suffix in ('jpg', 'png'):
        data = saved(photo, suffix)
        write(f'whole.{suffix}', data)
        for tenth in range(1, 10):
            write(f'cut{tenth}.{suffix}', data[:len(data) * tenth // 10], TRUNCATED)
    write('empty.jpg', b'', 'an empty file')
    write('page.jpg', b'<html>404 Not Found</html>', NOT_AN_IMAGE)
    write('claim.png', png(60_000, 60_000, bytes(1000)), 'more than 178 million pixels')
    write('bomb.png', black_png(15_000), 'more than 178 million pixels')
    write('short.png', png(12_000, 12_000, bytes(1000)), TRUNCATED)
    write('large.png', black_png(7000), size=(7000, 7000))
    write('dot.png', saved(photo.resize((1, 1)), 'png'), size=(1, 1))
    write('thin.png', saved(photo.resize((3000, 1)), 'png'), size=(3000, 1))
    write('print.jpg', saved(photo.convert('CMYK'), 'jpg'))
    write('deep.png', saved(Image.fromarray(noise[..., 0].astype(np.uint16) * 257), 'png'))
    for suffix in ('gif', 'webp'):
        write(f'animated.{suffix}', saved(photo, suffix, save_all=True, append_images=[photo.rotate(180)]))
    write('other name.png', saved(photo, 'jpg'))
    bad.update(write_non_files(folder))
    write('locked.jpg', saved(photo, 'jpg'))
    (folder / 'locked.jpg').chmod(0)
    if not os.access(folder / 'locked.jpg', os.R_OK):  # root may read everything
        del good['locked.jpg']
        bad['locked.jpg'] = 'cannot be read (Permission denied)'
    return bad, good


def write_non_files(folder: Path) -> dict[str, str]:
    """Make folders, links and pipes named as images. Returns what the error of each one contains."""
    (folder / 'folder.jpg').mkdir()
    (folder / 'dangling.jpg').symlink_to(folder / 'gone.jpg')
    (folder / 'loop.jpg').symlink_to(folder / 'pool.jpg')
    (folder / 'pool.jpg').symlink_to(folder / 'loop.jpg')
    os.mkfifo(folder / 'pipe.jpg')
    return {'folder.jpg': 'a folder, not an image', 'dangling.jpg': 'a link to a file that is gone',
            'loop.jpg': 'cannot be read (Too many', 'pool.jpg': 'cannot be read (Too many', 'pipe.jpg': 'a pipe'}


def saved(image: Image.Image, suffix: str, **options: Any) -> bytes:
    """An image as the content of a file with a suffix."""
    stream = io.BytesIO()
    image.save(stream, Image.registered_extensions()[f'.{suffix}'], **options)
    return stream.getvalue()
