"""What the recipe own_data chooses, and runs that follow it."""
import json

import pytest

import train
from data.coco import CocoDataset
from model.checkpoint import load_checkpoint
from system.command import exit_status
from tools.shapes import write_dataset
from training.arguments import training_arguments
from training.checkpoints import save_best
from training.own_data import BUNDLED_WEIGHTS, choose_for_own_data, share_with_anchor
from training.recipe import OWN_DATA, choose_recipe, learning_rate, progress
from training.setup import balanced_class_weights


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    write_dataset(folder, train=8, val=2, test=0, width=160, height=120)
    return folder


@pytest.fixture(scope='module')
def dataset(folder):
    return CocoDataset(folder / 'annotations/instances_train.json', folder / 'train')


def choices(dataset, *flags, gpu=False):
    args = training_arguments(['--recipe=own_data', *flags])
    return args, choose_for_own_data(args, dataset, gpu)


def test_on_a_cpu_the_small_network_starts_from_the_bundled_weights(dataset):
    args, lines = choices(dataset)
    assert (args.pattern, args.backbone_name, args.input_size, args.minutes) == (0, 'resnet18dcn_half', 320, 30)
    assert args.backbone_weights == str(BUNDLED_WEIGHTS) and args.fit_anchors
    assert lines[0] == 'recipe own_data for 8 images of 8 classes on a CPU:'
    assert [line.split(':')[0] for line in lines[1:]] == ['  --backbone_name=resnet18dcn_half', '  --backbone_weights='
                                                          f'{BUNDLED_WEIGHTS}', '  --input_size=320']


def test_flags_come_first(dataset):
    args, _ = choices(dataset, '--backbone_weights=none', '--input_size=400', '--steps=7', '--fit_anchors=false')
    assert (args.backbone_weights, args.input_size, args.minutes, args.steps) == (None, 400, None, 7)
    assert args.fit_anchors is False


