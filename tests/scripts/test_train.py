"""train.py as a process of its own, on a small network and images of shapes."""
import dataclasses
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import train
from data.coco import CocoDataset
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, tensors_of
from model.config import preset
from model.losses import Criterion
from model.yolact import Yolact
from system.command import INTERRUPTED, exit_status
from tests.helpers import ROOT
from tests.helpers.networks import SMALL
from tests.helpers.training_flags import training_flags as flags
from tools.shapes import write_dataset
from training.recipe import FINETUNING, Recipe


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    write_dataset(folder, train=8, val=3, test=0, width=160, height=120)
    broken = folder / 'train/shapes_0000003.jpg'
    broken.write_bytes(broken.read_bytes()[:700])
    return folder


def run(*arguments):
    process = subprocess.run([sys.executable, ROOT / 'train.py', *arguments], capture_output=True, text=True)
    return process.returncode, process.stderr.splitlines()


def checkpoints(folder):
    """Checkpoints by step."""
    return {load_checkpoint(path).step: path for path in folder.glob('step*.pd')}


@pytest.fixture(scope='module')
def short_run(folder, tmp_path_factory):
    """A run of six steps that saves every other, with its lines."""
    out = tmp_path_factory.mktemp('run')
    status, lines = run(*flags(folder, steps=6, save_interval=2, lr=0.01, lr_schedule='cosine', save_dir=out,
                               eval=True))
    assert status == 0, lines
    return out, lines


def test_checkpoints_are_named_by_step_epoch_and_loss(short_run):
    out, _ = short_run
    found = checkpoints(out)
    assert sorted(found) == [2, 4, 6]
    for step, path in found.items():
        assert path.name.startswith(f'step{step:07d}-ep{step * 2 // 8:03d}-loss') and path.suffix == '.pd'
        assert 1 < float(path.stem.partition('loss')[2]) < 1000
        assert all(np.isfinite(tensor).all() for tensor in load_checkpoint(path).tensors.values())


def test_lines_have_every_loss(short_run):
    _, lines = short_run
    steps = [line for line in lines if line.startswith('step ')]
    assert [line.split()[1] for line in steps] == [f'{step}/6' for step in range(1, 7)]
    for line in steps:
        words = line.split()
        values = [float(words[words.index(name) + 1]) for name in ('box', 'mask', 'class', 'mask_iou', 'semantic')]
        assert 'left' in words or words[1] == '1/6'
        assert words[2] == f'{int(words[1][0]) / 6:.0%}'
        assert float(words[words.index('loss') + 1]) == pytest.approx(sum(values), abs=0.005)


def test_the_log_file_has_a_line_for_each_step_and_evaluation(short_run):
    out, lines = short_run
    logged = [json.loads(line) for line in (out / 'log.jsonl').read_text().splitlines()]
    steps = [line for line in logged if 'loss' in line]
    assert [line['step'] for line in steps] == [1, 2, 3, 4, 5, 6]
    for line in steps:
        losses = [line[name] for name in ('box', 'mask', 'class', 'mask_iou', 'semantic')]
        assert line['loss'] == pytest.approx(sum(losses))
        assert 0 <= line['data_time'] <= line['step_time']
    assert steps[2]['lr'] == pytest.approx(0.01 * (1 + math.cos(math.pi * 2 / 6)) / 2)
    evaluations = [line for line in logged if 'mask_ap' in line]
    assert [line['step'] for line in evaluations] == [4, 6]  # an epoch is four steps
    for kind in ('box', 'mask'):
        printed = [float(line.split('|')[1]) for line in lines if line.strip().startswith(f'{kind} |')]
        assert [round(100 * line[f'{kind}_ap'], 2) for line in evaluations] == printed


