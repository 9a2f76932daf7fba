"""The predictor as a library."""
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from data.images import ImageError, read_image
from prediction import Predictor
from prediction.predictor import visible
from tests.helpers import ROOT

IMAGE = ROOT / 'images/test/shapes_2000004.jpg'


def code_blocks(page):
    """The Python of a page, in its order."""
    return re.findall(r'^```python\n(.+?)^```', (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope='module')
def predictor():
    return Predictor.open(ROOT / 'weights/shapes.pd', 'cpu', score_threshold=0.3)


@pytest.mark.parametrize('page', ['README.md', 'README_cn.md', 'docs/library.md'])
def test_the_code_in_the_pages_runs_as_written(page, predictor, tmp_path):
    blocks = code_blocks(page)
    assert blocks
    program = tmp_path / 'program.py'
    program.write_text('\n'.join(blocks))
    done = subprocess.run([sys.executable, program], cwd=ROOT, env={**os.environ, 'PYTHONPATH': str(ROOT)},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    detections = predictor.predict(IMAGE)
    assert len(detections) > 3
    for i, line in enumerate(lines[:len(detections)]):
        assert line.startswith(predictor.classes.names[detections.classes[i]])
        assert line.endswith(str(detections.full_mask(i).sum()))


def test_what_comes_back_scores_more_than_the_threshold_and_has_pixels(predictor):
    image = read_image(IMAGE)
    low = Predictor.open(ROOT / 'weights/shapes.pd', 'cpu', score_threshold=0.05).predict(image)
    high = predictor.predict(image)
    assert low.box_scores.min() > 0.05 and high.box_scores.min() > 0.3
    assert len(visible(low, 0.3)) == len(high) < len(low)
    assert all(mask.any() for mask in low.masks)


def test_a_file_an_array_and_a_batch_give_the_same(predictor):
    image = read_image(IMAGE)
    alone, array, (first, second) = predictor.predict(IMAGE), predictor.predict(image), predictor([image, image])
    for other in (array, first, second):
        np.testing.assert_allclose(other.boxes, alone.boxes, atol=1e-3)
        np.testing.assert_array_equal(other.classes, alone.classes)


def test_mistakes_are_errors_at_once(predictor, tmp_path):
    with pytest.raises(TypeError, match='score_treshold'):
        Predictor.open(tmp_path / 'none.pd', score_treshold=0.3)
    with pytest.raises(ImageError, match='no such file'):
        predictor.predict(tmp_path / 'none.jpg')
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match=r'an image is uint8 \[h, w, 3\], BGR'):
            predictor.predict(wrong)


def test_prediction_with_onnx_runtime_does_not_import_paddle(predictor):
    pytest.importorskip('onnxruntime')  # and the fixture has filled the cache
    code = ('import sys; from prediction import Predictor; assert "paddle" not in sys.modules\n'
            f'found = Predictor.open({str(ROOT / "weights/shapes.pd")!r}, "cpu").predict({str(IMAGE)!r})\n'
            'assert len(found) and "paddle" not in sys.modules')
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)