def test_on_a_gpu_the_large_network_starts_from_coco_weights_where_there_are_some(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args, _ = choices(dataset, gpu=True)
    assert (args.backbone_name, args.batch_size, args.input_size) == ('resnet18dcn_half', 8, 550)
    (tmp_path / 'pretrained_resnet50dcn').mkdir()
    args, _ = choices(dataset, gpu=True)
    assert (args.backbone_name, args.backbone_weights, args.lr) == ('resnet50dcn', 'pretrained_resnet50dcn', 2e-4)


def test_tiny_objects_get_a_larger_input(dataset, tmp_path):
    content = json.loads((dataset.annotations_path).read_text())
    for annotation in content['annotations']:
        x, y = annotation['bbox'][:2]
        annotation.update(bbox=[x, y, 3, 3], segmentation=[[x, y, x + 3, y, x + 3, y + 3, x, y + 3]])
    (tmp_path / 'tiny.json').write_text(json.dumps(content))
    args, lines = choices(CocoDataset(tmp_path / 'tiny.json', dataset.images[0].path.parent))
    assert args.input_size == 448
    assert 'objects would be smaller than 8 pixels at 320' in lines[-1]


def test_the_schedule_ends_with_the_minutes():
    recipe = choose_recipe({'minutes': 10.0}, {}, 'own_data')
    assert recipe.optimizer == 'adamw' and not recipe.freeze_bn
    assert [progress(recipe, 7, seconds) for seconds in (0, 300, 600)] == [0, 0.5, 1]
    assert learning_rate(recipe, 0) == pytest.approx(1e-4)
    assert learning_rate(recipe, 200, seconds=300) == pytest.approx(OWN_DATA.lr / 2)
    assert learning_rate(recipe, 900, seconds=600) == learning_rate(recipe, 900, seconds=700) == 0


def run(folder, out, *flags):
    return exit_status(train.main, [
        '--recipe=own_data', f'--train_images_path={folder / "train"}', f'--save_dir={out}', '--num_workers=0',
        f'--train_anno_path={folder / "annotations/instances_train.json"}', '--input_size=256', *flags])


def test_a_run_of_minutes_ends_with_them_and_cannot_be_resumed_beyond(folder, tmp_path, capsys, monkeypatch):
    clock = iter(range(0, 10 ** 6, 10))  # ten seconds whenever it is read, which is once a step
    monkeypatch.setattr('training.run.now', lambda: float(next(clock)))
    assert run(folder, tmp_path, '--minutes=0.5', '--batch_size=2', '--log_interval=1') == 0
    lines = capsys.readouterr().err.splitlines()
    steps = [line.split()[:3] for line in lines if line.startswith('step ')]
    assert steps == [['step', '1', '33%'], ['step', '2', '67%'], ['step', '3', '100%']]
    assert any(line.startswith('  anchors fitted to the objects: ') for line in lines)
    assert ('recipe own_data: 0.5 minutes of 2 images a step, AdamW at 0.001 (cosine), light augmentation, ce_loss, '
            'ciou') in lines
    path, = tmp_path.glob('step0000003-*.pd')
    checkpoint = load_checkpoint(path, training=True)
    assert checkpoint.seconds == pytest.approx(30)
    assert checkpoint.recipe['minutes'] == 0.5 and checkpoint.recipe['optimizer'] == 'adamw'
    assert {name.partition(':')[2] for name in checkpoint.optimizer_state} == {'moment1', 'moment2', 'beta1_pow',
                                                                              'beta2_pow'}
    assert checkpoint.config.anchor_sizes != (24, 48, 96, 192, 384)

    assert run(folder, tmp_path, f'--model_path={path}') == 2
    assert 'has trained 0.5 minutes, and --minutes=0.5 asks for no more; raise it' in capsys.readouterr().err
    assert run(folder, tmp_path, f'--model_path={path}', '--minutes=0.8') == 0
    assert [path.name[:11] for path in tmp_path.glob('step*5-*.pd')] == ['step0000005']


def test_epochs_are_passes_over_the_images(folder, tmp_path):
    assert run(folder, tmp_path, '--epochs=1.5', '--batch_size=4') == 0
    assert [path.name[:17] for path in tmp_path.glob('step*.pd')] == ['step0000003-ep001']


def test_a_run_stops_when_the_mask_ap_no_longer_rises(folder, tmp_path, capsys, monkeypatch):
    aps = iter([0.1, 0.3, 0.2, 0.3, 0.25, 0.4])

    def evaluate(run, validation, log, step, epoch, stop_request):
        save_best(run, step, epoch, next(aps))
    monkeypatch.setattr('train.evaluate_and_save_best', evaluate)
    assert run(folder, tmp_path, '--epochs=20', '--batch_size=8', '--save_interval=1', '--eval', '--patience=3',
               f'--valid_images_path={folder / "val"}',
               f'--valid_anno_path={folder / "annotations/instances_val.json"}') == 0
    assert 'stopping: the mask AP has not risen for 3 epochs' in capsys.readouterr().err
    assert [path.name[:16] for path in tmp_path.glob('best-*.pd')] == ['best-step0000002']
    assert max(path.name for path in tmp_path.glob('step*.pd'))[:11] == 'step0000005'


def test_frozen_parts_stay_as_they_are(folder, tmp_path):
    assert run(folder, tmp_path, '--steps=2', '--batch_size=2', '--freeze', 'backbone', 'fpn') == 0
    before = load_checkpoint(BUNDLED_WEIGHTS).tensors
    path, = tmp_path.glob('step*.pd')
    after = load_checkpoint(path, training=True).tensors
    for name in before.keys() & after.keys():
        same = (before[name] == after[name]).all() if before[name].shape == after[name].shape else False
        assert same == name.startswith(('backbone.', 'fpn.')), name


def test_fitted_anchors_fit_and_are_kept(dataset, folder, tmp_path):
    assert run(folder, tmp_path, '--steps=1', '--batch_size=1', '--anchor_sizes', *'20 40 80 160 320'.split(),
               '--aspect_ratios', '1', '0.2', '5') == 0
    path, = tmp_path.glob('step*.pd')
    config = load_checkpoint(path).config
    assert (config.anchor_sizes, config.aspect_ratios) == ((20, 40, 80, 160, 320), (1, 0.2, 5))
    assert 0 < share_with_anchor(dataset, config) <= 1


def test_rare_classes_weigh_more_and_an_object_one_on_average(dataset):
    weights = balanced_class_weights(dataset)
    counts = [0] * len(weights)
    for i in range(len(dataset)):
        for label in dataset.objects(i).labels:
            counts[label] += 1
    assert sum(weight * count for weight, count in zip(weights, counts)) == pytest.approx(sum(counts))
    one, other = counts.index(max(counts)), counts.index(min(count for count in counts if count))
    assert weights[other] / weights[one] == pytest.approx((counts[one] / counts[other]) ** 0.5)
