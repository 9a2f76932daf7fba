from collections.abc import Iterable

import numpy as np
import pytest
from pycocotools import mask as mask_api

from data.masks import (
    area,
    bounding_box,
    compress,
    decode,
    decode_all,
    decompress,
    encode,
    encode_mask,
    encode_polygons,
    intersection,
    rasterise,
    union,
)

SIZE = (60, 80)
STAR = np.array([[40, 5.3], [47.1, 22], [70.4, 24.9], [52, 36.7], [58.2, 55], [40, 44.6], [21.5, 55.2],
                 [28, 36.1], [9.7, 25], [33, 22.4]])
HOLE = np.array([[60.2, 3], [75, 8.8], [66.6, 15.1]])


def polygon_mask(polygons: Iterable[np.ndarray], height: int, width: int) -> np.ndarray:
    """The mask of polygons by pycocotools, bool [height, width]."""
    rles = mask_api.frPyObjects([np.ravel(polygon).tolist() for polygon in polygons], height, width)
    return mask_api.decode(mask_api.merge(rles)) == 1


def affine(scale_x: float, scale_y: float, x: float, y: float) -> np.ndarray:
    return np.array([[scale_x, 0, x], [0, scale_y, y]], np.float64)


def boundary(mask: np.ndarray) -> np.ndarray:
    """The pixels with a neighbour of another value, bool [h, w]."""
    padded = np.pad(mask, 1, mode='edge')
    rows, columns = mask.shape
    shifted = [padded[dy:dy + rows, dx:dx + columns] for dy in range(3) for dx in range(3)]
    return np.any(shifted, axis=0) & ~np.all(shifted, axis=0)


def random_polygons(count: int, low: float, high: float, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.uniform(low, high, (random.integers(3, 12), 2)) for _ in range(count)]


def test_polygons_are_pycocotools_mask():
    mask = rasterise([STAR, HOLE], SIZE)
    assert mask.dtype == bool and mask.flags.c_contiguous
    assert mask.sum() == 1151
    assert (mask == polygon_mask([STAR, HOLE], *SIZE)).all()


def test_encoded_polygons_are_the_mask_of_the_polygons():
    far = np.array([[200, 200], [300, 200], [300, 300]])
    for polygons in ([STAR, HOLE], [STAR - 50], [far]):
        assert (mask_api.decode(encode_polygons(polygons, SIZE)) == rasterise(polygons, SIZE)).all()
    assert mask_api.area(encode_polygons([far], SIZE)) == 0


def test_an_encoded_segmentation_is_the_rasterised_one():
    for segmentation in ([STAR, HOLE], encode_polygons([STAR], SIZE)):
        transform = np.array([[1.2, 0.4, -9], [-0.3, 0.9, 12]])
        found = decode(encode(segmentation, (50, 70), transform))
        np.testing.assert_array_equal(found, rasterise(segmentation, (50, 70), transform))


def test_intersection_union_and_decoding_of_several():
    size = (64, 64)
    star, hole = encode_polygons([STAR * (0.9, 1)], size), encode_polygons([HOLE * (0.5, 2)], size)
    masks = decode_all([star, hole], 64)
    assert masks.dtype == bool and masks.shape == (2, 64, 64) and decode_all([], 64).shape == (0, 64, 64)
    np.testing.assert_array_equal(masks, [decode(star), decode(hole)])
    assert (masks[0] & masks[1]).any()
    np.testing.assert_array_equal(decode(intersection(star, hole)), masks[0] & masks[1])
    np.testing.assert_array_equal(decode(union([star, hole])), masks[0] | masks[1])


def test_random_polygons_across_the_border_are_pycocotools_mask():
    for polygon in random_polygons(200, -40, 100):
        assert (rasterise([polygon], SIZE) == polygon_mask([polygon], *SIZE)).all()


def test_a_rasterised_rle_is_the_mask_it_encodes():
    mask = polygon_mask([STAR], *SIZE)
    assert (rasterise(encode_mask(mask), SIZE) == mask).all()


