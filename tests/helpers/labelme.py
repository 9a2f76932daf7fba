"""Label files of labelme, written for tests."""
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def shape(label: str = 'cat', points: Sequence[Sequence[float]] = ((0, 0), (10, 0), (10, 10)),
          **more: Any) -> dict[str, Any]:
    """A shape of a label file, by default a triangle."""
    return {'label': label, 'points': [list(point) for point in points], 'shape_type': 'polygon', **more}


def write_labelme(folder: Path, *shapes: dict[str, Any], name: str = 'one.json', **more: Any) -> Path:
    """Write a label file and its image, one.png, of 60x40 pixels. Returns the label file's path."""
    cv2.imwrite(str(folder / 'one.png'), np.zeros((40, 60, 3), np.uint8))
    path = folder / name
    path.write_text(json.dumps({'version': '5.0.1', 'shapes': list(shapes), 'imagePath': 'one.png',
                                'imageHeight': 40, 'imageWidth': 60, **more}))
    return path
