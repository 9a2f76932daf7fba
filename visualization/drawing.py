"""Detections → pixels: masks, boxes and labels, drawn on an image."""
import colorsys
from functools import cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_TINT = 0.45  # how much of the class's colour a mask's pixels take on
_TAGS_AREA = 0.25  # how much of the image labels may cover
_SMALL = 4  # labels: an object whose box is smaller than so many of them is small, and better not hidden by one
_HIDDEN_TAG = 10  # small objects that may rather be hidden than one label

# Tried in this order for names that Pillow's own font (None) does not cover: Western, Chinese, Japanese and
# Korean fonts that Linux, Windows and macOS come with.
_FONTS = (
    None, 'DejaVuSans.ttf', 'NotoSans-Regular.ttf', 'segoeui.ttf', 'Arial.ttf',
    'NotoSansCJK-Regular.ttc', 'NotoSansSC-Regular.otf', 'SourceHanSansSC-Regular.otf',
    'wqy-microhei.ttc', 'wqy-zenhei.ttc', 'DroidSansFallbackFull.ttf',
    'msyh.ttc', 'simhei.ttf', 'meiryo.ttc', 'malgun.ttf',
    'PingFang.ttc', 'Hiragino Sans GB.ttc', 'STHeiti Light.ttc', 'Arial Unicode.ttf',
)


def draw_detections(image, detections, names, scores=True):
    """A copy of an image with its detections drawn on it: tinted and outlined masks, boxes and labels.

    A label gives the class's name and the box score. The best detections are on top, and their labels choose
    their places first: within or around their boxes, where no other label and no small object is hidden, if there is
    such a place. Small or crowded images show only the best labels.

    Args:
        image: uint8 [H, W, 3], BGR. It is not changed.
        detections: Detections in this image.
        names: str for each class.
        scores: whether labels have them.
    Returns:
        uint8 [H, W, 3], BGR.
    """
    canvas = image.copy()
    scale = np.sqrt(image.shape[0] * image.shape[1])
    line = max(1, round(0.003 * scale))
    worst_first = np.argsort(detections.box_scores, kind='stable')
    for i in worst_first:
        paint = colour(detections.classes[i])
        x, y = detections.corners[i]
        height, width = detections.masks[i].shape
        _draw_mask(canvas[y:y + height, x:x + width], detections.masks[i], paint, line)
        _draw_box(canvas, detections.boxes[i], paint, line)
    for tag, x, y in reversed(_placed_tags(detections, names, worst_first[::-1], canvas.shape, scale, scores)):
        canvas[y:y + tag.shape[0], x:x + tag.shape[1]] = tag
    return canvas


def colour(class_index):
    """The colour of a class, always the same. Neighbouring classes differ strongly in hue.

    Each step turns the hue by the golden ratio, so that no hue repeats, and moves saturation and value by
    irrational steps of their own, so that hues that come close differ otherwise. The starting points were
    picked to keep the first 20 and the first 80 colours well apart in Oklab.

    Args:
        class_index: int from 0.
    Returns:
        (b, g, r), int in [0, 255].
    """
    i = int(class_index)
    hue = (0.99 + i * 0.618034) % 1
    saturation = 1 - 0.5 * ((0.2 + i * 0.732051) % 1)
    value = 1 - 0.25 * ((0.01 + i * 0.569840) % 1)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * blue), round(255 * green), round(255 * red)


def _draw_mask(part, mask, paint, line):
    """Tints the pixels of a mask and outlines it inside its edge.

    Args:
        part: uint8 [h, w, 3], the part of the image that the mask covers, drawn on in place.
        mask: bool [h, w].
    """
    if not mask.any():
        return
    tints = (1 - _TINT) * np.arange(256)[:, None] + _TINT * np.array(paint)
    tinted = cv2.LUT(part, np.round(tints).astype(np.uint8)[None])
    np.copyto(part, tinted, where=mask[:, :, None])
    ringed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    depth = cv2.distanceTransform(ringed, cv2.DIST_L2, 3)[1:-1, 1:-1]
    part[mask & (depth <= line)] = paint


def _draw_box(canvas, box, paint, line):
    size = np.array(canvas.shape[1::-1])
    corners = np.round(box).astype(int)
    x0, y0 = start = np.clip(corners[:2], 0, size - 1)
    x1, y1 = np.clip(corners[2:], start + 1, size)
    part = canvas[y0:y1, x0:x1]
    part[:line] = part[-line:] = paint
    part[:, :line] = part[:, -line:] = paint