def test_visualdl_gets_every_number_of_the_log(folder, tmp_path, capsys):
    if importlib.util.find_spec('visualdl') is None:
        line = error_of(capsys, *flags(folder, steps=2, visualdl=True, save_dir=tmp_path))
        assert line == '--visualdl: VisualDL is not installed; pip install visualdl'
        pytest.skip('VisualDL is not installed')
    from visualdl import LogReader
    status, lines = run(*flags(folder, steps=2, visualdl=True, save_dir=tmp_path))
    assert status == 0, lines
    logged = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    reader = LogReader(logdir=str(tmp_path / 'visualdl'))
    for name in logged[0].keys() - {'time', 'step'}:
        found = reader.get_log_data('scalar', str(tmp_path / 'visualdl'), name)
        assert [(step, pytest.approx(value)) for step, _, _, value in found] == [(line['step'], line[name])
                                                                                for line in logged]


def test_the_ema_is_saved_predicts_and_is_resumed(folder, tmp_path):
    status, lines = run(*flags(folder, steps=3, save_interval=1, lr=0.01, ema=0.6, save_dir=tmp_path / 'a'))
    assert status == 0, lines
    found = {step: load_checkpoint(path, training=True) for step, path in checkpoints(tmp_path / 'a').items()}
    for step in (2, 3):
        decay = min(0.6, step / (step + 9))
        for name, value in found[step].ema.items():
            expected = decay * found[step - 1].ema[name] + (1 - decay) * found[step].tensors[name]
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6, err_msg=name)
    predicting = load_checkpoint(checkpoints(tmp_path / 'a')[3])
    for name, value in predicting.tensors.items():
        np.testing.assert_array_equal(value, found[3].ema[name])
    status, lines = run(*flags(folder, pattern=1, model_path=checkpoints(tmp_path / 'a')[2], steps=3,
                               save_dir=tmp_path / 'b'))
    assert status == 0, lines
    resumed = load_checkpoint(checkpoints(tmp_path / 'b')[3], training=True)
    for name, value in resumed.ema.items():
        np.testing.assert_array_equal(value, found[3].ema[name])


def test_a_run_with_mosaics_and_pasting_resumes_exactly_whatever_the_number_of_workers(folder, tmp_path):
    """Mosaics end after step 9 of 10, one before which the second run starts."""
    recipe = dict(steps=10, save_interval=4, lr=0.01, augmentation='strong', mosaic=1, copy_paste=0.5, rotation=10,
                  quarter_turns='true')
    status, lines = run(*flags(folder, **recipe, save_dir=tmp_path / 'a'))
    assert status == 0, lines
    found = checkpoints(tmp_path / 'a')
    saved = load_checkpoint(found[8], training=True).recipe
    assert (saved['augmentation'], saved['mosaic'], saved['quarter_turns']) == ('strong', 1, True)
    status, lines = run(*flags(folder, pattern=1, model_path=found[8], num_workers=0, save_dir=tmp_path / 'b'))
    assert status == 0, lines
    resumed = load_checkpoint(checkpoints(tmp_path / 'b')[10]).tensors
    for name, value in load_checkpoint(found[10]).tensors.items():
        np.testing.assert_array_equal(value, resumed[name])


def test_frozen_batch_norm_does_not_change(folder, short_run, tmp_path):
    before = load_checkpoint(checkpoints(short_run[0])[6]).tensors
    status, lines = run(*flags(folder, pattern=1, model_path=checkpoints(short_run[0])[6], steps=8, freeze_bn='true',
                               save_dir=tmp_path))
    assert status == 0, lines
    after = load_checkpoint(checkpoints(tmp_path)[8]).tensors
    unchanged = {name for name in before if np.array_equal(before[name], after[name])}
    norms = {name.removesuffix('._mean') for name in before if name.endswith('._mean')}
    assert len(norms) == 20
    assert unchanged >= {f'{name}.{part}' for name in norms for part in ('weight', 'bias', '_mean', '_variance')}
    assert 'backbone.conv1.weight' not in unchanged


