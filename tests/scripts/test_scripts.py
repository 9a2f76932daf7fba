"""eval.py, test_dev.py and demo.py, on a small network with random weights."""
import contextlib
import dataclasses
import importlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import demo
import export
from data.coco import CocoDataset
from data.images import read_image, write_image
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, tensors_of
from model.classes import Classes
from model.config import preset
from model.postprocess import Detections
from model.yolact import Yolact
from prediction.predictor import visible
from system.command import exit_status
from system.journal import Journal
from tests.helpers import ROOT
from tests.helpers.ground_truth import ground_truth
from tests.helpers.networks import SMALL
from tools.shapes import write_split

SHIPPED = ROOT / 'weights/shapes.pd'
SCRIPTS = ('demo', 'eval', 'test_dev')


class Known(NamedTuple):
    """A predictor that sees the same in all images."""
    detections: Detections
    classes: Classes

    def __call__(self, images):
        return [self.detections] * len(images)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Four images in val/, of which one is damaged, three in test/, and checkpoints."""
    folder = tmp_path_factory.mktemp('scripts')
    write_split(folder, 'val', 4)
    write_split(folder, 'test', 3)
    for path in (folder / 'val/shapes_1000002.jpg', folder / 'test/shapes_2000002.jpg'):
        path.write_bytes(path.read_bytes()[:2000])
    paddle.seed(0)
    network = Yolact(preset(**SMALL))
    classes = CocoDataset(folder / 'annotations/instances_val.json', folder).classes
    for name, names in (('random.pd', classes.names), ('other.pd', ('dog', *classes.names[1:]))):
        save_checkpoint(folder / name, Checkpoint(network.config, Classes(names, classes.ids),
                                                  tensors_of(network)))
    return folder


def run(script, *flags):
    """Exit status, lines of output and lines of complaint of a script in a process of its own."""
    process = subprocess.run([sys.executable, ROOT / f'{script}.py', *flags], capture_output=True)
    out, err = (stream.decode('utf-8').split('\n')[:-1] for stream in (process.stdout, process.stderr))
    return process.returncode, out, err


def complaint(capsys, script, *flags):
    """The one line that a script ends with, with exit status 2."""
    assert exit_status(importlib.import_module(script).main, [str(flag) for flag in flags]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count('\n')) == ('', 1)
    start = f'{script}.py: error: '
    assert err.startswith(start)
    return err[len(start):]


def eval_flags(folder, annotations='instances_val.json', model='random.pd'):
    return ('--model_path', folder / model, '--valid_images_path', folder / 'val',
            '--valid_anno_path', folder / 'annotations' / annotations)


def test_dev_flags(folder, out, model='random.pd'):
    return ('--model_path', folder / model, '--test_images_path', folder / 'test', '--out', out,
            '--test_anno_path', folder / 'annotations/image_info_test.json')


test_dev_flags.__test__ = False


@pytest.mark.parametrize('script', SCRIPTS)
def test_help_is_quick_and_tells_every_default(script):
    code = (f'import sys, {script} as script\n'
            "try: script.main(['--help'])\n"
            "finally: assert 'paddle' not in sys.modules")
    process = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, '')
    entries = [' '.join(entry.split()) for entry in process.stdout.split('\n  --')[1:]]
    defaults = {entry.split()[0]: re.split(r'\(default(?: here)?: |\)', entry)[1] for entry in entries}
    assert len(defaults) >= 8 and all(defaults.values())
    assert defaults['top_k'] == '200'
    assert defaults['obj_threshold'] == ('0.3' if script == 'demo' else '0.05')


def test_paddle_is_imported_in_silence():
    code = "import os; os.environ.pop('OMP_NUM_THREADS', None); import model, paddle"
    process = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (0, '', '')


@pytest.mark.parametrize('script', SCRIPTS)
@pytest.mark.parametrize('flags', [('--obj_threshold', '1.5'), ('--nms_threshold', 'nan'), ('--top_k', '0')])
def test_values_out_of_range_are_refused(script, flags, capsys):
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(script).main(flags)
    assert stop.value.code == 2
    assert f'argument {flags[0]}: {flags[1]} is not' in capsys.readouterr().err


def test_demo_draws_what_it_can_read(folder, tmp_path):
    images, out = tmp_path / 'images', tmp_path / 'new' / 'out'
    images.mkdir()
    image = read_image(folder / 'val/shapes_1000001.jpg')
    names = ['plain.png', '图片.png', os.fsdecode(b'\xff.png')]
    for name in names:
        write_image(images / name, image)
    Image.new('RGB', (40, 30)).save(images / 'still.gif')
    (images / 'broken.gif').write_bytes(b'GIF89a')
    write_image(images / 'broken.gif.png', image)
    write_image(images / 'two\nlines.png', image)
    write_image(images / 'still.gif.png', image)
    (images / 'damaged.jpg').write_bytes((folder / 'val/shapes_1000002.jpg').read_bytes())
    (images / 'link.jpg').symlink_to(tmp_path / 'gone.jpg')
    status, lines, complaints = run('demo', '--model_path', folder / 'random.pd', '--images', images,
                                    '--out', out)
    assert status == 1
    assert len(complaints) == 4 and complaints[0].startswith(f'skipped: {images / "broken.gif"}: ')
    assert complaints[1].startswith(f'skipped: {images / "damaged.jpg"}: ')
    assert complaints[2].startswith(f'skipped: {images / "link.jpg"}: a link to a file that is gone')
    assert complaints[3].startswith(f'skipped: {images / "still.gif.png"}: would be drawn over {out / "still.gif.png"}')
    shown = [re.fullmatch(r'(.+): \d+ objects?, \d+ ms', line)[1] for line in lines[:-1]]
    assert shown == ['broken.gif.png', 'plain.png', 'still.gif', 'two\\nlines.png', '图片.png', '\\udcff.png']
    assert lines[-1].startswith('6 of 10 images in ') and lines[-1].endswith(f'Results are in {out}')
    names += ['still.gif.png', 'broken.gif.png', 'two\nlines.png']
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    drawn = read_image(out / '图片.png')
    assert drawn.shape == image.shape and (drawn != image).any()


def test_only_objects_above_the_threshold_that_have_pixels_are_visible(folder):
    dataset = CocoDataset(folder / 'annotations/instances_val.json', folder / 'val')
    detections = ground_truth(dataset, 0)
    detections.box_scores[:] = np.where(np.arange(len(detections)) < 1, 0.9, 0.2)
    assert [len(visible(detections, threshold)) for threshold in (0.9, 0.3, 0.2, 0.1)] == [0, 1, 1, len(detections)]
    detections.masks[0] = np.zeros((3, 3), bool)
    assert len(visible(detections, 0.3)) == 0


def test_demo_takes_one_image(folder, tmp_path, capsys):
    image = folder / 'val/shapes_1000001.jpg'
    flags = ('--model_path', folder / 'random.pd', '--images', image, '--out', tmp_path)
    assert demo.main([str(flag) for flag in flags]) == 0
    assert [path.name for path in tmp_path.iterdir()] == [image.name]


def test_demo_refuses_what_cannot_work(folder, tmp_path, capsys):
    def refused(images=folder / 'val', out=tmp_path / 'out', model=folder / 'random.pd', **flags):
        return complaint(capsys, 'demo', '--images', images, '--out', out, '--model_path', model,
                         *(f'--{flag}={value}' for flag, value in flags.items()))
    (tmp_path / 'file').write_text('')
    (tmp_path / 'link').symlink_to(folder / 'val')
    assert refused(images=folder / 'annotations').startswith(f'{folder / "annotations"}: no images')
    assert refused(images=tmp_path / 'none').startswith(f'{tmp_path / "none"}: no such folder')
    for out in (folder / 'val', tmp_path / 'link'):
        for images in (folder / 'val', folder / 'val/shapes_1000001.jpg'):
            assert refused(images, out).startswith(f'{out}: --out is where the images are')
    for out in (tmp_path / 'file', tmp_path / 'file/below', tmp_path / ('x' * 300), Path('/proc'), Path('/proc/none')):
        assert refused(out=out).startswith(f'{out}: cannot be a folder')
    assert refused(images=tmp_path / ('x' * 300)).startswith(f'{tmp_path / ("x" * 300)}: not a folder')
    assert refused(model=tmp_path / 'none').startswith(f'{tmp_path / "none"}: no such checkpoint')
    assert refused(device='abacus').startswith("device 'abacus'")
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('flag', ['--out', '--images'])
def test_demo_does_not_take_no_name_for_the_current_folder(flag, capsys):
    with pytest.raises(SystemExit) as stop:
        demo.main([flag, ''])
    assert stop.value.code == 2
    assert f'argument {flag}: is empty' in capsys.readouterr().err


def interrupted(script, *flags):
    """Exit status and the last line of a script that got Ctrl-C after its first images, on a terminal."""
    terminal, other_end = pty.openpty()
    process = subprocess.Popen([sys.executable, ROOT / f'{script}.py', *flags], stdout=other_end, stderr=other_end)
    os.close(other_end)
    seen, sent = b'', False
    with contextlib.suppress(OSError):  # when the other end is closed
        while more := os.read(terminal, 1000):
            seen += more
            if not sent and re.search(rb' ms\r?\n|\b[1-9]\d*/300\b', seen):
                process.send_signal(signal.SIGINT)
                sent = True
    os.close(terminal)
    assert b'Traceback' not in seen
    return process.wait(timeout=60), [line for line in re.split(r'[\r\n]', seen.decode()) if line.strip()][-1]


def test_interruption_is_one_line_and_nothing_half_written(folder, tmp_path):
    images, out = tmp_path / 'images', tmp_path / 'out'
    images.mkdir()
    for i in range(300):
        (images / f'{i}.jpg').symlink_to(folder / 'val/shapes_1000001.jpg')
    truth = json.loads((folder / 'annotations/instances_val.json').read_text())
    first, annotations = truth['images'][0], tmp_path / 'many.json'
    truth['images'] = [{**first, 'id': i, 'file_name': f'{i}.jpg'} for i in range(300)]
    truth['annotations'] = []
    annotations.write_text(json.dumps(truth))
    model = ('--model_path', folder / 'random.pd')
    last = '{}.py: interrupted; files that were written are complete'
    assert interrupted('demo', *model, '--images', images, '--out', out) == (
        130, f'interrupted: {len(list(out.iterdir()))} of 300 images are done')
    assert all(read_image(path).shape == (first['height'], first['width'], 3) for path in out.iterdir())
    assert interrupted('eval', *model, '--valid_images_path', images,
                       '--valid_anno_path', annotations) == (130, last.format('eval'))
    assert interrupted('test_dev', *model, '--test_images_path', images, '--test_anno_path', annotations,
                       '--out', tmp_path / 'results/all.json') == (
        130, 'test_dev.py: stopped; the same command goes on from here')
    done, = (tmp_path / 'results').iterdir()
    assert done.name.startswith('.all.json.') and Journal(done).finished()


def test_eval_prints_figures_and_lists_what_is_wrong(folder):
    annotations = json.loads((folder / 'annotations/instances_val.json').read_text())
    for record in annotations['annotations'][:7]:
        record['category_id'] = 12345
    (folder / 'annotations/odd.json').write_text(json.dumps(annotations))
    status, lines, complaints = run('eval', *eval_flags(folder, 'odd.json'), '--batch_size', '2')
    assert status == 1
    assert (lines[0], lines[13]) == ('box:', 'mask:')
    assert all(re.fullmatch(r' Average (Precision|Recall) .+ \] = -?\d\.\d{3}', line) for line in lines[1:13])
    assert [line[:8] for line in lines[26:32]] == ['', '       |', '-------+', '   box |', '  mask |', '']
    classes = CocoDataset(folder / 'annotations/odd.json', folder).classes
    assert [line.split()[0] for line in lines[32:]] == ['class', *classes.names]
    assert all('its category_id, 12345, is not in the file' in line for line in complaints[:5])
    assert complaints[5] == 'Annotations that are left out: 7'
    assert complaints[-2].startswith(f'{folder / "val/shapes_1000002.jpg"}: ')
    assert complaints[-1] == 'Images that count as having no detections: 1'
    assert len(complaints) == 8  # and no progress bar, since standard error is no terminal


def test_eval_of_good_images_succeeds(folder, capsys):
    flags = (*eval_flags(folder), '--max_images', '1', '--cross_class_nms')
    assert importlib.import_module('eval').main([str(flag) for flag in flags]) == 0
    assert capsys.readouterr().err == ''


def test_eval_writes_every_figure_for_machines(folder, tmp_path, capsys):
    flags = (*eval_flags(folder), '--max_images', '1', '--json', tmp_path / 'new/figures.json')
    assert importlib.import_module('eval').main([str(flag) for flag in flags]) == 0
    printed = [float(number) for number in re.findall(r'\] = (-?\d\.\d{3})', capsys.readouterr().out)]
    content = json.loads((tmp_path / 'new/figures.json').read_text())
    metrics = [*content['box'].values()][:12] + [*content['mask'].values()][:12]
    assert [-1 if figure is None else round(figure, 3) for figure in metrics] == printed
    assert list(content['mask']['by_iou']) == [f'0.{percent}' for percent in range(50, 100, 5)]
    truth = json.loads((folder / 'annotations/instances_val.json').read_text())
    first = truth['images'][0]['id']
    labels = [thing['category_id'] for thing in truth['annotations']
              if thing['image_id'] == first and not thing['iscrowd']]
    assert [(one['id'], one['objects']) for one in content['classes']] == [
        (category['id'], labels.count(category['id'])) for category in truth['categories']]
    for one in content['classes']:
        assert one.keys() == {'id', 'name', 'objects', 'box', 'mask'}
        assert (one['mask'] is None) == (one['objects'] == 0)
    assert content['problems'] == []


def test_eval_judges_what_test_dev_wrote_as_it_judges_the_checkpoint(folder, tmp_path, capsys):
    """And both as pycocotools does."""
    annotations = folder / 'annotations/instances_val.json'
    own, out = importlib.import_module('eval'), tmp_path / 'val_results.json'
    flags = ('--model_path', SHIPPED, '--test_images_path', folder / 'val', '--test_anno_path', annotations)
    assert importlib.import_module('test_dev').main([*map(str, flags), '--out', str(out)]) == 1
    flags = ('--model_path', SHIPPED, '--valid_images_path', folder / 'val', '--valid_anno_path', annotations)
    assert own.main([*map(str, flags), '--json', str(tmp_path / 'own.json')]) == 1
    metrics = json.loads((tmp_path / 'own.json').read_text())
    for kind, iou_type, path in (('mask', 'segm', out), ('box', 'bbox', tmp_path / 'val_bbox_results.json')):
        flags = ['--valid_anno_path', str(annotations), '--results', str(path), '--json',
                 str(tmp_path / 'of_file.json')]
        code = f"import eval, sys; assert eval.main({flags}) == 0; assert 'paddle' not in sys.modules"
        subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)
        of_file = json.loads((tmp_path / 'of_file.json').read_text())
        assert of_file[kind] == metrics[kind]
        truth = COCO(str(annotations))
        direct = COCOeval(truth, truth.loadRes(str(path)), iou_type)
        direct.evaluate()
        direct.accumulate()
        direct.summarize()
        np.testing.assert_allclose([*metrics[kind].values()][:12], direct.stats, atol=1e-9)
        assert metrics[kind]['AP'] > 0.2


def test_eval_refuses_results_that_cannot_work(folder, tmp_path, capsys):
    out = tmp_path / 'results.json'
    out.write_text('[{"image_id": 5}]')
    flags = eval_flags(folder)
    assert complaint(capsys, 'eval', *flags, '--results', out).startswith(f'{out}: result 1: image_id 5 is not')
    for path, named in ((tmp_path, tmp_path), ('/proc/none/figures.json', '/proc/none')):
        assert complaint(capsys, 'eval', *flags, '--json', path).startswith(f'{named}: ')


def test_eval_refuses_what_cannot_work(folder, capsys):
    annotations = folder / 'annotations/instances_val.json'
    assert re.match(rf"{annotations}: has other classes than the weights: '\w+' .+ against 'dog'",
                    complaint(capsys, 'eval', *eval_flags(folder, model='other.pd')))
    listed = folder / 'annotations/image_info_test.json'
    assert complaint(capsys, 'eval', *eval_flags(folder, listed.name)).startswith(f'{listed}: has no annota')
    assert 'cannot be read' in complaint(capsys, 'eval', *eval_flags(folder, 'none.json'))


def test_test_dev_writes_what_the_server_takes(folder, tmp_path):
    out = tmp_path / 'new' / 'detections_x_results.json'
    status, lines, complaints = run('test_dev', *test_dev_flags(folder, out), '--batch_size', '2')
    assert status == 1
    assert lines == [f'Wrote the detections in 2 images to {out}, and as a .zip']
    assert complaints[-2].startswith(f'{folder / "test/shapes_2000002.jpg"}: ')
    assert complaints[-1] == 'Images that were left out: 1'
    listed = COCO(str(folder / 'annotations/image_info_test.json'))
    for path, key in ((out, 'segmentation'), (out.with_name('detections_x_bbox_results.json'), 'bbox')):
        assert sorted(listed.loadRes(str(path)).imgToAnns) == [2000001, 2000003]
        for entry in json.loads(path.read_text()):
            assert entry.keys() == {'image_id', 'category_id', key, 'score'}
            assert entry['category_id'] in listed.cats and 0 <= entry['score'] <= 1
            image = listed.imgs[entry['image_id']]
            if key == 'bbox':
                assert entry['bbox'] == [round(side, 1) for side in entry['bbox']]
            else:
                assert entry['segmentation']['size'] == [image['height'], image['width']]
                assert type(entry['segmentation']['counts']) is str
        with zipfile.ZipFile(path.with_suffix('.zip')) as archive:
            assert archive.namelist() == [path.name] and archive.read(path.name) == path.read_bytes()
    assert sorted(path.name for path in out.parent.iterdir()) == [
        f'detections_x{kind}_results.{suffix}' for kind in ('_bbox', '') for suffix in ('json', 'zip')]


def test_test_dev_refuses_what_cannot_work(folder, tmp_path, capsys):
    out = tmp_path / 'results.json'
    assert 'has other classes' in complaint(capsys, 'test_dev', *test_dev_flags(folder, out, 'other.pd'))
    (tmp_path / 'file').write_text('')
    (tmp_path / 'folder.json').mkdir()
    (tmp_path / 'zipped.zip').mkdir()
    for out, named in ((tmp_path / 'file/results.json', tmp_path / 'file'),
                       ('/proc/none.json', '/proc/none.json'),
                       (tmp_path / 'folder.json', tmp_path / 'folder.json'),
                       (tmp_path / 'zipped.json', tmp_path / 'zipped.zip'),
                       (tmp_path / f'{"x" * 300}.json', tmp_path / f'{"x" * 300}.json')):
        flags = [str(flag) for flag in test_dev_flags(folder, out)]
        assert exit_status(importlib.import_module('test_dev').main, flags) == 2
        err = capsys.readouterr().err
        assert f'test_dev.py: error: {named}: ' in err and ' 1/3 ' not in err
    for out in ('results.zip', tmp_path):
        with pytest.raises(SystemExit, match='2'):
            importlib.import_module('test_dev').main([str(flag) for flag in test_dev_flags(folder, out)])
        assert 'is to end in .json; a .zip is written beside it' in capsys.readouterr().err


def test_export_keeps_the_weights_and_drops_the_rest(folder, tmp_path, capsys):
    full = load_checkpoint(folder / 'random.pd')
    save_checkpoint(tmp_path / 'full.pd', dataclasses.replace(full, optimizer_state=full.tensors, step=3,
                                                              recipe={'lr': 0.1}))
    flags = ['--model_path', str(tmp_path / 'full.pd'), '--format', 'half', '--out', str(tmp_path / 'small.pd')]
    assert export.main(flags) == 0
    assert capsys.readouterr().out == f'Wrote {tmp_path / "small.pd"}, 7.3 MB\n'
    small = load_checkpoint(tmp_path / 'small.pd', training=True)
    assert (small.classes, small.config, small.step) == (full.classes, full.config, 3)
    assert (small.optimizer_state, small.recipe) == ({}, None)
    for name, tensor in full.tensors.items():
        np.testing.assert_allclose(small.tensors[name], tensor, rtol=1e-3, atol=1e-6)
    assert 'small.pd: exists; remove it or name another --out' in complaint(capsys, 'export', *flags)
