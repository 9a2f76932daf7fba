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
from PIL import ExifTags, Image, ImageOps

os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')  # OpenCV reads it when it is imported; ImageError says it better
import cv2  # noqa: E402

from system.errors import UserError  # noqa: E402
from system.files import replacing  # noqa: E402
from system.limits import MAX_IMAGE, check_size

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.gif')
_FORMATS = ('JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF', 'GIF')
_JPEG_FORMATS = ('JPEG', 'MPO')  # MPO, several JPEGs in one file, is what many phones write
_JPEG_END = b'\xff\xd9'
_MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow warns from half of it and raises above it
warnings.filterwarnings('ignore', module=r'PIL\.')  # about damaged and large files; ImageError says it better


class ImageError(UserError):
    """An image that cannot be read or written. Code that reads many images skips it."""


def read_image(path: str | Path) -> np.ndarray:
    """The image in a file, as a viewer shows it: rotated by its EXIF orientation, on white where it is transparent.

    Grey, palette, CMYK and 16-bit images become 8-bit BGR. Of an animation the first frame is read.

    Args:
        path: a JPEG, PNG, BMP, WebP, TIFF or GIF file of at most 178 million pixels.
    Returns:
        uint8 [H, W, 3], BGR.
    Raises:
        ImageError: the file is missing, a folder, unreadable, empty, not an image, too large, damaged or truncated.
    """
    path = Path(path)
    data = _read_bytes(path)
    undecoded = _read_header(path, data)
    try:
        image = _decode(undecoded, data)
    except Exception as error:  # decoders raise many types for damaged data
        raise _damaged(path, undecoded) from error
    if image is None:
        raise _damaged(path, undecoded)
    return image


def read_size(path: str | Path) -> tuple[int, int]:
    """Height and width of what `read_image` returns. The image is decoded only if it has an EXIF orientation.

    Raises:
        ImageError: as of `read_image`, but damage after the header may pass.
    """
    path = Path(path)
    data = _read_bytes(path)
    undecoded = _read_header(path, data)
    if _may_be_rotated(undecoded, data):
        height, width = read_image(path).shape[:2]
        return height, width
    return undecoded.height, undecoded.width


def read_values(source: Path | bytes, name: str | Path = '') -> tuple[np.ndarray, np.ndarray | None]:
    """The values that an image stores, for masks: neither palette nor orientation nor transparency is applied.

    Args:
        source: a file as of `read_image`, or its bytes.
        name: of the file, for messages; where `source` is a path, that is it.
    Returns:
        uint8 [h, w], or int32 [h, w] of a 16-bit image: grey values or palette indices; of an image with colours uint8
        [h, w, 3], RGB. And the palette, uint8 [n, 3], RGB; None without one.
    Raises:
        ImageError: as of `read_image`.
    """
    path = Path(name) if isinstance(source, bytes) else source
    data = source if isinstance(source, bytes) else _read_bytes(source)
    undecoded = _read_header(path, data)
    try:
        if undecoded.format == 'PNG':
            _check_png_crcs(data)
        return _values(undecoded)
    except Exception as error:  # decoders raise many types for damaged data
        raise _damaged(path, undecoded) from error


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an image in the format of the path's suffix. The file is either complete or untouched.

    Args:
        path: ends in .jpg, .jpeg, .png, .bmp, .webp, .tif or .tiff. Its folder is created if it is missing.
        image: uint8 [H, W, 3], BGR; or grey, uint8 or uint16 [H, W].
    Raises:
        ImageError: the suffix is unknown, the format cannot hold the image, or the file cannot be written.
    """
    path = Path(path)
    data = _encode(path, image)
    try:
        with replacing(path, 'wb') as file:
            file.write(data)
    except OSError as error:
        raise ImageError(f'{path}: cannot be written ({error.strerror}); check the path, its permissions '
                         'and the room on the disk') from error


def find_images(folder: str | Path) -> list[Path]:
    """The image files of a folder by their suffixes, sorted by name. Hidden files and subfolders are left out.

    Args:
        folder: of images; or one file, which is returned whatever its suffix.
    Raises:
        ImageError: there is no such folder, or it cannot be read.
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
            if path.suffix.lower() in SUFFIXES and not path.name.startswith('.') and not os.path.isdir(path)]


def _read_bytes(path: Path) -> bytes:
    # OpenCV cannot open every file name on Windows.
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            check_size(path, MAX_IMAGE)
        data = path.read_bytes() if stat.S_ISREG(mode) else b''  # reading a pipe might never end
    except FileNotFoundError as error:
        reason = 'a link to a file that is gone' if path.is_symlink() else 'no such file'
        raise ImageError(f'{path}: {reason}; check the name') from error
    except OSError as error:
        raise ImageError(f'{path}: cannot be read ({error.strerror}); check its name and permissions') from error
    except ValueError as error:
        raise ImageError(f'{path}: a name that no file can have; check the name') from error
    if stat.S_ISDIR(mode):
        raise ImageError(f'{path}: a folder, not an image; name a file in it')
    if not stat.S_ISREG(mode):
        raise ImageError(f'{path}: a pipe or a device; name a file')
    if not data:
        raise ImageError(f'{path}: an empty file; copy or download it again')
    return data


