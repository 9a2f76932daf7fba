import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.labelme import read_labelme
from data.masks import rasterise
from system.errors import UserError
from tests.helpers.labelme import shape, write_labelme


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write_labelme` to a temporary folder."""
    return functools.partial(write_labelme, tmp_path)


def test_shapes_of_a_group_are_one_object(write):
    _, size, objects, problems = read_labelme(write(shape(group_id=1), shape(group_id=2), shape(group_id=1), shape(),
                                                    shape('dog', group_id=1)))
    assert (size, problems) == ((40, 60), [])
    assert [(label, len(parts)) for label, parts in objects] == [('cat', 2), ('cat', 1), ('cat', 1), ('dog', 1)]


def test_rectangles_and_circles_are_polygons(write):
    _, _, objects, _ = read_labelme(write(shape(points=[(20, 30), (5, 10)], shape_type='rectangle'),
                                          shape(points=[(30, 20), (30, 30)], shape_type='circle')))
    (_, rectangle), (_, circle) = objects
    assert rasterise(rectangle, (40, 60)).sum() == 15 * 20
    assert rasterise(circle, (40, 60)).sum() == pytest.approx(np.pi * 100, rel=0.03)


def test_a_shape_without_area_is_left_out_with_a_line(write):
    path = write(shape(points=[(1, 2)], shape_type='point'), shape(points=[(1, 2), (3, 4)], shape_type='line'), shape())
    _, _, objects, problems = read_labelme(path)
    assert len(objects) == 1
    assert list(map(str, problems)) == [f'{path}: shape 1 is left out: a point of 1 point has no area',
                        f'{path}: shape 2 is left out: a line of 2 points has no area']


@pytest.mark.parametrize('point', [(10 ** 400, 0), (1e9, 0), (0, -100_001), (float('nan'), 0), (0, float('inf'))])
@pytest.mark.parametrize('kind', ['polygon', 'rectangle', 'circle'])
def test_a_shape_far_from_any_image_is_left_out_with_a_line(write, point, kind):
    points = [(0, 0), point, (10, 10)] if kind == 'polygon' else [(0, 0), point]
    path = write(shape(points=points, shape_type=kind), shape())
    _, _, objects, problems = read_labelme(path)
    assert len(objects) == 1
    assert list(map(str, problems)) == [f'{path}: shape 1 is left out: it has a point far from any image']


def test_a_circle_too_large_is_left_out_though_its_points_are_near(write):
    path = write(shape(points=[(0, 0), (9e4, 9e4)], shape_type='circle'))
    left_out, = read_labelme(path).left_out
    assert str(left_out) == f'{path}: shape 1 is left out: it has a point far from any image'


def test_a_file_with_a_size_that_no_image_has_is_refused(write):
    with pytest.raises(UserError, match='says that its image has more than 536 million pixels'):
        read_labelme(write(shape(), imageHeight=10 ** 400))


def test_a_size_that_the_file_lacks_is_read_from_the_image(write):
    image, size, _, _ = read_labelme(write(shape(), imageHeight=None, imagePath='.\\one.png'))
    assert (image.name, tuple(size)) == ('one.png', (40, 60))


@pytest.mark.parametrize('content', ['', '[]', '{}', '[' * 100_000,
                                     '{"shapes": 3, "imagePath": "x", "imageHeight": 1, "imageWidth": 1}',
                                     '{"shapes": [{"label": "x", "points": "y"}], "imagePath": "one.png", '
                                     '"imageHeight": 4, "imageWidth": 4}'])
def test_a_file_that_is_not_of_labelme_is_refused_in_one_line(tmp_path, content):
    (tmp_path / 'x.json').write_text(content)
    for image in ('x', 'one.png'):
        (tmp_path / image).touch()
    with pytest.raises(UserError, match='is not a file of labelme') as caught:
        read_labelme(tmp_path / 'x.json')
    assert '\n' not in str(caught.value)
