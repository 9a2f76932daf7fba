"""Images side by side on one."""
import cv2
import numpy as np

COLUMNS, WIDTH = 4, 400  # in a row, and pixels of each


def tile(image):
    """An image in the middle of a square of WIDTH pixels."""
    height, width = image.shape[:2]
    scale = WIDTH / max(height, width)
    small = cv2.resize(image, (max(1, round(width * scale)), max(1, round(height * scale))),
                       interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    tile = np.full((WIDTH, WIDTH, 3), 255, np.uint8)
    top, left = (WIDTH - small.shape[0]) // 2, (WIDTH - small.shape[1]) // 2
    tile[top:top + small.shape[0], left:left + small.shape[1]] = small
    return tile


def sheet(tiles, columns=COLUMNS):
    """Tiles of one size, uint8 [h, w, 3], in rows, on one image."""
    tiles = tiles or [np.full((WIDTH, WIDTH, 3), 255, np.uint8)]
    columns = min(columns, len(tiles))
    blank = np.full_like(tiles[0], 255)
    rows = [tiles[first:first + columns] for first in range(0, len(tiles), columns)]
    rows[-1] = rows[-1] + [blank] * (columns - len(rows[-1]))
    return np.concatenate([np.concatenate(row, 1) for row in rows])
