import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.images import SUFFIXES, ImageError, find_images, read_image, write_image
from tests.helpers.bad_images import pillow, png

LOSSLESS = ('.png', '.bmp', '.tif', '.tiff')


@pytest.fixture
def photo() -> np.ndarray:
    """uint8 [60, 80, 3], BGR: a smooth gradient with four different corners."""
    corners = np.array([[[250, 20, 30], [10, 240, 40]], [[60, 30, 230], [200, 210, 60]]], np.uint8)
    return cv2.resize(corners, (80, 60), interpolation=cv2.INTER_LINEAR)


def reading_error(path: Path) -> str:
    """The message of the error that reading a file raises, without its path."""
    with pytest.raises(ImageError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f'{path}: ') and '\n' not in message
    return message.removeprefix(f'{path}: ')


@pytest.mark.parametrize('suffix', LOSSLESS + ('.PNG',))
@pytest.mark.parametrize('name', ['image', '图片 – кот', 'صورة', '写真 100%'])
def test_lossless_formats_return_what_was_written(tmp_path, photo, suffix, name):
    path = tmp_path / (name + suffix)
    write_image(path, photo)
    np.testing.assert_array_equal(read_image(path), photo)


@pytest.mark.parametrize('suffix', ['.jpg', '.jpeg', '.webp'])
def test_lossy_formats_return_nearly_what_was_written(tmp_path, photo, suffix):
    write_image(tmp_path / f'猫{suffix}', photo)
    read = read_image(str(tmp_path / f'猫{suffix}'))
    assert read.dtype == np.uint8 and read.shape == photo.shape
    assert np.abs(read.astype(int) - photo).mean() < 3


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.bmp', '.tif'])
def test_one_pixel(tmp_path, suffix):
    write_image(tmp_path / f'dot{suffix}', np.full((1, 1, 3), 200, np.uint8))
    assert np.abs(read_image(tmp_path / f'dot{suffix}').astype(int) - 200).max() <= 3


def test_48_megapixels(tmp_path):
    big = np.zeros((6000, 8000, 3), np.uint8)
    big[5999, 7999] = 1, 2, 3
    write_image(tmp_path / 'big.bmp', big)
    read = read_image(tmp_path / 'big.bmp')
    assert read.shape == (6000, 8000, 3) and read[5999, 7999].tolist() == [1, 2, 3]


def test_grey_becomes_three_equal_channels(tmp_path, photo):
    grey = photo[:, :, 0]
    Image.fromarray(grey).save(tmp_path / 'grey.png')
    np.testing.assert_array_equal(read_image(tmp_path / 'grey.png'), np.dstack([grey] * 3))


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_16_bits_become_8(tmp_path, photo, suffix):
    deep = photo.astype(np.uint16) * 257
    (tmp_path / f'deep{suffix}').write_bytes(cv2.imencode(suffix, deep)[1].tobytes())
    assert np.abs(read_image(tmp_path / f'deep{suffix}').astype(int) - photo).max() <= 1
    (tmp_path / f'grey{suffix}').write_bytes(cv2.imencode(suffix, deep[:, :, 0])[1].tobytes())
    assert np.abs(read_image(tmp_path / f'grey{suffix}')[:, :, 1].astype(int) - photo[:, :, 0]).max() <= 1


def test_16_bit_grey_with_a_transparent_level_is_read(tmp_path, photo):
    deep = photo[:, :, 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / 'deep.png', transparency=0)
    assert np.abs(read_image(tmp_path / 'deep.png')[:, :, 0].astype(int) - photo[:, :, 0]).max() <= 1


@pytest.mark.parametrize('suffix', ['.png', '.webp', '.tif'])
def test_transparent_pixels_are_white_and_half_transparent_ones_half(tmp_path, suffix):
    rgba = np.zeros((30, 40, 4), np.uint8)
    rgba[:, :, 0] = 200
    rgba[:, 10:20, 3] = 128
    rgba[:, 20:, 3] = 255
    Image.fromarray(rgba).save(tmp_path / f'cut{suffix}', **({'lossless': True} if suffix == '.webp' else {}))
    read = read_image(tmp_path / f'cut{suffix}').astype(int)
    assert (read[:, :10] == 255).all()
    assert np.abs(read[:, 10:20] - (127, 127, 227)).max() <= 1
    assert (read[:, 20:] == (0, 0, 200)).all()


