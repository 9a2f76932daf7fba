"""Draws synthetic scenes of shapes: an image and the mask of every object in it.

Eight classes of shapes, some with holes and most with concave outlines, lie on textured backgrounds and occlude
each other. Colour and texture do not depend on the class.
"""
import colorsys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

MIN_SIDE = 64  # of an image, in pixels
SUPERSAMPLING = 4
MIN_VISIBLE = 0.25  # fraction of an object's pixels, below which it is left out
MIN_AREA = 12  # visible pixels, likewise
# (fraction of the objects, shortest, longest) of an object's longer side in pixels.
SIZE_BANDS = ((0.10, 8, 16), (0.12, 16, 24), (0.66, 24, 160), (0.12, 160, 400))


# Outlines: a list of contours float64 [n, 2] around the origin; the second one, if any, is a hole.

def _circle(radius: float, start: float = 0.0, stop: float = 2 * np.pi, centre: float = 0.0) -> np.ndarray:
    angles = np.linspace(start, stop, 72)
    return np.stack([centre + radius * np.cos(angles), radius * np.sin(angles)], 1)


def _mirrored(half: Sequence[tuple[float, float]]) -> np.ndarray:
    points = np.array(half, float)
    return np.concatenate([points, points[::-1] * (1, -1)])


def _ring(rng: np.random.Generator) -> list[np.ndarray]:
    return [_circle(1), _circle(rng.uniform(0.5, 0.7))]


def _star(rng: np.random.Generator) -> list[np.ndarray]:
    tips = rng.integers(5, 7)
    angles = np.arange(2 * tips) * np.pi / tips
    radii = np.where(np.arange(2 * tips) % 2, rng.uniform(0.4, 0.5), 1)
    return [np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)]


def _crescent(rng: np.random.Generator) -> list[np.ndarray]:
    tip, centre = rng.uniform(0.7, 1.0), rng.uniform(0.4, 0.5)
    x, y = np.cos(tip) - centre, np.sin(tip)
    inner = np.arctan2(y, x)
    return [np.concatenate([_circle(1, tip, 2 * np.pi - tip),
                            _circle(np.hypot(x, y), 2 * np.pi - inner, inner, centre)])]


def _arrow(rng: np.random.Generator) -> list[np.ndarray]:
    neck, shaft = rng.uniform(-0.1, 0.2), rng.uniform(0.2, 0.32)
    return [_mirrored([(-1, shaft), (neck, shaft), (neck, 0.75), (1, 0)])]


def _cross(rng: np.random.Generator) -> list[np.ndarray]:
    arm = rng.uniform(0.24, 0.38)
    return [_mirrored([(-1, arm), (-arm, arm), (-arm, 1), (arm, 1), (arm, arm), (1, arm)])]


def _heart(rng: np.random.Generator) -> list[np.ndarray]:
    t = np.linspace(0, 2 * np.pi, 72)
    lobes = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [np.stack([16 * np.sin(t) ** 3, -lobes], 1) / 16]


def _frame(rng: np.random.Generator) -> list[np.ndarray]:
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    return [square, square * rng.uniform(0.5, 0.7)]


def _gear(rng: np.random.Generator) -> list[np.ndarray]:
    teeth = rng.integers(7, 11)
    step = np.arange(4 * teeth)
    angles = (step + np.where(step % 4 < 2, 0.12, -0.12) * (-1.0) ** step) * np.pi / (2 * teeth)
    radii = np.where(step % 4 < 2, 1, 0.76)
    return [np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1), _circle(rng.uniform(0.25, 0.38))]


class Category(NamedTuple):
    """A class of shapes: its COCO id, its name and the function that draws a random outline of it."""

    id: int
    name: str
    outline: Callable[[np.random.Generator], list[np.ndarray]]


