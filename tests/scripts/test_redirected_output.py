"""What commands write where standard error is a file, as of long work: whole lines, and nothing for a terminal."""
import sys

import cv2
import numpy as np
import paddle
import pytest

from data.coco import CocoDataset
from model.checkpoint import Checkpoint, save_checkpoint, tensors_of
from model.config import preset
from model.yolact import Yolact
from tests.helpers import ROOT, run
from tests.helpers.labelme import shape, write_labelme
from tests.helpers.networks import SMALL
from tools.shapes import write_dataset

AT_EVERY_STEP = """import runpy, sys
import system.progress
system.progress.LINE_INTERVAL = 0
sys.path.insert(0, '.')
name = sys.argv[1]
sys.argv = sys.argv[1:]
runpy.run_path(name, run_name='__main__') if name.endswith('.py') else runpy.run_module(name, run_name='__main__')
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A dataset, a checkpoint, a video and a label file."""
    folder = tmp_path_factory.mktemp('data')
    write_dataset(folder, train=4, val=3, test=3, width=160, height=120)
    paddle.seed(0)
    network = Yolact(preset(**SMALL))
    classes = CocoDataset(folder / 'annotations/instances_val.json', folder).classes
    save_checkpoint(folder / 'random.pd', Checkpoint(network.config, classes, tensors_of(network)))
    film = cv2.VideoWriter(str(folder / 'film.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 12.5, (160, 120))
    for _ in range(5):
        film.write(np.zeros((120, 160, 3), np.uint8))
    film.release()
    (folder / 'labels').mkdir()
    write_labelme(folder / 'labels', shape())
    return folder


@pytest.mark.parametrize('line, progress', [
    ('train.py --pattern=0 --backbone_name=resnet18dcn_half --input_size=256 --batch_size=2 --num_workers=0 --eval '
     '--steps=2 --train_images_path={0}/train --train_anno_path={0}/annotations/instances_train.json '
     '--valid_images_path={0}/val --valid_anno_path={0}/annotations/instances_val.json --save_dir={0}/weights',
     '100% 3/3 '),
    ('eval.py --model_path={0}/random.pd --valid_images_path={0}/val --report={0}/report.html '
     '--valid_anno_path={0}/annotations/instances_val.json', '100% 3/3 '),
    ('test_dev.py --model_path={0}/random.pd --test_images_path={0}/test --out={0}/results.json '
     '--test_anno_path={0}/annotations/image_info_test.json', '100% 3/3 '),
    ('demo.py --model_path={0}/random.pd --images={0}/film.avi --out={0}/drawn', 'film.avi: 100% 5/5 '),
    ('demo.py --model_path={0}/random.pd --images={0}/val --out={0}/drawn', ''),
    ('export.py --model_path={0}/random.pd --format=half --out={0}/half.pd', ''),
    ('tools.check {0}/annotations/instances_train.json {0}/train', 'checking: 100% 4/4 '),
    ('tools.convert {0}/labels --out={0}/converted.json', 'reading: 100% 1/1 '),
    ('tools.shapes {0}/drawn_shapes --train=3 --val=1 --test=1', 'test: 100% 5/5 '),
    ('tools.visualize samples {0}/annotations/instances_train.json {0}/train --out={0}/samples.png', '')],
    ids=lambda line: line.partition(' ')[0] or 'none')
def test_long_work_writes_lines_into_a_file(folder, line, progress):
    done = run(sys.executable, '-c', AT_EVERY_STEP, *line.format(folder).split(), cwd=ROOT, text=False)
    written = (done.stdout + done.stderr).decode()
    assert done.returncode in (0, 1) and 'Traceback' not in written, written
    assert '\r' not in written and '\x1b' not in written
    assert any(found.startswith(progress) for found in done.stderr.decode().splitlines() or ['']), written