def _read_header(path: Path, data: bytes) -> Image.Image:
    """A Pillow image that is not decoded yet, whose header claims a supported format and is not truncated."""
    stream = io.BytesIO(data)
    try:
        undecoded = Image.open(stream, formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(f'{path}: more than {_MAX_PIXELS // 10**6} million pixels; '
                         'make it smaller or cut it into tiles') from error
    except Exception as error:  # Pillow raises many types for damaged headers
        raise ImageError(f'{path}: not a JPEG, PNG, BMP, WebP, TIFF or GIF image, or only the start of '
                         'one; convert it or copy it again') from error
    if undecoded.format == 'TIFF' and undecoded.mode in ('F', 'I'):
        raise ImageError(f'{path}: a TIFF image of 32 bits a pixel, whose range of brightness is not known; '
                         'convert it to 8 or 16 bits')
    # Of a truncated JPEG, OpenCV may fill the rest with grey; and it allocates what a PNG chunk's length claims, up to
    # 4 GB. Bytes after the end marker are common and harmless. The search for it starts after the header, which may
    # hold a thumbnail with an end marker of its own.
    if (undecoded.format in _JPEG_FORMATS and data.rfind(_JPEG_END, stream.tell()) < 0
            or undecoded.format == 'PNG' and not _has_png_chunk(data, b'IEND')):
        raise ImageError(f'{path}: the image ends too early; copy or download it again')
    return undecoded


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk of a PNG up to IEND, even if truncated: its type, and the start and end of what its CRC covers."""
    offset, chunk_type = 8, None
    while offset + 8 <= len(data) and chunk_type != b'IEND':
        length, chunk_type = struct.unpack_from('>I4s', data, offset)
        yield chunk_type, offset + 4, offset + 8 + length
        offset += length + 12


def _has_png_chunk(data: bytes, wanted: bytes) -> bool:
    return any(chunk_type == wanted for chunk_type, *_ in _png_chunks(data))


def _check_png_crcs(data: bytes) -> None:
    """Check the CRCs of a PNG's critical chunks. Pillow would decode what it can of damaged ones.

    Raises:
        ValueError: one is wrong.
    """
    for chunk_type, start, end in _png_chunks(data):
        critical = chunk_type[:1].isupper() and chunk_type != b'IEND'
        if critical and zlib.crc32(memoryview(data)[start:end]) != int.from_bytes(data[end:end + 4], 'big'):
            raise ValueError('wrong CRC')


def _decode(undecoded: Image.Image, data: bytes) -> np.ndarray | None:
    """The pixels, uint8 [H, W, 3], BGR. Of a damaged image None, or any exception."""
    if undecoded.format == 'PNG':
        _check_png_crcs(data)
    animated_png = undecoded.format == 'PNG' and _has_png_chunk(data, b'acTL')
    if (undecoded.format in ('WEBP', 'GIF')
            or undecoded.mode != 'I;16' and (undecoded.has_transparency_data or animated_png)):
        # OpenCV drops alpha, which shows whatever colour lies under transparent pixels. OpenCV 4 neither applies the
        # EXIF orientation of WebP nor reads GIF, and damaged animated PNGs crash it.
        return _decode_on_white(undecoded)
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def _decode_on_white(image: Image.Image) -> np.ndarray:
    ImageOps.exif_transpose(image, in_place=True)
    if image.has_transparency_data:  # a large one takes gigabytes this way
        image = image.convert('RGBA')
        white = Image.new('RGB', image.size, 'white')
        white.paste(image, mask=image)
        image = white
    return cv2.cvtColor(np.asarray(image.convert('RGB')), cv2.COLOR_RGB2BGR)


def _may_be_rotated(undecoded: Image.Image, data: bytes) -> bool:
    """Whether an image has an EXIF orientation. Pillow would decode a PNG to look for one in chunks of text."""
    if undecoded.format == 'PNG':
        return _has_png_chunk(data, b'eXIf')
    try:
        return undecoded.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # of damaged EXIF data
        return True


def _values(undecoded: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """As of `read_values`."""
    if undecoded.mode == 'P':
        colours = undecoded.getpalette('RGB') or []
        return np.array(undecoded), np.array(colours, np.uint8).reshape(-1, 3)
    if undecoded.mode.startswith('I'):
        return np.array(undecoded).astype(np.int32), None
    return np.array(undecoded.convert('L' if undecoded.mode in ('1', 'L', 'LA') else 'RGB')), None


def _damaged(path: Path, undecoded: Image.Image) -> ImageError:
    return ImageError(f'{path}: this {undecoded.format} image cannot be decoded: it is damaged, ends too '
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
