"""Images side by side on one."""
from collections.abc import Sequence

import cv2
import numpy as np

TILE_SIZE = 400  # pixels, of a square tile's side
COLUMNS = 4


def make_tile(image: np.ndarray) -> np.ndarray:
    """An image, uint8 [H, W, 3], resized and padded with white to a square: uint8 [TILE_SIZE, TILE_SIZE, 3]."""
    height, width = image.shape[:2]
    scale = TILE_SIZE / max(height, width)
    resized = cv2.resize(image, (max(1, round(width * scale)), max(1, round(height * scale))),
                         interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    tile = _blank_tile()
    top, left = (TILE_SIZE - resized.shape[0]) // 2, (TILE_SIZE - resized.shape[1]) // 2
    tile[top:top + resized.shape[0], left:left + resized.shape[1]] = resized
    return tile


def make_grid(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """Tiles of one size, uint8 [h, w, 3], in rows of `COLUMNS` on one image. Without tiles it is one blank tile."""
    tiles = list(tiles) or [_blank_tile()]
    columns = min(COLUMNS, len(tiles))
    blank = np.full_like(tiles[0], 255)
    rows = [tiles[first:first + columns] for first in range(0, len(tiles), columns)]
    rows[-1] = rows[-1] + [blank] * (columns - len(rows[-1]))
    return np.concatenate([np.concatenate(row, 1) for row in rows])


def _blank_tile() -> np.ndarray:
    return np.full((TILE_SIZE, TILE_SIZE, 3), 255, np.uint8)
