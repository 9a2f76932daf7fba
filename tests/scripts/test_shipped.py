"""The bundled model, and the images to try it on."""
import re
from pathlib import Path

import numpy as np
import pytest

import demo
from data.coco import CocoDataset
from data.images import find_images, read_image
from evaluation.evaluate import evaluate
from prediction import Predictor
from tests.helpers import ROOT
from tools.shapes import write_dataset

MODEL = ROOT / 'weights/shapes.pd'


def test_it_is_small_enough_to_be_bundled() -> None:
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 8_000_000


def test_it_finds_shapes_in_new_images(tmp_path: Path) -> None:
    write_dataset(tmp_path, seed=77, train=0, val=40, test=0)
    dataset = CocoDataset(tmp_path / 'annotations/instances_val.json', tmp_path / 'val')
    metrics, problems = evaluate(Predictor.open(MODEL, 'cpu', score_threshold=0.05), dataset)
    assert not problems
    assert metrics.mask is not None and metrics.box is not None
    assert metrics.mask['AP'] > 0.5 and metrics.box['AP'] > 0.58 and metrics.mask['AP50'] > 0.82


def test_the_demo_finds_objects_in_every_bundled_image(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert demo.main(['--out', str(tmp_path)]) == 0
    images = find_images('images/test')
    found = re.findall(r'^(.+): (\d+) objects?, ', capsys.readouterr().out, re.MULTILINE)
    assert [name for name, _ in found] == [path.name for path in images] and len(images) >= 5
    for (name, count), path in zip(found, images):
        assert int(count) > 0
        before, after = read_image(path), read_image(tmp_path / name)
        assert before.shape == after.shape and (np.abs(before.astype(int) - after).max(2) > 30).mean() > 0.01
