import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from model.postprocess import Detections
from visualization.drawing import class_colour, draw_detections


def make(objects, size):
    """Detections of (class, score, box, mask) in an image of a size; a mask starts at its box's corner."""
    return Detections(
        classes=np.array([item[0] for item in objects], np.int64),
        box_scores=np.array([item[1] for item in objects], np.float32),
        mask_scores=np.full(len(objects), 0.01, np.float32),
        boxes=np.array([item[2] for item in objects], np.float32).reshape(-1, 4),
        masks=[item[3] for item in objects],
        corners=np.array([item[2][:2] for item in objects], np.int64).reshape(-1, 2),
        size=size)


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def tinted(pixels, class_index):
    return np.round(0.55 * pixels + 0.45 * np.array(class_colour(class_index)))


def contrast(one, other):
    def luminance(bgr):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(bgr) / 255]
        return np.dot(linear, [0.0722, 0.7152, 0.2126])
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


BLANK = np.zeros((0, 0), bool)


def label(class_index, score, name, size=(480, 640)):
    """The label as it looks above a box with room around it."""
    x, y = size[1] // 4, size[0] // 2
    objects = [(class_index, score, (x, y, x + 1, y + 1), BLANK)]
    drawn = draw_detections(np.zeros((*size, 3), np.uint8), make(objects, size), [name] * (class_index + 1))
    painted = np.argwhere((drawn[:y - 2] != 0).any(2))
    return drawn[painted[:, 0].min():y, painted[:, 1].min():painted[:, 1].max() + 1]


def shows(image, patch):
    height, width = patch.shape[:2]
    _, _, (x, y), _ = cv2.minMaxLoc(cv2.matchTemplate(image, patch, cv2.TM_SQDIFF))
    return (image[y:y + height, x:x + width] == patch).all()


def test_mask_is_tinted_inside_and_outlined_at_its_edge():
    image = noise(480, 640)
    drawn = draw_detections(image, make([(7, 0.9, (100, 200, 300, 300), np.ones((100, 200), bool))], (480, 640)),
                            ['x'] * 8)
    inside = np.s_[205:295, 105:295]
    assert np.abs(drawn[inside] - tinted(image[inside], 7)).max() <= 1
    assert (drawn[250, [100, 101, 298, 299]] == class_colour(7)).all()
    assert (drawn[[201, 298], 200] == class_colour(7)).all()


def test_nothing_changes_away_from_mask_box_and_label():
    image = noise(480, 640)
    drawn = draw_detections(image, make([(7, 0.9, (100, 200, 300, 300), np.ones((100, 200), bool))], (480, 640)),
                            ['x'] * 8)
    changed = np.argwhere((drawn != image).any(2))
    assert changed.min(0)[0] > 180 and changed.min(0)[1] == 100
    assert changed.max(0).tolist() == [299, 299]


def test_hole_and_corners_of_a_ring_stay_as_they_were():
    image = noise(480, 640)
    y, x = np.mgrid[-100:100, -100:100]
    ring = (np.hypot(x, y) < 98) & (np.hypot(x, y) > 50)
    drawn = draw_detections(image, make([(2, 0.9, (200, 200, 400, 400), ring)], (480, 640)), ['x'] * 3)
    part, before = drawn[203:397, 203:397], image[203:397, 203:397]
    outside = ~ring[3:-3, 3:-3]
    np.testing.assert_array_equal(part[outside], before[outside])
    assert (part[97, 97 + 51] == class_colour(2)).all()
    assert (part[97, 97 + 75] == tinted(before[97, 97 + 75], 2)).all()


def test_box_without_a_mask_is_a_frame_with_its_last_pixel_inside():
    drawn = draw_detections(np.zeros((200, 200, 3), np.uint8),
                            make([(0, 0.5, (20, 30, 120, 130), BLANK)], (200, 200)), [''])
    assert (drawn[130:160] == 0).all() and (drawn[:, 120:] == 0).all()
    assert (drawn[129, 20:120] == class_colour(0)).all() and (drawn[30:130, 119] == class_colour(0)).all()
    assert (drawn[60:129, 21:119] == 0).all()


def test_best_detection_is_on_top_whatever_the_order():
    whole = np.ones((100, 100), bool)
    weak, strong = (1, 0.3, (50, 50, 150, 150), whole), (2, 0.8, (100, 50, 200, 150), whole)
    one = draw_detections(np.zeros((300, 300, 3), np.uint8), make([weak, strong], (300, 300)), 'abc')
    other = draw_detections(np.zeros((300, 300, 3), np.uint8), make([strong, weak], (300, 300)), 'abc')
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one[100, 100], class_colour(2))
    assert (one[100, 149] == tinted(np.array(class_colour(1)), 2)).all()


