"""Draws detections on an image: masks, boxes and labels."""
import colorsys
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, cast

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.postprocess import Detections

Colour = tuple[int, int, int]  # blue, green, red, 0 to 255
Font = ImageFont.FreeTypeFont

_MASK_OPACITY = 0.45  # of the class's colour over a mask's pixels
_MAX_LABEL_AREA = 0.25  # of the image, that labels may cover together
_SMALL_OBJECT = 4  # an object whose box is smaller than so many labels is small, and no label should hide it
_HIDDEN_LABEL_COST = 10  # hiding a label is as bad as hiding so many small objects

# Tried in this order for names that Pillow's own font (None) does not cover: Western, Chinese, Japanese and
# Korean fonts that Linux, Windows and macOS come with.
_FONTS = (
    None, 'DejaVuSans.ttf', 'NotoSans-Regular.ttf', 'segoeui.ttf', 'Arial.ttf',
    'NotoSansCJK-Regular.ttc', 'NotoSansSC-Regular.otf', 'SourceHanSansSC-Regular.otf',
    'wqy-microhei.ttc', 'wqy-zenhei.ttc', 'DroidSansFallbackFull.ttf',
    'msyh.ttc', 'simhei.ttf', 'meiryo.ttc', 'malgun.ttf',
    'PingFang.ttc', 'Hiragino Sans GB.ttc', 'STHeiti Light.ttc', 'Arial Unicode.ttf',
)


def draw_detections(image: np.ndarray, detections: Detections, names: Sequence[str],
                    scores: bool = True) -> np.ndarray:
    """A copy of an image with its detections drawn on it: tinted and outlined masks, boxes and labels.

    A label gives the class name and the box score. The best detections are on top, and their labels are placed
    first: within or around their boxes, where they hide no other label and no small object, if there is such a place.
    On small or crowded images only the best detections have labels.

    Args:
        image: uint8 [H, W, 3], BGR. It is not changed.
        detections: `Detections` in this image.
        names: the name of each class.
        scores: whether labels give scores.
    Returns:
        uint8 [H, W, 3], BGR.
    """
    canvas = image.copy()
    side = float(np.sqrt(image.shape[0] * image.shape[1]))  # of a square of the image's area
    thickness = max(1, round(0.003 * side))
    worst_first = np.argsort(detections.box_scores, kind='stable')
    for i in worst_first:
        colour = class_colour(detections.classes[i])
        x, y = detections.corners[i]
        height, width = detections.masks[i].shape
        _draw_mask(canvas[y:y + height, x:x + width], detections.masks[i], colour, thickness)
        _draw_box(canvas, detections.boxes[i], colour, thickness)
    font_size = max(10, round(0.022 * side))
    for label in reversed(_place_labels(detections, names, worst_first[::-1], canvas.shape[:2], font_size, scores)):
        height, width = label.pixels.shape[:2]
        canvas[label.y:label.y + height, label.x:label.x + width] = label.pixels
    return canvas


def class_colour(class_index: int) -> Colour:
    """The colour of a class, always the same. Neighbouring classes differ strongly in hue.

    Each step turns the hue by the golden ratio, so that no hue repeats, and changes saturation and value by
    irrational steps of their own, so that classes of similar hue differ in those. The starting points were
    picked to keep the first 20 and the first 80 colours well apart in Oklab.

    Args:
        class_index: from 0.
    """
    i = int(class_index)
    hue = (0.99 + i * 0.618034) % 1
    saturation = 1 - 0.5 * ((0.2 + i * 0.732051) % 1)
    value = 1 - 0.25 * ((0.01 + i * 0.569840) % 1)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * blue), round(255 * green), round(255 * red)


def _draw_mask(region: np.ndarray, mask: np.ndarray, colour: Colour, thickness: int) -> None:
    """Tints the pixels of a mask and outlines it inside its edge.

    Args:
        region: uint8 [h, w, 3], the part of the image that the mask covers, drawn on in place.
        mask: bool [h, w].
        colour: of tint and outline.
        thickness: of the outline, in pixels.
    """
    if not mask.any():
        return
    tints = (1 - _MASK_OPACITY) * np.arange(256)[:, None] + _MASK_OPACITY * np.array(colour)
    tinted = cv2.LUT(region, np.round(tints).astype(np.uint8)[None])
    np.copyto(region, tinted, where=mask[:, :, None])
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    region[mask & (depth <= thickness)] = colour


def _draw_box(canvas: np.ndarray, box: np.ndarray, colour: Colour, thickness: int) -> None:
    size = np.array(canvas.shape[1::-1])
    corners = np.round(box).astype(int)
    x0, y0 = start = np.clip(corners[:2], 0, size - 1)
    x1, y1 = np.clip(corners[2:], start + 1, size)
    region = canvas[y0:y1, x0:x1]
    region[:thickness] = region[-thickness:] = colour
    region[:, :thickness] = region[:, -thickness:] = colour


class _Label(NamedTuple):
    """A label and its place: uint8 [h, w, 3], BGR, and its top-left pixel in the image."""
    pixels: np.ndarray
    x: int
    y: int


