"""Good inputs, from which the hostile ones are made."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.helpers import ROOT
from tests.helpers.bad_annotations import annotation, category, content, write_json

CATEGORIES = [category(id, f'kind {id}') for id in range(3, 11)]
NETWORK = '--backbone_name=resnet18dcn_half', '--input_size=256'

_MAKE_MODEL = """
import sys, paddle
from model.checkpoint import Checkpoint, save_checkpoint, tensors_of
from model.classes import Classes
from model.config import preset
from model.yolact import Yolact
paddle.seed(0)
network = Yolact(preset('resnet18dcn_half', num_classes=9, input_size=256))
classes = Classes([f'kind {id}' for id in range(3, 11)], range(3, 11))
save_checkpoint(sys.argv[1], Checkpoint(network.config, classes, tensors_of(network)))
"""


@dataclass(frozen=True)
class Base:
    """A folder of good inputs. Nothing in it may change.

    Attributes:
        folder: Path; photos/7.jpg and 8.jpg, good.json, model.pd (with its ONNX cache), run.pd (with optimizer state),
            model.onnx, results.json, video.avi, labels/.
    """

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return {
            'photos': self.folder / 'photos',
            'annotations': self.folder / 'good.json',
            'model': self.folder / 'model.pd',
            'run': self.folder / 'run.pd',
            'onnx': self.folder / 'model.onnx',
            'results': self.folder / 'results.json',
            'video': self.folder / 'video.avi',
            'labels': self.folder / 'labels',
        }[name]

    def demo(self, **flags: object) -> list[str]:
        return command('demo.py', {'model_path': self.model, 'images': self.photos, 'out': '{here}/out', **flags})

    def eval(self, **flags: object) -> list[str]:
        return command(
            'eval.py',
            {
                'model_path': self.model,
                'valid_images_path': self.photos,
                'valid_anno_path': self.annotations,
                'num_workers': 0,
                **flags,
            },
        )

    def test_dev(self, **flags: object) -> list[str]:
        return command(
            'test_dev.py',
            {
                'model_path': self.model,
                'test_images_path': self.photos,
                'test_anno_path': self.annotations,
                'out': '{here}/r.json',
                'num_workers': 0,
                **flags,
            },
        )

    def train(self, *more: str, **flags: object) -> list[str]:
        defaults = {
            'pattern': 0,
            'backbone_name': 'resnet18dcn_half',
            'input_size': 256,
            'batch_size': 1,
            'num_workers': 0,
            'log_interval': 1,
            'augmentation': 'light',
            'steps': 1,
            'lr': 1e-5,
            'train_images_path': self.photos,
            'train_anno_path': self.annotations,
            'save_dir': '{here}/w',
        }
        return [*command('train.py', {**defaults, **flags}), *more]

    def resume(self, *more: str, **flags: object) -> list[str]:
        return self.train(
            *more,
            **{'pattern': 1, 'model_path': self.run, 'steps': 3, 'backbone_name': None, 'input_size': None, **flags},
        )

    def export(self, **flags: object) -> list[str]:
        return command('export.py', {'model_path': self.model, 'out': '{here}/e.onnx', **flags})

    def check(self, **flags: object) -> list[str]:
        positional = [str(flags.pop('annotations', self.annotations)), str(flags.pop('images', self.photos))]
        return ['tools.check', *positional, *command('', {'samples': '{here}/s.jpg', **flags})[1:]]

    def samples(self, **flags: object) -> list[str]:
        positional = [str(flags.pop('annotations', self.annotations)), str(flags.pop('images', self.photos))]
        return [
            'tools.visualize',
            'samples',
            *positional,
            *NETWORK,
            *command('', {'out': '{here}/s.png', 'number': 2, 'augmentation': 'light', **flags})[1:],
        ]

    def anchors(self, **flags: object) -> list[str]:
        positional = [str(flags.pop('annotations', self.annotations)), str(flags.pop('images', self.photos))]
        return ['tools.visualize', 'anchors', *positional, *NETWORK, *command('', {'out': '{here}/a.png', **flags})[1:]]

    def prototypes(self, image: object = None, **flags: object) -> list[str]:
        return [
            'tools.visualize',
            'prototypes',
            str(image or self.photos / '7.jpg'),
            *command('', {'model_path': self.model, 'out': '{here}/p.png', **flags})[1:],
        ]


def command(script: str, flags: dict[str, object]) -> list[str]:
    """A command line; a flag that is None is left out, one that is True has no value."""
    line = [script]
    for name, value in flags.items():
        if value is True:
            line.append(f'--{name}')
        elif isinstance(value, (list, tuple)):
            line += [f'--{name}', *map(str, value)]
        elif value is not None:
            line.append(f'--{name}={value}')
    return line


def make_base(folder: Path) -> Base:
    """Make the good inputs."""
    base = Base(folder)
    base.photos.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ('7.jpg', '8.jpg'):
        Image.fromarray(cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (80, 60))).save(base.photos / name)
    write_json(base.annotations, content([annotation(1), annotation(2, image_id=8)], categories=CATEGORIES))
    writer = cv2.VideoWriter(str(base.video), cv2.VideoWriter_fourcc(*'MJPG'), 25, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    base.labels.mkdir()
    shutil.copy(base.photos / '7.jpg', base.labels)
    good = {'label': 'x', 'points': [[1, 2], [30, 2], [9, 9]]}
    write_json(base.labels / '7.json', {'shapes': [good], 'imagePath': '7.jpg'})

    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)

    run('-c', _MAKE_MODEL, str(base.model))
    run('demo.py', '--model_path', str(base.model), '--images', str(base.photos), '--out', str(folder / 'out'))
    run('export.py', '--model_path', str(base.model), '--out', str(base.onnx))
    run('test_dev.py', *(part.replace('{here}/r.json', str(base.results)) for part in base.test_dev()[1:]))
    run(*(part.replace('{here}', str(folder)) for part in base.train(steps=2)))
    next((folder / 'w').glob('step*.pd')).rename(base.run)
    shutil.rmtree(folder / 'w')
    shutil.rmtree(folder / 'out')
    return base


def copy_photos(base: Base, here: Path) -> Path:
    """A folder of images of the case's own."""
    shutil.copytree(base.photos, here / 'in')
    return here / 'in'


def listed(base: Base, here: Path, **keys: object) -> Path:
    """An annotation file of the case's own, with keys of the first image changed."""
    found = json.loads(base.annotations.read_text())
    found['images'][0].update(keys)
    return write_json(here / 'own.json', found)