@pytest.mark.parametrize('loss', ['focal_loss', 'ghm_c_loss'])
def test_losses_of_sigmoid_scores_are_remembered(folder, tmp_path, loss, capsys):
    status, lines = run(*flags(folder, steps=2, conf_loss=loss, save_dir=tmp_path))
    assert status == 0, lines
    checkpoint = load_checkpoint(checkpoints(tmp_path)[2])
    assert (checkpoint.config.scores, checkpoint.recipe['conf_loss']) == ('sigmoid', loss)
    again = flags(folder, pattern=1, model_path=checkpoints(tmp_path)[2], steps=3, save_dir=tmp_path)
    assert 'trains softmax scores, but ' in error_of(capsys, *again, '--conf_loss=ce_loss')
    status, lines = run(*again)
    assert status == 0, lines
    assert load_checkpoint(checkpoints(tmp_path)[3]).recipe['conf_loss'] == loss


def test_a_damaged_image_is_named_once_and_does_not_stop_a_run(short_run):
    _, lines = short_run
    assert sum('shapes_0000003.jpg' in line for line in lines) == 1
    assert 'images that were skipped: 1' in lines


def test_eval_prints_average_precision_at_each_epoch_and_at_the_end(short_run):
    _, lines = short_run
    assert sum(line.startswith('  mask |') for line in lines) == 2
    assert not any('%|' in line for line in lines)  # a progress bar, which is for terminals


def test_a_run_that_is_killed_in_its_eleventh_step_ends_as_an_undisturbed_one_to_the_bit(folder, tmp_path):
    changes = dict(steps=20, save_interval=10, num_workers=2, lr=1e-3, lr_schedule='cosine', ema=0.9, seed=3,
                   batch_size=3, pos_threshold=0.6, neg_threshold=0.3, conf_loss='ohem_loss', negpos_ratio=2)
    status, lines = run(*flags(folder, **changes, save_dir=tmp_path / 'undisturbed'))
    assert status == 0, lines
    process = subprocess.Popen([sys.executable, ROOT / 'train.py',
                                *flags(folder, **changes, save_dir=tmp_path / 'killed')],
                               stderr=subprocess.PIPE, text=True)
    while not process.stderr.readline().startswith('saved '):
        assert process.poll() is None
    process.kill()
    process.communicate()
    path, = checkpoints(tmp_path / 'killed').values()
    status, lines = run('--pattern=1', f'--model_path={path}', f'--save_dir={tmp_path / "killed"}',
                        f'--train_images_path={folder / "train"}',
                        f'--train_anno_path={folder / "annotations/instances_train.json"}')
    assert status == 0, lines
    undisturbed, resumed = (checkpoints(tmp_path / name)[20] for name in ('undisturbed', 'killed'))
    assert undisturbed.name.partition('-loss')[0] == resumed.name.partition('-loss')[0]
    for name in ('model', 'optimizer', 'averaged'):
        expected, found = (load_file(path / f'{name}.safetensors') for path in (undisturbed, resumed))
        assert expected.keys() == found.keys()
        for key in expected:
            np.testing.assert_array_equal(found[key], expected[key], key)
    assert (load_file(resumed / 'averaged.safetensors')['fpn.lat_layers.0.weight']
            != load_file(resumed / 'model.safetensors')['fpn.lat_layers.0.weight']).any()


def with_small_disk(megabytes, folder, copy, *command):
    """Run a command with a disk of a few MB mounted at a folder, which is copied in the end."""
    script = f'mount -t tmpfs -o size={megabytes}m none "$0" && {{ "$@"; status=$?; cp -r "$0" {copy}; exit $status; }}'
    return subprocess.run(['unshare', '--map-root-user', '--mount', 'sh', '-c', script, folder, *command],
                          capture_output=True, text=True)