def _place_labels(detections: Detections, names: Sequence[str], best_first: np.ndarray, size: tuple[int, int],
                  font_size: int, scores: bool) -> list[_Label]:
    """Labels with their places: those of the best detections, until they would cover too much of the image.

    Args:
        detections, names, scores: as of `draw_detections`.
        best_first: int64 [n], the detections in the order of their scores.
        size: height and width of the image.
        font_size: in pixels.
    Returns:
        The labels, best first.
    """
    # A label is about 5 x 1.4 times its font size.
    obstacles = _small_objects(detections.boxes, _SMALL_OBJECT * 7 * font_size ** 2)
    labels: list[_Label] = []
    area_left = _MAX_LABEL_AREA * size[0] * size[1]
    for i in best_first:
        class_index = detections.classes[i]
        score = detections.box_scores[i] if scores else None
        pixels = _render_label(names[class_index], class_index, score, font_size, size[1])
        height, width = pixels.shape[:2]
        area_left -= height * width
        if area_left < 0:
            break
        if height <= size[0] and width <= size[1]:
            x, y = _find_place(width, height, detections.boxes[i], obstacles, size)
            obstacles = np.vstack([obstacles, [x, y, x + width, y + height, _HIDDEN_LABEL_COST / (width * height)]])
            labels.append(_Label(pixels, x, y))
    return labels


def _small_objects(boxes: np.ndarray, max_area: float) -> np.ndarray:
    """The boxes smaller than an area as obstacles for labels: float64 [n, 5], x0 y0 x1 y1 and the cost of each pixel
    that is hidden. Hiding a whole box costs 1."""
    boxes = np.round(boxes).astype(float)
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(1).prod(1)
    return np.column_stack([boxes, 1 / areas])[areas < max_area]


def _find_place(width: int, height: int, box: np.ndarray, obstacles: np.ndarray, size: tuple[int, int]) -> list[int]:
    """The place for a label at its box, within the image, that costs least.

    Args:
        width, height: of the label.
        box: [4], x0 y0 x1 y1 in pixels.
        obstacles: float64 [m, 5], x0 y0 x1 y1 of labels placed before and of small objects, and the cost of each pixel
            that is hidden.
        size: height and width of the image.
    Returns:
        x, y of the label's top-left pixel.
    """
    x0, y0, x1, y1 = np.round(box).astype(int).tolist()
    places = [(x0, y0 - height), (x0, y0), (x1 - width, y0 - height), (x1 - width, y0),
              (x0, y1), (x0, y1 - height), (x1 - width, y1), (x1 - width, y1 - height),
              (x1, y0), (x0 - width, y0), (x1, y1 - height), (x0 - width, y1 - height)]
    limit = np.array([size[1] - width, size[0] - height])
    start = np.clip(np.array(places), 0, limit)[:, None]
    end = start + (width, height)
    overlap = (np.minimum(end, obstacles[:, 2:4]) - np.maximum(start, obstacles[:, :2])).clip(0)
    costs = overlap[:, :, 0] * overlap[:, :, 1] @ obstacles[:, 4]
    return start[costs.argmin(), 0].tolist()


def _render_label(name: str, class_index: int, score: float | None, font_size: int, max_width: int) -> np.ndarray:
    """A label, uint8 [h, w, 3], BGR, without its score where that would make it wider than `max_width`."""
    name = ' '.join(name.split())
    font = _font_for(name, font_size)
    if font is None:
        name, font = f'class {class_index}', _default_font(font_size)
    if score is not None:
        label = _render_text(f'{name} {score:.2f}', font, class_colour(class_index))
        if label.shape[1] <= max_width:
            return label
    return _render_text(name, font, class_colour(class_index))


def _render_text(text: str, font: Font, background: Colour) -> np.ndarray:
    ascent, descent = font.getmetrics()
    margin = max(1, round(0.25 * font.size))
    width, height = round(font.getlength(text)) + 2 * margin, ascent + descent + margin
    label = Image.new('RGB', (width, height), background[::-1])
    ImageDraw.Draw(label).text((margin, margin // 2), text, font=font, fill=_text_colour(background))
    return np.asarray(label)[:, :, ::-1]


def _text_colour(background: Colour) -> str:
    """Black or white, whichever has more contrast (relative luminance of WCAG 2)."""
    blue, green, red = ((value / 255) ** 2.2 for value in background)
    return 'black' if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else 'white'


@cache
def _font_for(text: str, size: int) -> Font | None:
    """The first font that has all characters of a text, or None."""
    fonts = (_load_font(file, size) for file in _FONTS)
    return next((font for font in fonts if font is not None and _covers(font, text)), None)


@cache
def _load_font(file: str | None, size: int) -> Font | None:
    """A font by its file name, or Pillow's own for None. The result is None where the system has no such file."""
    if file is None:
        return _default_font(size)
    try:
        return ImageFont.truetype(file, size)
    except OSError:
        return None


@cache
def _default_font(size: int) -> Font:
    return cast(Font, ImageFont.load_default(size))  # of a size it is always one of these


def _covers(font: Font, text: str) -> bool:
    # Pillow does not tell which characters a font has, but draws all that are missing alike.
    missing = _glyph(font, '\U0010fffe')
    return all(_glyph(font, character) != missing for character in text if character != ' ')


def _glyph(font: Font, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)