CATEGORIES = (Category(3, 'ring', _ring), Category(4, 'star', _star), Category(8, 'crescent', _crescent),
              Category(11, 'arrow', _arrow), Category(17, 'cross', _cross), Category(23, 'heart', _heart),
              Category(42, 'frame', _frame), Category(90, 'gear', _gear))


# Patterns: float32 [height, width] in [0, 1]. Backgrounds and shapes share them.

def _rotated_grid(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.12, 0.4) * np.sqrt(height * width) + 4
    y, x = np.mgrid[:height, :width].astype(np.float32) * np.float32(2 * np.pi / period)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    ramp, _ = _rotated_grid(rng, height, width)
    return (ramp - ramp.min()) / max(np.ptp(ramp), 1e-6)


def _stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    u, _ = _rotated_grid(rng, height, width)
    return np.clip(0.5 + rng.uniform(0.5, 3) * np.sin(u), 0, 1)


def _checker(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    u, v = _rotated_grid(rng, height, width)
    return np.clip(0.5 + 4 * np.sin(u) * np.sin(v), 0, 1)


def _dots(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    u, v = _rotated_grid(rng, height, width)
    return np.clip(2 * (np.cos(u) + np.cos(v)) - 1, 0, 1)


def _clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    cells = rng.integers(3, 9)
    grid = rng.random((cells, cells), np.float32)
    return np.clip(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def _blobs(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return np.clip(0.5 + 8 * (_clouds(rng, height, width) - 0.5), 0, 1)


PATTERNS = (_gradient, _stripes, _checker, _dots, _clouds, _blobs)


def _random_colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> np.ndarray:
    """float32 [3], blue, green, red, 0 to 255; saturation and value are ranges."""
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    return np.array([blue, green, red], np.float32) * 255


def _textured(rng: np.random.Generator, colour: np.ndarray, contrast: float, height: int, width: int) -> np.ndarray:
    """A pattern of `colour` and a neighbour `contrast` away: float32 [height, width, 3]."""
    pattern = PATTERNS[rng.integers(len(PATTERNS))](rng, height, width).astype(np.float32)
    neighbour = np.clip(colour + rng.uniform(-contrast, contrast, 3), 0, 255).astype(np.float32)
    return colour + pattern[..., None] * (neighbour - colour)


# Layout: where shapes lie and which of their pixels are visible.

@dataclass(frozen=True)
class _Shape:
    """A shape with its place in the image.

    Attributes:
        category: index into `CATEGORIES`.
        size: of its longer side, in pixels.
        crowd: whether it is a member of the crowd.
        window: the rows and columns of the image that hold it and its shadow.
        alpha: float32 [h, w], its coverage of the window's pixels, 0 to 1.
    """
    category: int
    size: float
    crowd: bool
    window: tuple[slice, slice]
    alpha: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """bool [h, w], the window's pixels that it covers."""
        return self.alpha >= 0.5


def _coverage(contours: list[np.ndarray], left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """The anti-aliased fill of contours in a window of the image: float32 [h, w], 0 to 1."""
    fine = np.zeros(((bottom - top) * SUPERSAMPLING, (right - left) * SUPERSAMPLING), np.uint8)
    # Pixel i covers [i, i + 1), but fillPoly puts its centre at i. Coordinates carry 8 fractional bits.
    points = [np.rint(((contour - (left, top)) * SUPERSAMPLING - 0.5) * 256).astype(np.int32)
              for contour in contours]
    cv2.fillPoly(fine, points, 255, shift=8)
    return cv2.resize(fine, (right - left, bottom - top), interpolation=cv2.INTER_AREA) / np.float32(255)


def _make_shape(rng: np.random.Generator, category: int, size: float, centre: np.ndarray, width: int, height: int,
                crowd: bool = False) -> _Shape:
    """A shape, randomly rotated and stretched, around a point of an image, with a longer side of `size` pixels."""
    angle, stretch = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(-0.22, 0.22))
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([(cos, sin), (-sin, cos)])
    contours = [contour * (stretch, 1 / stretch) @ rotation for contour in CATEGORIES[category].outline(rng)]
    low, high = contours[0].min(0), contours[0].max(0)
    contours = [(contour - (low + high) / 2) * size / (high - low).max() + centre for contour in contours]
    margin = 3 + 0.1 * size  # room for the shadow
    left, top = np.maximum(np.floor(contours[0].min(0) - margin), 0).astype(int)
    right, bottom = np.minimum(np.ceil(contours[0].max(0) + margin), (width, height)).astype(int)
    window = (slice(top, bottom), slice(left, right))
    return _Shape(category, size, crowd, window, _coverage(contours, left, top, right, bottom))


def _random_size(rng: np.random.Generator, longest: float) -> float:
    band = rng.choice(len(SIZE_BANDS), p=[fraction for fraction, _, _ in SIZE_BANDS])
    _, low, high = SIZE_BANDS[band]
    return float(np.exp(rng.uniform(np.log(min(low, longest)), np.log(min(high, longest)))))


def _scatter(rng: np.random.Generator, width: int, height: int) -> Iterator[_Shape]:
    """Up to eight shapes at random places, in drawing order."""
    count = 0 if rng.random() < 0.05 else rng.integers(1, 9)
    sizes = [_random_size(rng, 0.9 * min(width, height)) for _ in range(count)]
    # Larger shapes tend to lie below smaller ones, or few of these would be visible.
    sizes.sort(key=lambda size: -size * rng.uniform(0.4, 1))
    for size in sizes:
        # A shape may leave the image by up to a seventh of its size.
        centre = rng.uniform(0.36 * size, np.array([width, height]) - 0.36 * size)
        yield _make_shape(rng, int(rng.integers(len(CATEGORIES))), size, centre, width, height)


def _crowd(rng: np.random.Generator, width: int, height: int) -> Iterator[_Shape]:
    """Many small shapes of one class, close together."""
    category, size = int(rng.integers(len(CATEGORIES))), rng.uniform(10, 0.09 * min(width, height) + 5)
    middle = rng.uniform(0.25, 0.75, 2) * (width, height)
    for i in range(rng.integers(11, 17)):
        # A sunflower spiral spreads the members evenly.
        radius, angle = 0.75 * size * np.sqrt(i), 2.4 * i
        centre = middle + radius * np.array([np.cos(angle), np.sin(angle)]) + rng.normal(0, 0.15 * size, 2)
        centre = np.clip(centre, 0.5 * size, np.array([width, height]) - 0.5 * size)
        yield _make_shape(rng, category, size * rng.uniform(0.85, 1.15), centre, width, height, crowd=True)


def _visible(shapes: list[_Shape], width: int, height: int) -> list[tuple[_Shape, np.ndarray]]:
    """The visible shapes in drawing order, each with its mask: bool [height, width], the pixels not occluded.

    Shapes that are almost fully occluded by those above them are left out, so that everything visible has a mask.
    """
    covered = np.zeros((height, width), bool)
    kept = []
    for shape in reversed(shapes):
        visible = shape.mask & ~covered[shape.window]
        if visible.sum() >= max(MIN_AREA, MIN_VISIBLE * shape.mask.sum()):
            mask = np.zeros((height, width), bool)
            mask[shape.window] = visible
            covered |= mask
            kept.append((shape, mask))
    return kept[::-1]


# Rendering.

def _contrasting_colour(rng: np.random.Generator, background: np.ndarray) -> np.ndarray:
    candidates = [_random_colour(rng, (0.3, 0.95), (0.3, 1.0)) for _ in range(4)]
    return max(candidates, key=lambda colour: np.abs(colour - background).sum())


def _draw_shape(rng: np.random.Generator, image: np.ndarray, shape: _Shape, light: np.ndarray, shadow: float) -> None:
    """Draws a shape with shadow, texture, relief and rim.

    Args:
        rng: for its colour, texture, relief and rim.
        image: float32 [H, W, 3], drawn on in place.
        shape: what to draw.
        light: float32 [2], x y of the direction towards the light.
        shadow: its darkness, 0 to 1.
    """
    ground, alpha = image[shape.window], shape.alpha
    colour = _contrasting_colour(rng, ground[shape.mask].mean(0))
    surface = _textured(rng, colour, 90, *alpha.shape)
    soft = cv2.GaussianBlur(alpha, (0, 0), 0.6 + 0.04 * shape.size)
    across, down = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    relief = (light[0] * across + light[1] * down) * np.float32(rng.uniform(0, 0.6) * shape.size ** 0.5)
    surface += np.clip(relief * 20, -45, 45)[..., None]
    if shape.size > 24 and rng.random() < 0.6:
        kernel = np.ones((3, 3), np.uint8)
        rim = 1 - cv2.erode(alpha, kernel, iterations=1 + int(shape.size / 70))
        edge = colour * np.float32(0.45) if rng.random() < 0.6 else colour * np.float32(0.4) + 150
        surface += rim[..., None] * np.float32(0.8) * (edge - surface)
    reach = 1 + 0.03 * shape.size
    shift = np.array([[1, 0, -light[0] * reach], [0, 1, -light[1] * reach]], np.float32)
    ground *= 1 - np.float32(shadow) * cv2.warpAffine(soft, shift, soft.shape[::-1])[..., None]
    ground += alpha[..., None] * (surface - ground)


def _background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    image = _textured(rng, _random_colour(rng, (0.05, 0.5), (0.3, 0.95)), 70, height, width)
    return image * (0.8 + 0.4 * _clouds(rng, height, width)[..., None])


def _add_camera_noise(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Blur and noise, as of a camera: float32 to uint8 [H, W, 3]."""
    blurred: np.ndarray = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.2, 0.7))
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, 6))
    return np.clip(np.rint(blurred + noise), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class SceneObject:
    """An object of a scene.

    Attributes:
        category: index into `CATEGORIES`.
        mask: bool [H, W], its visible pixels.
        crowd: whether it is a crowd: many shapes annotated as one object.
    """
    category: int
    mask: np.ndarray
    crowd: bool


@dataclass(frozen=True)
class Scene:
    """An image and its objects.

    Attributes:
        image: uint8 [H, W, 3], BGR.
        objects: in drawing order, with disjoint masks.
    """
    image: np.ndarray
    objects: list[SceneObject]


def draw_scene(seed: int | Sequence[int], width: int, height: int) -> Scene:
    """Draws an image and the masks of its objects.

    Args:
        seed: not negative. The same seed and size give the same scene.
        width, height: pixels, at least 64.
    Raises:
        ValueError: a side is under 64 pixels.
    """
    if min(width, height) < MIN_SIDE:
        raise ValueError(f'images of {width}x{height} are too small: give at least {MIN_SIDE} a side')
    rng = np.random.default_rng(seed)
    shapes = list(_scatter(rng, width, height))
    if shapes and rng.random() < 0.06:
        shapes += _crowd(rng, width, height)
    visible = _visible(shapes, width, height)
    image = _background(rng, width, height)
    light_angle, shadow = rng.uniform(-2.6, -0.5), rng.uniform(0.1, 0.5)
    light = np.array([np.cos(light_angle), np.sin(light_angle)], np.float32)
    for shape, _ in visible:
        _draw_shape(rng, image, shape, light, shadow)
    objects = [SceneObject(int(shape.category), mask, False) for shape, mask in visible if not shape.crowd]
    members = [(shape.category, mask) for shape, mask in visible if shape.crowd]
    if members:
        objects.append(SceneObject(int(members[0][0]), np.any([mask for _, mask in members], 0), True))
    return Scene(_add_camera_noise(rng, image), objects)
