"""Outputs that would take the place of an input, of each other, or of a stranger's file."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.hostile.base import Base
from tests.hostile.case import Case

REFUSED = r'input|read|over|name another|where the images are'


def cases(base: Base) -> Iterator[Case]:
    def own(here: Path) -> None:
        """Inputs of the case's own, which must stay as they are."""
        shutil.copytree(base.photos, here / 'in')
        shutil.copy(base.annotations, here / 'a.json')
        shutil.copytree(base.model, here / 'm.pd')
        shutil.copy(base.folder / '.model.pd.fp32.zip', here / '.m.pd.fp32.zip')
        shutil.copy(base.results, here / 'res.json')
        (here / 'linked').symlink_to('in')
        (here / 'link.json').symlink_to('a.json')
        os.link(here / 'a.json', here / 'hard.json')

    inputs = {'images': '{here}/in', 'annotations': '{here}/a.json', 'model': '{here}/m.pd'}
    evaluation = {
        'model_path': inputs['model'],
        'valid_images_path': inputs['images'],
        'valid_anno_path': inputs['annotations'],
    }
    targets = {
        'the annotations': '{here}/a.json',
        'the annotations through a link': '{here}/link.json',
        'the annotations through another name': '{here}/hard.json',
        'the annotations through a detour': '{here}/in/../a.json',
        'an image': '{here}/in/7.jpg',
        'an image through a linked folder': '{here}/linked/7.jpg',
        'meta.json': '{here}/m.pd/meta.json',
        'the weights': '{here}/m.pd/model.safetensors',
    }
    runs = {}
    for name, target in targets.items():
        runs |= {
            f'eval --json, {name}': base.eval(**evaluation, json=target),
            f'eval --report, {name}': base.eval(**evaluation, report=target),
            f'demo --save_json, {name}': base.demo(
                model_path=inputs['model'], images=inputs['images'], save_json=target
            ),
            f'test_dev --out, {name}': base.test_dev(
                model_path=inputs['model'],
                test_images_path=inputs['images'],
                test_anno_path=inputs['annotations'],
                out=target,
            ),
        }
        if 'annotations' in name:
            runs[f'convert --out, {name}'] = ['tools.convert', '{here}/lab', '--out', target]
        if 'image' in name:
            runs |= {
                f'check --samples, {name}': base.check(
                    annotations=inputs['annotations'], images=inputs['images'], samples=target
                ),
                f'samples --out, {name}': base.samples(
                    annotations=inputs['annotations'], images=inputs['images'], out=target
                ),
                f'anchors --out, {name}': base.anchors(
                    annotations=inputs['annotations'], images=inputs['images'], out=target.replace('.jpg', '.jpg')
                ),
                f'prototypes --out, {name}': base.prototypes('{here}/in/7.jpg', model_path=inputs['model'], out=target),
            }
    for name, line in runs.items():
        if name.startswith(('convert', 'demo --save_json, the annotations')):  # which these do not read
            continue
        yield Case('output over an input', name, line, own, (2,), outputs=('out',), max_lines=4)
    more = {
        'demo --out is the folder of images': base.demo(images='{here}/in', out='{here}/in'),
        'demo --out is that folder through a link': base.demo(images='{here}/in', out='{here}/linked'),
        'demo --out, images through a link': base.demo(images='{here}/linked', out='{here}/in'),
        'demo --out, an image through a link': base.demo(images='{here}/linked/7.jpg', out='{here}/in'),
        'demo --save_masks into the images': base.demo(
            images='{here}/in', no_draw=True, save_masks='ids', out='{here}/in'
        ),
        'eval --results over itself by --json': base.eval(
            valid_anno_path='{here}/a.json', results='{here}/res.json', json='{here}/res.json'
        ),
        'eval --results over itself by --report': base.eval(
            valid_anno_path='{here}/a.json', results='{here}/res.json', report='{here}/res.json'
        ),
        'eval --json and --report to one file': base.eval(json='{here}/x', report='{here}/x'),
        'eval --json and --report to one file by two names': base.eval(json='{here}/x', report='{here}/in/../x'),
        'export over its checkpoint': base.export(model_path='{here}/m.pd', format='half', out='{here}/m.pd'),
        'export over an image': base.export(model_path='{here}/m.pd', image='{here}/in/7.jpg', out='{here}/in/7.jpg'),
        'export --format paddle over a folder': base.export(model_path='{here}/m.pd', format='paddle', out='{here}/in'),
        'shapes into the images': ['tools.shapes', '{here}/in', '--train', '1', '--val', '0', '--test', '0'],
        'shapes through a link': ['tools.shapes', '{here}/linked', '--train', '1', '--val', '0', '--test', '0'],
        'test_dev --out is a folder': base.test_dev(out='{here}/in'),
        'train --save_dir is a file': base.train(save_dir='{here}/a.json'),
        'train --save_dir is a checkpoint': base.train(save_dir='{here}/m.pd'),
    }
    for name, line in more.items():
        yield Case('output over an input', name, line, own, (2,), outputs=('out',), max_lines=4)
    yield from _strangers(base)