def test_a_full_disk_leaves_the_last_checkpoint_whole(folder, tmp_path):
    (tmp_path / 'small').mkdir()
    if with_small_disk(1, tmp_path / 'small', tmp_path / 'nothing', 'true').returncode:
        pytest.skip('no small disk can be made here')
    done = with_small_disk(40, tmp_path / 'small', tmp_path / 'copy', sys.executable, ROOT / 'train.py',
                          *flags(folder, steps=6, save_interval=1, save_dir=tmp_path / 'small'))
    assert done.returncode == 2
    assert re.fullmatch(f'train.py: error: {tmp_path}/small/.+: No space left on device; check the path, its '
                        'permissions and the room on the disk', done.stderr.splitlines()[-1])
    assert 'Traceback' not in done.stderr
    saved = checkpoints(tmp_path / 'copy')
    assert sorted(saved) == list(range(1, len(saved) + 1)) and 1 <= len(saved) < 6
    assert all(load_checkpoint(path, training=True).optimizer_state for path in saved.values())


def test_a_folder_that_becomes_read_only_leaves_the_last_checkpoint_whole(folder, tmp_path):
    (tmp_path / 'small').mkdir()
    if with_small_disk(1, tmp_path / 'small', tmp_path / 'nothing', 'mount', '-o', 'remount,ro', tmp_path / 'small'
                      ).returncode:
        pytest.skip('no folder can be made read-only here')
    script = f"""output={tmp_path / 'output'}; "$@" 2> $output & run=$!
until grep -q ^saved $output; do kill -0 $run || exit; sleep 0.01; done
until mount -o remount,ro {tmp_path / 'small'}; do sleep 0.001; done
wait $run"""
    done = with_small_disk(600, tmp_path / 'small', tmp_path / 'copy', 'sh', '-c', script, 'sh', sys.executable,
                          ROOT / 'train.py', *flags(folder, steps=30, save_interval=2, save_dir=tmp_path / 'small'))
    output = (tmp_path / 'output').read_text()
    assert done.returncode == 2, output
    assert re.fullmatch(f'train.py: error: {tmp_path}/small/.+: Read-only file system; check the path, its '
                        'permissions and the room on the disk', output.splitlines()[-1])
    assert output.count('train.py: error: ') == 1 and 'Traceback' not in output
    saved = checkpoints(tmp_path / 'copy')
    assert list(saved)
    assert all(load_checkpoint(path, training=True).optimizer_state for path in saved.values())


def test_a_folder_that_is_removed_under_a_run_is_made_again(folder, tmp_path):
    process = subprocess.Popen([sys.executable, ROOT / 'train.py',
                                *flags(folder, steps=8, save_interval=2, save_dir=tmp_path / 'out')],
                               stderr=subprocess.PIPE, text=True)
    while not process.stderr.readline().startswith('saved '):
        assert process.poll() is None
    shutil.rmtree(tmp_path / 'out')
    _, rest = process.communicate()
    assert process.returncode == 0, rest
    assert sorted(checkpoints(tmp_path / 'out')) == [4, 6, 8]
    logged = [json.loads(line)['step'] for line in (tmp_path / 'out/log.jsonl').read_text().splitlines()]
    assert logged == list(range(logged[0], 9)) and logged[0] <= 4