def test_input_is_not_changed():
    image = noise(60, 80)
    before = image.copy()
    draw_detections(image, make([(0, 0.9, (5, 5, 45, 45), np.ones((40, 40), bool))], (60, 80)), ['cat'])
    np.testing.assert_array_equal(image, before)


def test_no_detections_give_an_equal_copy():
    image = noise(60, 80)
    drawn = draw_detections(image, make([], (60, 80)), ['cat'])
    np.testing.assert_array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


@pytest.mark.parametrize('size', [(1, 1), (1, 500), (500, 1), (7, 5)])
def test_the_smallest_images_are_painted_without_a_label(size):
    objects = [(3, 0.9, (0, 0, size[1], size[0]), np.ones(size, bool))]
    drawn = draw_detections(np.zeros((*size, 3), np.uint8), make(objects, size), ['person'] * 4)
    assert drawn.shape == (*size, 3)
    assert (drawn[0, 0] == class_colour(3)).all() and (drawn[-1, -1] == class_colour(3)).all()
    assert (drawn[drawn.any(2)] <= class_colour(3)).all()


@pytest.mark.parametrize('box', [(0, 0, 30, 30), (610, 0, 640, 30), (0, 450, 30, 480), (610, 450, 640, 480),
                                 (0, 0, 640, 480)])
def test_label_at_the_border_is_whole(box):
    drawn = draw_detections(np.zeros((480, 640, 3), np.uint8), make([(0, 0.93, box, BLANK)], (480, 640)),
                            ['refrigerator'])
    assert shows(drawn, label(0, 0.93, 'refrigerator'))


def test_labels_of_one_place_do_not_hide_each_other():
    objects = [(index, 0.9 - 0.1 * index, (300, 200, 340, 240), BLANK) for index in range(4)]
    names = ['cat', 'dog', 'bird', 'horse']
    drawn = draw_detections(np.zeros((480, 640, 3), np.uint8), make(objects, (480, 640)), names)
    assert all(shows(drawn, label(index, 0.9 - 0.1 * index, name)) for index, name in enumerate(names))


@pytest.mark.parametrize('x', [0, 300, 616])
@pytest.mark.parametrize('y', [0, 200, 462])
def test_labels_stand_beside_a_small_object_wherever_it_is(x, y):
    """Two of them, as there are where it is found as two classes."""
    objects = [(index, 0.9 - 0.1 * index, (x, y, x + 24, y + 18), BLANK) for index in range(2)]
    drawn = draw_detections(np.zeros((480, 640, 3), np.uint8), make(objects, (480, 640)), ['star', 'cross'])
    assert (drawn[y + 2:y + 16, x + 2:x + 22] == 0).all()
    assert shows(drawn, label(0, 0.9, 'star')) and shows(drawn, label(1, 0.8, 'cross'))


def test_the_label_of_a_large_object_does_not_hide_a_small_one():
    objects = [(0, 0.9, (200, 200, 500, 400), BLANK), (1, 0.5, (210, 180, 234, 198), BLANK)]
    drawn = draw_detections(np.zeros((480, 640, 3), np.uint8), make(objects, (480, 640)), ['star', 'cross'])
    assert (drawn[182:196, 212:232] == 0).all()
    assert shows(drawn, label(0, 0.9, 'star')) and shows(drawn, label(1, 0.5, 'cross'))


def test_labels_hide_next_to_nothing_of_many_small_objects():
    random, hidden = np.random.default_rng(0), []
    for _ in range(20):
        starts = random.integers(0, (610, 450), (12, 2))
        objects = [(i, 0.9 - 0.01 * i, (x, y, x + 24, y + 20), BLANK) for i, (x, y) in enumerate(starts.tolist())]
        found = make(objects, (480, 640))
        drawn, bare = (draw_detections(np.zeros((480, 640, 3), np.uint8), found, [name] * 12) for name in ('horse', ''))
        inside = np.zeros((480, 640), bool)
        for x, y in starts:
            inside[y + 2:y + 18, x + 2:x + 22] = True
        hidden.append(((drawn != bare).any(2) & inside).sum() / inside.sum())
    assert np.mean(hidden) < 0.02