def _placed_tags(detections, names, best_first, shape, scale, scores):
    """Labels with their places: the best, until they would cover too much of the image.

    Returns:
        list of (tag, x, y), best first: uint8 [h, w, 3] and its top-left pixel.
    """
    size = max(10, round(0.022 * scale))
    taken = _small_objects(detections.boxes, _SMALL * 7 * size ** 2)  # a label is about 5 x 1.4 times its letters' size
    placed = []
    left = _TAGS_AREA * shape[0] * shape[1]
    for i in best_first:
        class_index = detections.classes[i]
        score = detections.box_scores[i] if scores else None
        tag = _tag(names[class_index], class_index, score, size, shape[1])
        height, width = tag.shape[:2]
        left -= height * width
        if left < 0:
            break
        if height <= shape[0] and width <= shape[1]:
            x, y = _place(width, height, detections.boxes[i], taken, shape)
            taken = np.vstack([taken, [x, y, x + width, y + height, _HIDDEN_TAG / (width * height)]])
            placed.append((tag, x, y))
    return placed


def _small_objects(boxes, most):
    """The boxes of fewer pixels than most: float64 [n, 5], x0 y0 x1 y1 and what it costs to hide a pixel of each."""
    boxes = np.round(boxes).astype(float)
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(1).prod(1)
    return np.column_stack([boxes, 1 / areas])[areas < most]


def _place(width, height, box, taken, shape):
    """The place for a tag at its box, within the image, that hides the least of what is there.

    Args:
        taken: float64 [m, 5], x0 y0 x1 y1 of the tags before it and of small objects, and what it costs to hide a pixel
            of each.
    Returns:
        x, y of its top-left pixel.
    """
    x0, y0, x1, y1 = np.round(box).astype(int).tolist()
    places = [(x0, y0 - height), (x0, y0), (x1 - width, y0 - height), (x1 - width, y0),
              (x0, y1), (x0, y1 - height), (x1 - width, y1), (x1 - width, y1 - height),
              (x1, y0), (x0 - width, y0), (x1, y1 - height), (x0 - width, y1 - height)]
    limit = np.array([shape[1] - width, shape[0] - height])
    start = np.clip(np.array(places), 0, limit)[:, None]
    end = start + (width, height)
    shared = (np.minimum(end, taken[:, 2:4]) - np.maximum(start, taken[:, :2])).clip(0)
    hidden = shared[:, :, 0] * shared[:, :, 1] @ taken[:, 4]
    return start[hidden.argmin(), 0].tolist()


def _tag(name, class_index, score, size, widest):
    """A label as a small image, without its score where that makes it too wide."""
    name = ' '.join(name.split())
    font = _font_for(name, size)
    if font is None:
        name, font = f'class {class_index}', _font(None, size)
    if score is not None:
        tag = _text_tag(f'{name} {score:.2f}', font, colour(class_index))
        if tag.shape[1] <= widest:
            return tag
    return _text_tag(name, font, colour(class_index))


def _text_tag(text, font, paint):
    ascent, descent = font.getmetrics()
    margin = max(1, round(0.25 * font.size))
    width, height = round(font.getlength(text)) + 2 * margin, ascent + descent + margin
    tag = Image.new('RGB', (width, height), paint[::-1])
    ImageDraw.Draw(tag).text((margin, margin // 2), text, font=font, fill=_ink(paint))
    return np.asarray(tag)[:, :, ::-1]


def _ink(paint):
    """Black or white, whichever contrasts more with a colour (relative luminance of WCAG 2)."""
    blue, green, red = ((value / 255) ** 2.2 for value in paint)
    return 'black' if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else 'white'


@cache
def _font_for(text, size):
    """The first font that has all characters of a text, or None."""
    fonts = (_font(file, size) for file in _FONTS)
    return next((font for font in fonts if font is not None and _covers(font, text)), None)


@cache
def _font(file, size):
    """A font by the name of its file, None where the system has no such file."""
    if file is None:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(file, size)
    except OSError:
        return None


def _covers(font, text):
    # Pillow does not tell which characters a font has, but draws all that are missing alike.
    missing = _glyph(font, '\U0010fffe')
    return all(_glyph(font, character) != missing for character in text if character != ' ')


def _glyph(font, character):
    mask = font.getmask(character)
    return mask.size, bytes(mask)