def test_palettes(tmp_path, photo):
    image = pillow(photo).quantize(16)
    expected = np.asarray(image.convert('RGB'))[:, :, ::-1]
    image.save(tmp_path / 'a.png')
    image.save(tmp_path / 'a.gif')
    np.testing.assert_array_equal(read_image(tmp_path / 'a.png'), expected)
    np.testing.assert_array_equal(read_image(tmp_path / 'a.gif'), expected)
    image.save(tmp_path / 'b.png', transparency=image.getpixel((0, 0)))
    read = read_image(tmp_path / 'b.png')
    assert read[0, 0].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(read[-1, -1], expected[-1, -1])


@pytest.mark.parametrize('suffix', ['.gif', '.webp', '.png', '.tif'])
def test_of_an_animation_the_first_image_is_read(tmp_path, photo, suffix):
    first = pillow(photo)
    first.save(tmp_path / f'moving{suffix}', save_all=True, append_images=[first.rotate(180)])
    assert np.abs(read_image(tmp_path / f'moving{suffix}').astype(int) - photo).mean() < 12  # GIF has few colours


def test_cmyk(tmp_path, photo):
    pillow(photo).convert('CMYK').save(tmp_path / 'print.jpg', quality=100)
    assert np.abs(read_image(tmp_path / 'print.jpg').astype(int) - photo).mean() < 3


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.tif'])
@pytest.mark.parametrize('orientation, turned', [
    (1, lambda a: a), (2, lambda a: a[:, ::-1]), (3, lambda a: a[::-1, ::-1]), (4, lambda a: a[::-1]),
    (5, lambda a: a.swapaxes(0, 1)), (6, lambda a: np.rot90(a, -1)), (8, np.rot90)])
def test_exif_orientation_is_applied(tmp_path, photo, suffix, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pillow(photo).save(tmp_path / f'phone{suffix}', exif=exif)
    read = read_image(tmp_path / f'phone{suffix}')
    expected = turned(photo)
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).mean() < 4


def test_bytes_after_the_end_are_ignored(tmp_path, photo):
    for suffix in ('.jpg', '.png'):
        path = tmp_path / f'tail{suffix}'
        write_image(path, photo)
        whole = read_image(path)
        path.write_bytes(path.read_bytes() + b'added by a camera' * 9)
        np.testing.assert_array_equal(read_image(path), whole)


@pytest.mark.parametrize('suffix', SUFFIXES)
@pytest.mark.parametrize('part', [0.02, 0.3, 0.6, 0.97])
def test_a_truncated_image_is_an_error(tmp_path, suffix, part):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    path = tmp_path / f'part{suffix}'
    pillow(pixels).save(path)
    path.write_bytes(path.read_bytes()[:int(part * path.stat().st_size)])
    assert 'copy' in reading_error(path)