def listen_to_sighup():
    """A process that ignores it, as under nohup, hands that on to those it starts."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start(*arguments):
    """A run that has done its second step."""
    process = subprocess.Popen([sys.executable, ROOT / 'train.py', *arguments], stderr=subprocess.PIPE, text=True,
                               start_new_session=True, preexec_fn=listen_to_sighup)
    for line in process.stderr:
        if line.startswith('step 2/'):
            return process
    raise AssertionError(f'ended with {process.wait()}')


def descendants(pid):
    """Processes that a process started."""
    parents = {}
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            _, _, fields = stat.read_text().rpartition(') ')
        except OSError:
            continue  # it has just ended
        parents[int(stat.parent.name)] = int(fields.split()[1])
    return [child for child, parent in parents.items() if parent == pid]


@pytest.mark.parametrize('number, whole_group', [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_run_saves_on_a_stop_request_and_can_be_resumed(folder, tmp_path, number, whole_group):
    process = start(*flags(folder, steps=1000, num_workers=2, save_dir=tmp_path))
    (os.killpg if whole_group else os.kill)(process.pid, number)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 128 + number, rest
    assert 'Traceback' not in rest and 'stopping after this step' in rest
    (step, path), = checkpoints(tmp_path).items()
    assert f'saved {path}' in rest
    status, lines = run(*flags(folder, pattern=1, model_path=path, steps=step + 1, save_dir=tmp_path))
    assert status == 0, lines
    assert sorted(checkpoints(tmp_path)) == [step, step + 1]


def test_a_run_goes_on_when_nobody_reads_its_output_and_saves_when_the_terminal_is_closed(folder, tmp_path):
    process = start(*flags(folder, steps=1000, save_dir=tmp_path, save_interval=3))
    process.stderr.close()
    deadline = time.time() + 60
    while not checkpoints(tmp_path):
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    last = [json.loads(line)['step'] for line in (tmp_path / 'log.jsonl').read_text().splitlines()][-1]
    assert last in checkpoints(tmp_path) and last > 3


def test_a_stop_request_interrupts_an_evaluation(folder, tmp_path):
    """The first epoch ends with the second step; a thousand images would take minutes."""
    content = json.loads((folder / 'annotations/instances_val.json').read_text())
    image = content['images'][0]
    content['images'] = [{**image, 'id': id} for id in range(1000)]
    content['annotations'] = [{**content['annotations'][0], 'image_id': 0}]
    (tmp_path / 'many.json').write_text(json.dumps(content))
    process = start(*flags(folder, steps=1000, batch_size=4, save_interval=2, eval=True,
                           valid_anno_path=tmp_path / 'many.json', valid_images_path=folder / 'val',
                           save_dir=tmp_path / 'out'))
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM, rest
    assert 'the evaluation is interrupted' in rest and 'Traceback' not in rest
    assert sorted(checkpoints(tmp_path / 'out')) == [2, 3]


def test_stopping_twice_stops_at_once(folder, tmp_path):
    process = start(*flags(folder, steps=1000, batch_size=16, save_dir=tmp_path))
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().startswith('stopping after this step')
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert rest.splitlines()[-1] == f'train.py: {INTERRUPTED}'
    assert not checkpoints(tmp_path)


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='looks at processes as Linux shows them')
def test_a_killed_run_leaves_no_processes_behind(folder, tmp_path):
    process = start(*flags(folder, steps=1000, num_workers=2, save_dir=tmp_path))
    workers = descendants(process.pid)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    deadline = time.time() + 20
    while any(Path(f'/proc/{worker}').exists() for worker in workers) and time.time() < deadline:
        time.sleep(0.1)
    assert not any(Path(f'/proc/{worker}').exists() for worker in workers)


def test_a_loss_that_is_never_finite_stops_the_run_with_finite_weights(folder, tmp_path):
    status, lines = run(*flags(folder, steps=50, lr=1e30, save_dir=tmp_path))
    assert status == 2
    assert lines[-1].startswith('train.py: error: the loss was not finite in 10 steps in a row; ')
    assert sum(' is skipped: ' in line for line in lines) == 10
    path, = checkpoints(tmp_path).values()
    checkpoint = load_checkpoint(path, training=True)
    for tensors in (checkpoint.tensors, checkpoint.optimizer_state):
        assert all(np.isfinite(tensor).all() for tensor in tensors.values())


def test_a_step_without_a_finite_loss_changes_nothing(folder, tmp_path, capsys, monkeypatch):
    calls = []

    class Faulty(Criterion):
        def __call__(self, network, outputs, *rest):
            calls.append(1)
            losses = super().__call__(network, outputs, *rest)
            return {**losses, 'mask': losses['mask'] * np.nan} if len(calls) == 2 else losses

    monkeypatch.setattr('training.setup.Criterion', Faulty)
    assert exit_status(train.main, flags(folder, steps=3, num_workers=0, save_interval=1, save_dir=tmp_path)) == 0
    lines = capsys.readouterr().err.splitlines()
    skipped, = (line for line in lines if line.startswith('step 2 is skipped: mask not finite; images '))
    assert len(skipped.partition('images ')[2].split(', ')) == 2
    assert 'steps that were skipped: 1' in lines
    logged = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert [line['step'] for line in logged] == [1, 2, 3] and logged[1]['not_finite'] == ['mask']
    assert ', '.join(map(str, logged[1]['image_ids'])) == skipped.partition('images ')[2]
    found = {step: load_file(path / 'model.safetensors') for step, path in checkpoints(tmp_path).items()}
    for name in found[1]:
        np.testing.assert_array_equal(found[1][name], found[2][name], name)  # batch norm's statistics too
    assert any(np.any(found[2][name] != found[3][name]) for name in found[3])


@pytest.mark.filterwarnings('ignore:amp_guard')  # which changes nothing on a CPU
def test_gradients_that_overflow_skip_only_their_step(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('training.setup.half_precision', lambda: 'float16')
    monkeypatch.setattr('training.precision.INITIAL_LOSS_SCALE', 2.0 ** 121)
    assert exit_status(train.main, flags(folder, steps=9, num_workers=0, save_interval=9, amp='O1',
                                         save_dir=tmp_path)) == 0
    lines = capsys.readouterr().err.splitlines()
    skipped = [line for line in lines if ' is skipped: gradient not finite; ' in line]
    assert 1 <= len(skipped) <= 7
    logged = [line for line in lines if re.match(r'step \d/9 ', line)]
    assert len(logged) == 9 - len(skipped)
    tensors = load_checkpoint(checkpoints(tmp_path)[9]).tensors
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())


def test_a_converted_checkpoint_starts_at_the_initial_step(folder, tmp_path):
    dataset = CocoDataset(folder / 'annotations/instances_train.json', folder / 'train')
    network = Yolact(preset(**SMALL))
    save_checkpoint(tmp_path / 'pretrained', Checkpoint(network.config, dataset.classes, tensors_of(network)))
    status, lines = run(*flags(folder, pattern=1, model_path=tmp_path / 'pretrained', initial_step=800_000,
                               steps=800_002, save_dir=tmp_path / 'out', conf_loss='ohem_loss'))
    assert status == 0, lines
    assert list(checkpoints(tmp_path / 'out')) == [800_002]
    assert all(' lr 1.00e-04 ' in line for line in lines if line.startswith('step '))


@pytest.mark.parametrize('line, step, folder_of_weights', [
    ('nohup python train.py --initial_step=800000 --steps=830000 --conf_loss=ce_loss --pattern=1 '
     '--model_path=./pretrained_resnet50dcn>> train.txt 2>&1 &', None, 'pretrained_resnet50dcn'),
    ('nohup python train.py --initial_step=1066300 --steps=1230000 --conf_loss=ce_loss --pattern=1 '
     '--model_path=./weights/step1066300-ep073-loss5.715.pd>> train.txt 2>&1 &', 1066300,
     'weights/step1066300-ep073-loss5.715.pd')])
def test_lines_as_they_are_typed(folder, tmp_path, line, step, folder_of_weights):
    here = tmp_path / 'here'
    (here / 'weights').mkdir(parents=True)
    (tmp_path / 'COCO/annotations').mkdir(parents=True)
    (here / 'train.py').symlink_to(ROOT / 'train.py')
    (tmp_path / 'COCO/train2017').symlink_to(folder / 'train')
    (tmp_path / 'COCO/annotations/instances_train2017.json').symlink_to(folder / 'annotations/instances_train.json')
    dataset = CocoDataset(folder / 'annotations/instances_train.json', folder / 'train')
    network = Yolact(preset(**SMALL))
    save_checkpoint(here / folder_of_weights, Checkpoint(network.config, dataset.classes, tensors_of(network),
                                                         step=step))
    environment = {**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'}
    process = int(subprocess.run(['sh', '-c', f'{line}\necho $!'], cwd=here, env=environment, text=True, check=True,
                                 capture_output=True).stdout)
    output, deadline = here / 'train.txt', time.time() + 60
    while 'images, 8 classes' not in output.read_text() and time.time() < deadline:
        time.sleep(0.1)
    os.kill(process, signal.SIGTERM)
    while 'saved weights/' not in output.read_text() and time.time() < deadline:
        time.sleep(0.1)
    new, = {*(here / 'weights').glob('step*.pd')} - {here / folder_of_weights}
    saved = load_checkpoint(new, training=True)
    assert saved.step == int(line.partition('--initial_step=')[2].split()[0]) + 1
    steps = int(line.partition('--steps=')[2].split()[0])
    assert Recipe(**saved.recipe) == dataclasses.replace(FINETUNING, steps=steps)


def error_of(capsys, *arguments):
    """The error of a run that ends before its first step with exit status 2."""
    assert exit_status(train.main, [str(argument) for argument in arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith('train.py: error: ') for line in lines) == 1
    return lines[-1].removeprefix('train.py: error: ')


@pytest.mark.parametrize('change, message', [
    ('--lr=-1', '-1 is not a number above 0'), ('--lr=nan', 'nan is not a number above 0'),
    ('--lr=inf', 'inf is not a number above 0'), ('--num_workers=-1', '-1 is not 0 or more'),
    ('--seed=-1', '-1 is not 0 or more'), ('--initial_step=-1', '-1 is not 0 or more'),
    ('--model_path=x', '--pattern=0 starts from scratch and takes no --model_path')])
def test_flags_out_of_range_are_refused(folder, change, message, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main([*flags(folder), change])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize('changes, message', [
    (dict(train_anno_path='none.json'), 'none.json: cannot be read'),
    (dict(train_images_path='none'), 'none: no such folder'),
    (dict(num_classes=81), '--num_classes=81, but '),
    (dict(amp='O1', use_gpu='false'), '--amp=O1 needs a GPU with half precision, and this is cpu; leave it out'),
    (dict(input_size=255), 'input size 255 is outside 256 to 1100'),
    (dict(initial_step=5, steps=5), 'step 5 is done, and --steps=5 asks for no more'),
    (dict(neg_threshold=0.6), '--neg_threshold=0.6 is above --pos_threshold=0.5'),
    (dict(pattern=1), 'pretrained_resnet50dcn: no such checkpoint'),
    (dict(backbone_weights='gone'), 'gone: no such checkpoint')])
def test_an_impossible_run_ends_with_a_line(folder, changes, message, capsys):
    assert message in error_of(capsys, *flags(folder, **changes))


def test_a_folder_that_cannot_be_made_is_an_error_before_the_first_step(folder, tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    line = error_of(capsys, *flags(folder, save_dir=tmp_path / 'file/weights'))
    assert line.startswith(f'{tmp_path}/file') and 'Not a directory' in line


def test_a_step_other_than_the_checkpoints_is_refused(folder, short_run, capsys):
    out, _ = short_run
    line = error_of(capsys, *flags(folder, pattern=1, model_path=checkpoints(out)[4], initial_step=3))
    assert 'was saved at step 4, not at --initial_step=3' in line


def test_weights_of_other_classes_are_refused(folder, short_run, tmp_path, capsys):
    out, _ = short_run
    content = json.loads((folder / 'annotations/instances_train.json').read_text())
    content['categories'][0]['name'] = 'donut'
    (tmp_path / 'other.json').write_text(json.dumps(content))
    line = error_of(capsys, *flags(folder, pattern=1, model_path=checkpoints(out)[4],
                                    train_anno_path=tmp_path / 'other.json'))
    assert "'donut' (id 3) against 'ring' (id 3); to train new classes from these weights, use --pattern=0" in line


def test_another_network_than_the_checkpoints_is_refused(folder, short_run, capsys):
    out, _ = short_run
    line = error_of(capsys, *flags(folder, pattern=1, model_path=checkpoints(out)[4], mask_dim=16))
    assert '--mask_dim=16, but ' in line and ' has 32; leave the flag out' in line
