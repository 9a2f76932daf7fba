"""Reading and writing image files."""
import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')  # read as OpenCV loads; ImageError says it better
import cv2  # noqa: E402

from system.errors import UserError  # noqa: E402
from system.files import replacing  # noqa: E402

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.gif')
_FORMATS = ('JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF', 'GIF')
_JPEG, _JPEG_END = ('JPEG', 'MPO'), b'\xff\xd9'  # MPO: of many phones
_MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow warns from half of it and raises above it
warnings.filterwarnings('ignore', module=r'PIL\.')  # of damaged and of large files; ImageError says it better


class ImageError(UserError):
    """An image that cannot be read or written. Whoever reads many skips it."""


def read_image(path: str | Path) -> np.ndarray:
    """The image in a file, as a viewer shows it: upright by its EXIF tag, on white where it is transparent.

    Grey, palette, CMYK and 16-bit images become 8-bit BGR. Of an animation the first frame is read.

    Args:
        path: str or Path of a JPEG, PNG, BMP, WebP, TIFF or GIF file of at most 178 million pixels.
    Returns:
        uint8 [H, W, 3], BGR.
    Raises:
        ImageError: the file is missing, a folder, unreadable, empty, not an image, too large, damaged or
            ends too early.
    """
    path = Path(path)
    data = _read_bytes(path)
    opened = _read_header(path, data)
    try:
        if opened.format == 'PNG':
            _check_sums(data)
        moving = opened.format == 'PNG' and _has_png_part(data, b'acTL')
        if opened.format in ('WEBP', 'GIF') or opened.mode != 'I;16' and (opened.has_transparency_data or moving):
            # OpenCV drops alpha, which shows whatever colour lies under transparent pixels. Its version 4
            # neither turns WebP images upright nor reads GIF, and damaged moving PNGs end the process.
            return _decode_on_white(opened)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except Exception as error:  # decoders raise many types for damaged data
        raise _damaged(path, opened) from error
    if image is None:
        raise _damaged(path, opened)
    return image


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Writes an image in the format of the path's suffix. The file is either complete or untouched.

    Args:
        path: str or Path that ends in .jpg, .jpeg, .png, .bmp, .webp, .tif or .tiff.
        image: uint8 [H, W, 3], BGR.
    Raises:
        ImageError: the suffix is unknown, the format cannot hold the image, or the disk does not take it.
    """
    path = Path(path)
    data = _encode(path, image)
    try:
        with replacing(path, 'wb') as file:
            file.write(data)
    except OSError as error:
        raise ImageError(f'{path}: cannot be written ({error.strerror}); check that its folder may be written to and '
                         'has room') from error


def find_images(folder: str | Path) -> list[Path]:
    """The image files of a folder, known by their suffixes. Hidden files and subfolders are left out.

    Args:
        folder: str or Path. A file stands for itself, whatever its suffix.
    Returns:
        list of Path, sorted by name.
    Raises:
        ImageError: there is no such folder, or it may not be read.
    """
    folder = Path(folder)
    if os.path.isfile(folder):
        return [folder]
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError as error:
        raise ImageError(f'{folder}: no such folder; check the name') from error
    except OSError as error:
        raise ImageError(f'{folder}: not a folder that can be read ({error.strerror}); '
                         'name an image or a folder of images') from error
    return [path for path in paths
            if path.suffix.lower() in SUFFIXES and not path.name.startswith('.') and not path.is_dir()]


def _read_bytes(path: Path) -> bytes:
    # Read by Python: OpenCV cannot open every name on Windows.
    try:
        kind = path.stat().st_mode
        data = path.read_bytes() if stat.S_ISREG(kind) else b''  # reading a pipe might never end
    except FileNotFoundError as error:
        reason = 'a link to a file that is gone' if path.is_symlink() else 'no such file'
        raise ImageError(f'{path}: {reason}; check the name') from error
    except OSError as error:
        raise ImageError(f'{path}: cannot be read ({error.strerror}); check its name and permissions') from error
    except ValueError as error:
        raise ImageError(f'{path}: a name that no file can have; check the name') from error
    if not stat.S_ISREG(kind):
        what = 'folder, not an image; name a file in it' if stat.S_ISDIR(kind) else 'pipe or a device; name a file'
        raise ImageError(f'{path}: a {what}')
    if not data:
        raise ImageError(f'{path}: an empty file; copy or download it again')
    return data


def _read_header(path: Path, data: bytes) -> Image.Image:
    """What the file claims to be, as a Pillow image that is not decoded yet."""
    stream = io.BytesIO(data)
    try:
        opened = Image.open(stream, formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(f'{path}: more than {_MAX_PIXELS // 10**6} million pixels; '
                         'make it smaller or cut it into tiles') from error
    except Exception as error:  # Pillow raises many types for damaged headers
        raise ImageError(f'{path}: not a JPEG, PNG, BMP, WebP, TIFF or GIF image, or only the start of '
                         'one; convert it or copy it again') from error
    if opened.format == 'TIFF' and opened.mode in ('F', 'I'):
        raise ImageError(f'{path}: a TIFF image of 32 bits a pixel, whose range of brightness is not known; '
                         'convert it to 8 or 16 bits')
    # OpenCV may fill what is missing with grey, or make room for what a PNG's chunk claims to hold, up to 4 GB.
    # Trailing bytes after the mark are common and harmless. The search starts behind the header, which may hold a
    # thumbnail with a mark of its own.
    if (opened.format in _JPEG and data.rfind(_JPEG_END, stream.tell()) < 0
            or opened.format == 'PNG' and not _has_png_part(data, b'IEND')):
        raise ImageError(f'{path}: the image ends too early; copy or download it again')
    return opened


def _png_parts(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The name of each chunk of a PNG and where it starts and ends, up to the last one or to where the file ends."""
    place, name = 8, None
    while place + 8 <= len(data) and name != b'IEND':
        length, name = struct.unpack_from('>I4s', data, place)
        yield name, place + 4, place + 8 + length
        place += length + 12


def _has_png_part(data: bytes, wanted: bytes) -> bool:
    return any(name == wanted for name, *_ in _png_parts(data))


def _check_sums(data: bytes) -> None:
    """Raises ValueError where a PNG is damaged in what must be understood. Pillow would show what is left."""
    for name, start, end in _png_parts(data):
        if name[:1].isupper() and name != b'IEND':
            if zlib.crc32(memoryview(data)[start:end]) != int.from_bytes(data[end:end + 4], 'big'):
                raise ValueError('wrong checksum')


def _decode_on_white(opened: Image.Image) -> np.ndarray:
    ImageOps.exif_transpose(opened, in_place=True)
    if opened.has_transparency_data:  # a large one takes gigabytes this way
        opened = opened.convert('RGBA')
        white = Image.new('RGB', opened.size, 'white')
        white.paste(opened, mask=opened)
        opened = white
    return cv2.cvtColor(np.asarray(opened.convert('RGB')), cv2.COLOR_RGB2BGR)


def _damaged(path: Path, opened: Image.Image) -> ImageError:
    return ImageError(f'{path}: this {opened.format} image cannot be decoded: it is damaged, ends too '
                      'early or is of a rare kind; copy it again or convert it to PNG')


def _encode(path: Path, image: np.ndarray) -> bytes:
    try:
        encoded, data = cv2.imencode(path.suffix, image)
    except cv2.error:
        encoded = False
    if not encoded:
        height, width = image.shape[:2]
        raise ImageError(f"{path}: an image of {width}x{height} cannot be written as '{path.suffix}'; "
                         'use .png or .jpg')
    return data.tobytes()