@pytest.mark.parametrize('kind', ['polygons', 'rle'])
def test_identity_changes_nothing(kind):
    mask = polygon_mask([STAR, HOLE], *SIZE)
    segmentation = [STAR, HOLE] if kind == 'polygons' else encode_mask(mask)
    assert (rasterise(segmentation, SIZE, affine(1, 1, 0, 0)) == mask).all()


@pytest.mark.parametrize('kind', ['polygons', 'rle'])
def test_a_square_scales_by_a_half(kind):
    square = np.array([[20, 10], [60, 10], [60, 50], [20, 50]])
    segmentation = [square] if kind == 'polygons' else encode_mask(polygon_mask([square], *SIZE))
    expected = np.zeros((30, 40), bool)
    expected[5:25, 10:30] = True
    assert (rasterise(segmentation, (30, 40), affine(0.5, 0.5, 0, 0)) == expected).all()


def test_polygons_scale_by_a_half_like_their_points():
    mask = rasterise([STAR, HOLE], (30, 40), affine(0.5, 0.5, 0, 0))
    assert (mask == polygon_mask([STAR / 2, HOLE / 2], 30, 40)).all()


def test_rle_scales_like_polygons_within_a_pixel():
    polygons = rasterise([STAR], (90, 120), affine(1.5, 1.5, 0, 0))
    rle = rasterise(encode_mask(polygon_mask([STAR], *SIZE)), (90, 120), affine(1.5, 1.5, 0, 0))
    assert not (polygons ^ rle)[~boundary(polygons)].any()
    assert abs(int(polygons.sum()) - int(rle.sum())) < 0.02 * polygons.sum()


def test_rle_flips_exactly():
    mask = polygon_mask([STAR, HOLE], *SIZE)
    assert (rasterise(encode_mask(mask), SIZE, affine(-1, 1, 80, 0)) == mask[:, ::-1]).all()


def test_polygons_flip_within_rounding():
    mask = polygon_mask([STAR, HOLE], *SIZE)
    flipped = rasterise([STAR, HOLE], SIZE, affine(-1, 1, 80, 0))[:, ::-1]
    assert not (mask ^ flipped)[~boundary(mask)].any()
    assert (mask ^ flipped).sum() <= 10


def test_a_flipped_square_is_exact():
    square = np.array([[3, 10], [20, 10], [20, 50], [3, 50]])
    flipped = rasterise([square], SIZE, affine(-1, 1, 80, 0))
    assert (flipped[:, ::-1] == polygon_mask([square], *SIZE)).all()


def test_a_crop_of_polygons_is_the_cropped_mask():
    different = total = 0
    for polygon in random_polygons(200, 0, 80):
        mask = rasterise([polygon], (40, 32), affine(1, 1, -30, -20))
        expected = polygon_mask([polygon], 80, 80)[20:60, 30:62]
        different += (mask ^ expected).sum()
        total += boundary(expected).sum()
    # The slope of an edge may round another way around a tie.
    assert total > 40000 and different <= 2


def test_a_zoomed_crop_of_polygons_is_the_cropped_mask():
    for polygon in random_polygons(50, 0, 80, seed=1):
        mask = rasterise([polygon], (120, 160), affine(4, 4, -120, -100))
        assert (mask == polygon_mask([polygon * 4], 320, 320)[100:220, 120:280]).all()


def test_polygons_clipped_far_outside_differ_at_their_boundary_alone():
    different = total = 0
    for polygon in random_polygons(200, -1000, 1000):
        mask = rasterise([polygon], SIZE, affine(1, 1, 40, 30))
        expected = polygon_mask([polygon + 1000], 2000, 2000)[970:1030, 960:1040]
        assert not (mask ^ expected)[~boundary(expected)].any()
        different += (mask ^ expected).sum()
        total += boundary(expected).sum()
    assert total > 10000 and different < 0.03 * total


def test_a_crop_of_rle_is_the_cropped_mask():
    mask = polygon_mask([STAR, HOLE], *SIZE)
    cropped = rasterise(encode_mask(mask), (50, 70), affine(1, 1, -30, 10))
    expected = np.zeros((50, 70), bool)
    expected[10:, :50] = mask[:40, 30:]
    assert (cropped == expected).all()