def _strangers(base: Base) -> Iterator[Case]:
    """Files of others beside the outputs, links and FIFOs in their places among them."""
    old = (1, 1)
    names = [
        '.thesis.draft',
        '.#x.draft',
        '.a.part',
        '.x.json.part',
        '.e.onnx.part',
        '.yolact-x.part',
        '.7.jpg.part',
        '.r.json.part',
        '.r.zip.part',
        '.p.png.part',
        '.s.jpg.part',
        '.yolact-' + 'g' * 32 + '.part',
    ]
    commands = {
        'train': base.train(save_dir='{here}'),
        'demo': base.demo(out='{here}', save_json='{here}/x.json'),
        'test_dev': base.test_dev(),
        'export': base.export(),
        'check': base.check(),
        'eval': base.eval(json='{here}/x.json'),
    }
    outputs = ('step*', 'log.jsonl', '7.jpg', '8.jpg', 'x.json', 'r*', '.r.json.*.parts', 'e*.onnx', 's.jpg')
    for entry, line in commands.items():

        def folders(here: Path) -> None:
            for name in names:
                (here / name).mkdir()
                (here / name / 'mine.txt').write_text('mine')
                os.utime(here / name, old)

        def files(here: Path) -> None:
            for name in names:
                (here / name).write_text('mine')
                os.utime(here / name, old)

        def links(here: Path) -> None:
            (here / 'mine').write_text('mine')
            for name in names:
                (here / name).symlink_to('mine')

        def dangling(here: Path) -> None:
            for name in names:
                (here / name).symlink_to('gone')

        def fifos(here: Path) -> None:
            for name in names:
                os.mkfifo(here / name)

        for what, prepare in (
            ('folders', folders),
            ('files', files),
            ('links', links),
            ('dangling links', dangling),
            ('FIFOs', fifos),
        ):
            status = (1,) if entry == 'check' else (0,)
            yield Case("strangers' files", f'{what}, {entry}', line, prepare, status, outputs=outputs, max_lines=8)
    places = {
        'demo --save_json': (base.demo(save_json='{here}/x.json'), 'x.json'),
        'eval --json': (base.eval(json='{here}/x.json'), 'x.json'),
        'eval --report': (base.eval(report='{here}/x.html'), 'x.html'),
        'export': (base.export(out='{here}/x.onnx'), 'x.onnx'),
        'check --samples': (base.check(samples='{here}/x.jpg'), 'x.jpg'),
        'train log': (base.train(save_dir='{here}'), 'log.jsonl'),
        'demo --out': (base.demo(out='{here}/x'), 'x/7.jpg'),
    }
    for entry, (line, place) in places.items():

        def through(here: Path, place: str = place) -> None:
            (here / 'mine').write_text('mine')
            (here / place).parent.mkdir(exist_ok=True)
            (here / place).symlink_to(here / 'mine')

        def untouched(here: Path) -> str:
            return '' if (here / 'mine').read_text() == 'mine' else 'a link was followed and the file behind it changed'

        yield Case(
            "strangers' files",
            f'a link in the place of the output, {entry}',
            line,
            through,
            (0, 1, 2),
            max_lines=8,
            outputs=(place, 'x*', 'out', 'out/*', 'step*', 'log.jsonl', 'x/*'),
            check=untouched,
        )

        def fifo(here: Path, place: str = place) -> None:
            (here / place).parent.mkdir(exist_ok=True)
            os.mkfifo(here / place)

        yield Case(
            "strangers' files",
            f'a FIFO in the place of the output, {entry}',
            line,
            fifo,
            (1, 2),
            max_lines=8,
            max_seconds=30,
            outputs=('out', 'out/*', 'step*', 'x/*', 'x_mask*') if entry != 'demo --out' else ('x/*',),
        )

    def two(here: Path) -> str:
        try:
            json.loads((here / 'x.json').read_text())
        except ValueError as error:
            return f'x.json: {error}'
        return ''

    for entry, line in {
        'demo --save_json': base.demo(no_draw=True, save_json='{here}/x.json', out=None),
        'eval --json': base.eval(json='{here}/x.json'),
    }.items():
        yield Case(
            'two at once',
            f'one file, {entry}',
            line,
            status=(0,),
            shell='$COMMAND & $COMMAND & $COMMAND; wait',
            outputs=('x.json',),
            check=two,
            max_lines=12,
        )