@pytest.mark.parametrize('options', [{}, {'progressive': True}])
def test_a_truncated_jpeg_with_a_complete_thumbnail_is_an_error(tmp_path, photo, options):
    path = tmp_path / 'download.jpg'
    pillow(photo).resize((16, 12)).save(path)
    thumbnail = b'Exif\0\0' + path.read_bytes()
    pillow(photo).resize((800, 600)).save(path, exif=thumbnail, **options)
    data = path.read_bytes()
    assert read_image(path).shape == (600, 800, 3)
    for cut in (data[:len(data) // 2], data[:-2], data[:-1], data[:len(data) // 2] + bytes(len(data) // 2)):
        path.write_bytes(cut)
        assert reading_error(path) == 'the image ends too early; copy or download it again'


def test_damaged_png_is_an_error(tmp_path, photo):
    write_image(tmp_path / 'a.png', photo)
    data = bytearray((tmp_path / 'a.png').read_bytes())
    data[len(data) // 2:len(data) // 2 + 40] = bytes(40)
    (tmp_path / 'a.png').write_bytes(data)
    assert 'damaged' in reading_error(tmp_path / 'a.png')


def test_a_png_with_a_chunk_that_claims_gigabytes_is_not_decoded(tmp_path, photo):
    write_image(tmp_path / 'a.png', photo)
    data = bytearray((tmp_path / 'a.png').read_bytes())
    data[data.index(b'IDAT') - 4] = 255
    (tmp_path / 'a.png').write_bytes(data)
    assert reading_error(tmp_path / 'a.png') == 'the image ends too early; copy or download it again'


@pytest.mark.parametrize('kind', ['opaque', 'transparent', 'animated'])
def test_a_png_that_is_damaged_anywhere_is_an_error_and_does_not_crash(tmp_path, photo, kind):
    path, image = tmp_path / 'a.png', pillow(photo)
    image.putalpha(200) if kind == 'transparent' else None
    image.save(path, **(dict(save_all=True, append_images=[image.rotate(90)]) if kind == 'animated' else {}))
    data = path.read_bytes()
    assert read_image(path).shape == photo.shape
    for place in range(data.index(b'IDAT') + 4, data.find(b'fdAT') - 50 if kind == 'animated' else len(data) - 30, 7):
        path.write_bytes(data[:place] + bytes(byte ^ 85 for byte in data[place:place + 9]) + data[place + 9:])
        assert 'damaged' in reading_error(path)


def test_what_is_not_an_image_is_an_error_that_says_so(tmp_path):
    (tmp_path / 'empty.jpg').touch()
    assert reading_error(tmp_path / 'empty.jpg') == 'an empty file; copy or download it again'
    (tmp_path / 'page.jpg').write_text('<html>404 Not Found</html>')
    assert 'not a JPEG, PNG, BMP, WebP, TIFF or GIF image' in reading_error(tmp_path / 'page.jpg')
    (tmp_path / 'folder.jpg').mkdir()
    assert reading_error(tmp_path / 'folder.jpg') == 'a folder, not an image; name a file in it'
    assert reading_error(tmp_path / 'нет.jpg') == 'no such file; check the name'
    assert reading_error(tmp_path / 'page.jpg' / 'a.jpg').startswith('cannot be read (Not a directory); check')
    (tmp_path / 'link.jpg').symlink_to(tmp_path / 'gone.jpg')
    assert reading_error(tmp_path / 'link.jpg') == 'a link to a file that is gone; check the name'


@pytest.mark.parametrize('name', ['a\0b', '\ud800', 'x' * 300])
def test_impossible_names_are_errors(tmp_path, name):
    with pytest.raises(ImageError, match='(cannot be read|a name that no file can have).*check'):
        read_image(tmp_path / name)
    with pytest.raises(ImageError, match='(File name too long|no such folder|not a folder)'):
        find_images(tmp_path / ('x' * 300))


def test_names_with_control_characters_are_reported_in_one_line(tmp_path):
    path = tmp_path / 'a\n\x1b[31m\u2028b.jpg'
    path.touch()
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value) == f'{tmp_path}/a\\n\\x1b[31m\\u2028b.jpg: an empty file; copy or download it again'


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'a.jpg')
    assert reading_error(tmp_path / 'a.jpg') == 'a pipe or a device; name a file'


@pytest.mark.parametrize('dtype', [np.float32, np.int32])
def test_tiff_of_32_bits_is_an_error_that_says_so(tmp_path, photo, dtype):
    Image.fromarray(photo[:, :, 0].astype(dtype)).save(tmp_path / 'deep.tif')
    assert reading_error(tmp_path / 'deep.tif').startswith('a TIFF image of 32 bits')


def test_of_a_phone_s_pair_of_images_the_first_is_read_unless_it_is_truncated(tmp_path, photo):
    path = tmp_path / 'phone.jpg'
    first = pillow(photo)
    first.save(path, 'MPO', save_all=True, append_images=[first.rotate(180)], quality=95)
    assert np.abs(read_image(path).astype(int) - photo).mean() < 3
    data = path.read_bytes()
    path.write_bytes(data[:data.find(b'\xff\xd9')])
    assert reading_error(path) == 'the image ends too early; copy or download it again'


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() == 0, reason='root may read everything')
def test_unreadable_file_is_an_error(tmp_path, photo):
    write_image(tmp_path / 'a.png', photo)
    (tmp_path / 'a.png').chmod(0)
    assert reading_error(tmp_path / 'a.png') == 'cannot be read (Permission denied); check its name and permissions'


@pytest.mark.parametrize('side', [60000, 15000])
def test_header_that_claims_a_gigantic_image_is_an_error(tmp_path, side):
    (tmp_path / 'bomb.png').write_bytes(png(side, side, bytes(1000)))
    assert reading_error(tmp_path / 'bomb.png').startswith('more than 178 million pixels')


SCRIPT = """
import sys
import data.images
for path in sys.argv[1:]:
    try:
        data.images.read_image(path)
    except data.images.ImageError:
        print('refused')
"""