def test_best_labels_are_whole_in_a_crowd():
    objects = [(index, 0.1 + 0.1 * index, (300, 200, 340, 240), BLANK) for index in range(9)]
    drawn = draw_detections(np.zeros((480, 640, 3), np.uint8), make(objects, (480, 640)), ['person'] * 9)
    whole = [shows(drawn, label(index, 0.1 + 0.1 * index, 'person')) for index in range(9)]
    assert all(whole[-4:]) and not all(whole)


def test_score_is_left_out_where_the_label_is_too_wide():
    full, short = label(0, 0.9, 'cat', (300, 100)), label(0, 0.9, 'cat', (300, 30))
    assert 15 < short.shape[1] <= 30 < full.shape[1]
    np.testing.assert_array_equal(short[:, :-4], full[:, :short.shape[1] - 4])


def test_labels_cover_at_most_a_quarter_of_an_image():
    objects = [(0, 0.9 - 0.01 * i, (x, y, x + 1, y + 1), BLANK)
               for i, (x, y) in enumerate((x, y) for y in range(15, 90, 15) for x in (0, 60))]
    drawn = draw_detections(np.zeros((90, 120, 3), np.uint8), make(objects, (90, 120)), ['person'])
    covered = (drawn != 0).any(2).mean()
    assert 0.1 < covered < 0.26


def test_label_shows_the_box_score():
    def drawn(score):
        return draw_detections(np.zeros((200, 300, 3), np.uint8),
                               make([(0, score, (50, 50, 150, 150), BLANK)], (200, 300)), ['cat'])
    np.testing.assert_array_equal(drawn(0.931), drawn(0.929))
    assert (drawn(0.93) != drawn(0.94)).any()


def test_lines_and_labels_grow_with_the_image():
    def painted(scale):
        size, box = (200 * scale, 300 * scale), np.array((50, 50, 150, 150)) * scale
        drawn = draw_detections(np.zeros((*size, 3), np.uint8), make([(0, 0.9, box, BLANK)], size), ['cat'])
        return (drawn != 0).any(2).mean()
    assert painted(8) == pytest.approx(painted(4), rel=0.15)


def test_colours_are_pinned():
    assert [class_colour(index) for index in (0, 1, 79)] == [(39, 25, 254), (218, 143, 102), (253, 4, 225)]


def test_a_thousand_colours_differ():
    assert len({class_colour(index) for index in range(1000)}) == 1000


def test_first_twenty_colours_are_far_apart():
    colours = np.array([class_colour(index) for index in range(20)])
    distances = np.abs(colours[:, None] - colours).sum(2) + 999 * np.eye(20)
    assert distances.min() > 60


def test_text_contrasts_with_its_tag():
    for index in range(80):
        tag = label(index, 0.9, 'W').reshape(-1, 3).astype(int)
        text = tag[np.abs(tag - class_colour(index)).sum(1).argmax()]
        assert contrast(text, class_colour(index)) > 4.5


SCRIPT = """
import sys
import numpy as np
from visualization.drawing import draw_detections
from model.postprocess import Detections
one = Detections(np.array([7]), np.float32([0.9]), np.float32([0.9]), np.float32([[50, 50, 150, 150]]),
                 [np.ones((100, 100), bool)], np.array([[50, 50]]), (200, 300))
drawn = [draw_detections(np.zeros((200, 300, 3), np.uint8), one, [name] * 8) for name in sys.argv[1:]]
print(*[(image == drawn[0]).all() for image in drawn])
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='finds fonts by XDG_DATA_DIRS')
def test_name_that_no_font_covers_becomes_its_class_number(tmp_path):
    environment = {**os.environ, 'XDG_DATA_DIRS': str(tmp_path), 'XDG_DATA_HOME': str(tmp_path),
                   'PYTHONIOENCODING': 'utf-8'}
    said = subprocess.run([sys.executable, '-c', SCRIPT, 'class 7', '猫', 'café 猫', 'class  7', 'cat'],
                          env=environment, capture_output=True, text=True, check=True).stdout
    assert said.split() == ['True', 'True', 'True', 'True', 'False']


def test_chinese_name_draws_a_label_on_this_system():
    blank = np.zeros((200, 300, 3), np.uint8)
    drawn = draw_detections(blank, make([(0, 0.9, (50, 50, 150, 150), BLANK)], (200, 300)), ['猫'])
    assert (drawn[35:48, 51:80] != 0).any(2).mean() > 0.5