@pytest.mark.parametrize('x, y', [(1e9, 0), (-1e9, 0), (0, 1e9), (0, -1e9), (500, 500), (-81, 0), (80, 0)])
def test_an_object_outside_the_grid_has_an_empty_mask(x, y):
    assert not rasterise([STAR], SIZE, affine(1, 1, x, y)).any()


@pytest.mark.parametrize('far', [1e3, 1e6, 1e9, 1e11])
def test_a_polygon_around_the_grid_fills_it(far):
    around = np.array([[-far, -far], [far, -far], [far, far], [-far, far]])
    assert rasterise([around], SIZE).all()
    beside = np.array([[40, -far], [far, -far], [far, far], [40, far]])
    assert (rasterise([beside], SIZE).sum(axis=0) == [0] * 40 + [60] * 40).all()


def test_a_half_plane_keeps_its_slope_when_clipped():
    slope = np.array([[-1e5, -1e5], [1e5, 1e5], [-1e5, 1e5]])
    rows, columns = np.mgrid[:60, :80]
    mask = rasterise([slope], SIZE)
    assert mask[rows > columns + 1].all() and not mask[rows < columns - 1].any()


def test_run_lengths_and_their_compressed_notation_compress_alike():
    for mask in (polygon_mask([STAR], *SIZE), ~polygon_mask([STAR], *SIZE), np.zeros(SIZE, bool), np.ones(SIZE, bool)):
        flat = mask.T.ravel()
        edges = np.flatnonzero(np.diff(flat, prepend=False))
        runs = np.diff([0, *edges, flat.size]).tolist()
        text = encode_mask(mask)['counts'].decode()
        assert decompress(text) == runs
        assert compress(runs, SIZE) == compress(text, SIZE) == {'size': [60, 80], 'counts': text.encode()}


def test_area_and_bounding_box_are_those_of_the_mask():
    mask = np.zeros(SIZE, bool)
    mask[5:9, 20:70] = True
    assert area(encode_mask(mask)) == mask.sum()
    assert bounding_box(encode_mask(mask)) == [20, 5, 50, 4]
    assert (decode(encode_mask(mask)) == mask).all()


def test_every_compressed_rle_of_a_mask_is_accepted():
    random = np.random.default_rng(0)
    for share in (0, 0.001, 0.1, 0.5, 0.9, 1):
        rle = encode_mask(random.random((300, 400)) < share)
        assert compress(rle['counts'].decode(), (300, 400))['counts'] == rle['counts']


@pytest.mark.parametrize('counts, problem', [
    ([10, 20], 'of 30 pixels for an image of 4800'),
    ([], 'of 0 pixels'),
    ([4800.0], 'not whole numbers'),
    (['4800'], 'not whole numbers'),
    ([-1, 4801], 'negative'),
    ('', 'of 0 pixels'),
    ('P1', 'of 32 pixels'),
    ('not an RLE\n', 'not in the compressed notation'),
    ('é', 'not in the compressed notation'),
    ('`', 'break off'),
    (None, 'without counts'),
    ('T3T3T\\4' + 'P' * 8 + '0', 'not in the compressed notation'),  # a difference of 0 in nine characters
    ('o' * 1_000_000, 'not in the compressed notation'),
])
def test_malformed_counts_are_refused(counts, problem):
    with pytest.raises(ValueError, match=problem):
        compress(counts, SIZE)


def test_the_longest_runs_of_images_are_read_as_by_pycocotools():
    for runs in ([5, 3, 2 ** 29 - 20, 1, 2, 1, 7], [0, 1, 2 ** 29 - 2]):
        rle = compress(runs, (1, sum(runs)))
        assert mask_api.toBbox(rle).tolist() == [runs[0], 0, sum(runs[1:-1]), 1]
        assert compress(rle['counts'].decode(), (1, sum(runs))) == rle


def test_a_truncated_rle_is_refused():
    text = encode_mask(polygon_mask([STAR], *SIZE))['counts'].decode()
    for end in range(len(text)):
        with pytest.raises(ValueError):
            compress(text[:end], SIZE)