def test_decoders_print_nothing_about_damaged_files(tmp_path, photo):
    paths = []
    for suffix in SUFFIXES:
        paths.append(str(tmp_path / f'half{suffix}'))
        pillow(photo).save(paths[-1])
        data = open(paths[-1], 'rb').read()
        open(paths[-1], 'wb').write(data[:len(data) // 2])
    paths.append(str(tmp_path / 'packed.tif'))
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    Image.fromarray(noise).save(paths[-1], compression='tiff_lzw')
    Path(paths[-1]).write_bytes(Path(paths[-1]).read_bytes()[:-1000])
    (tmp_path / 'large.png').write_bytes(png(12000, 12000, bytes(1000))[:60])
    done = subprocess.run([sys.executable, '-c', SCRIPT, *paths, tmp_path / 'large.png'], capture_output=True)
    assert done.stdout.split() == [b'refused'] * (len(SUFFIXES) + 2)
    assert done.stderr == b''


def writing_error(path: Path, image: np.ndarray) -> str:
    """The message of the error that writing an image raises."""
    with pytest.raises(ImageError) as caught:
        write_image(path, image)
    assert str(caught.value).startswith(f'{path}: ') and '\n' not in str(caught.value)
    return str(caught.value)


def test_an_image_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path, photo):
    (tmp_path / 'folder.png').mkdir()
    (tmp_path / 'file').touch()
    advice = '; check the path, its permissions and the room on the disk'
    for path, reason in ((tmp_path / 'file/a.png', 'File exists'), (tmp_path / 'folder.png', 'Is a directory')):
        assert writing_error(path, photo) == f'{path}: cannot be written ({reason}){advice}'
    for name in ('a.xyz', 'a'):
        assert 'use .png or .jpg' in writing_error(tmp_path / name, photo)
    assert '70000x1 cannot be written' in writing_error(tmp_path / 'wide.jpg', np.zeros((1, 70000, 3), np.uint8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file', 'folder.png']


def test_writing_creates_a_missing_folder(tmp_path, photo):
    write_image(tmp_path / 'new/folder/a.png', photo)
    np.testing.assert_array_equal(read_image(tmp_path / 'new/folder/a.png'), photo)


def test_writing_replaces_the_file_and_leaves_no_other(tmp_path, photo):
    (tmp_path / 'a.png').write_bytes(b'old')
    write_image(tmp_path / 'a.png', photo)
    np.testing.assert_array_equal(read_image(tmp_path / 'a.png'), photo)
    assert [path.name for path in tmp_path.iterdir()] == ['a.png']


def test_failed_writing_keeps_the_old_file(tmp_path, photo):
    (tmp_path / 'a.jpg').write_bytes(b'old')
    writing_error(tmp_path / 'a.jpg', np.zeros((1, 70000, 3), np.uint8))
    assert (tmp_path / 'a.jpg').read_bytes() == b'old'


def test_written_file_has_the_usual_permissions(tmp_path, photo):
    (tmp_path / 'other').touch()
    write_image(tmp_path / 'a.png', photo)
    assert (tmp_path / 'a.png').stat().st_mode == (tmp_path / 'other').stat().st_mode


def test_images_of_a_folder_are_found_by_suffix_in_order(tmp_path):
    for name in ('b.JPG', 'a.png', '图.webp', 'c.txt', '.hidden.jpg', '._a.png', 'B.tiff', 'jpg'):
        (tmp_path / name).touch()
    (tmp_path / 'folder.jpg').mkdir()
    (tmp_path / 'folder.jpg' / 'inner.jpg').touch()
    (tmp_path / 'link.jpg').symlink_to(tmp_path / 'gone.jpg')  # for read_image to complain about
    names = ('B.tiff', 'a.png', 'b.JPG', 'link.jpg', '图.webp')
    assert find_images(tmp_path) == [tmp_path / name for name in names]


def test_file_stands_for_itself(tmp_path):
    (tmp_path / 'scan.xyz').touch()
    assert find_images(str(tmp_path / 'scan.xyz')) == [tmp_path / 'scan.xyz']


def test_missing_folder_is_an_error(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(ImageError, match='none: no such folder; check the name'):
        find_images(tmp_path / 'none')
    with pytest.raises(ImageError, match='not a folder that can be read'):
        find_images(tmp_path / 'file' / 'inner')


def test_empty_folder_has_no_images(tmp_path):
    assert find_images(tmp_path) == []
