import dataclasses
import json
import os
import resource
import struct
import subprocess
import sys
import time

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file, save_file

from model.checkpoint import Checkpoint, halve, load_checkpoint, restore, save_checkpoint, tensors_of
from model.classes import Classes
from model.config import PRESETS, preset
from model.yolact import Yolact
from system.errors import UserError
from tests.helpers.networks import SMALL

PART_NAME = '.yolact-{}.part'
CLASSES = Classes(['ring', '星', *'abcdef'], [3, 1, 5, 7, 11, 13, 17, 90])


@pytest.fixture(scope='module')
def network():
    return Yolact(preset(**SMALL))


@pytest.fixture
def folder(network, tmp_path):
    save_checkpoint(tmp_path / 'some.pd', Checkpoint(network.config, CLASSES, tensors_of(network), step=7, epoch=1))
    return tmp_path / 'some.pd'


def test_what_is_saved_is_loaded(network, tmp_path):
    velocity = {'fpn.lat_layers.0.bias': np.arange(64, dtype=np.float32)}
    saved = Checkpoint(network.config, CLASSES, tensors_of(network), velocity, 12, 3,
                       {'lr': 0.01, 'lr_schedule': 'cosine'})
    save_checkpoint(tmp_path / 'a' / 'b.pd', saved)
    loaded = load_checkpoint(tmp_path / 'a' / 'b.pd', training=True)
    for field in ('config', 'classes', 'step', 'epoch', 'recipe', 'backbone_only'):
        assert getattr(loaded, field) == getattr(saved, field)
    for tensors in ('tensors', 'optimizer_state'):
        expected, found = getattr(saved, tensors), getattr(loaded, tensors)
        assert expected.keys() == found.keys()
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


def test_a_restored_network_says_the_same(network, folder):
    paddle.seed(99)
    other = Yolact(network.config)
    restore(other, load_checkpoint(folder), folder)
    image = paddle.rand([1, 256, 256, 3]) * 255
    network.eval()
    other.eval()
    for ours, theirs in zip(network.predict(image), other.predict(image)):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_saving_again_replaces_and_leaves_no_parts(network, folder):
    save_checkpoint(folder, Checkpoint(network.config, CLASSES, tensors_of(network), step=8))
    assert load_checkpoint(folder).step == 8
    assert [path.name for path in folder.parent.iterdir()] == ['some.pd']


@pytest.mark.parametrize('place', ['new/..', '.', 'mine', 'mine/', 'file'])
def test_nothing_but_a_checkpoint_is_ever_replaced(network, tmp_path, place, monkeypatch):
    (tmp_path / 'mine').mkdir()
    for name in ('mine/notes.txt', 'mine/model.safetensors', 'file'):
        (tmp_path / name).write_text('mine')
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(UserError, match='of no checkpoint; name another folder|is a file; name a folder'):
        save_checkpoint(place, Checkpoint(network.config, CLASSES, {}))
    assert sorted(tmp_path.rglob('*')) == before


def test_parts_of_killed_processes_are_removed_when_nobody_can_be_writing_them_and_nothing_else(network, tmp_path):
    for name, age in ((PART_NAME.format('a' * 32), 4000), (PART_NAME.format('b' * 32), 60), ('.thesis.draft', 4000)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    save_checkpoint(tmp_path / 'c.pd', Checkpoint(network.config, CLASSES, tensors_of(network)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        '.thesis.draft', PART_NAME.format('b' * 32), 'c.pd']


def test_a_failure_while_saving_leaves_the_earlier_one(network, folder):
    with pytest.raises(TypeError):
        save_checkpoint(folder, Checkpoint(network.config, CLASSES, tensors_of(network), step={1}))  # no JSON
    assert load_checkpoint(folder).step == 7
    assert [path.name for path in folder.parent.iterdir()] == ['some.pd']


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no such permissions')
def test_others_may_read_it_as_far_as_the_umask_says(folder):
    modes = {path.stat().st_mode & 0o777 for path in folder.iterdir()}
    umask = os.umask(0)
    os.umask(umask)
    assert modes == {0o666 & ~umask}


def test_half_precision_is_half_the_size_and_close(network, folder):
    small = folder.with_name('small.pd')
    save_checkpoint(small, halve(load_checkpoint(folder)))
    sizes = [(path / 'model.safetensors').stat().st_size for path in (folder, small)]
    assert sizes[1] < 0.51 * sizes[0]
    loaded = load_checkpoint(small)
    restore(Yolact(network.config), loaded, small)
    for name, tensor in tensors_of(network).items():
        assert loaded.tensors[name].dtype == np.float32
        np.testing.assert_allclose(loaded.tensors[name], tensor, rtol=1e-3, atol=1e-6)


def test_a_backbone_alone_fits_a_network_of_other_classes(network, tmp_path):
    backbone = {name: tensor + 1 for name, tensor in tensors_of(network).items() if name.startswith('backbone.')}
    save_checkpoint(tmp_path / 'b', Checkpoint(network.config, None, backbone, backbone_only=True))
    other = Yolact(preset('resnet18dcn_half', num_classes=4))
    before = tensors_of(other)
    restore(other, load_checkpoint(tmp_path / 'b'), tmp_path / 'b')
    for name, tensor in tensors_of(other).items():
        np.testing.assert_array_equal(tensor, backbone.get(name, before[name]))


def test_weights_for_other_classes_are_all_but_the_layers_that_tell_them_apart(network, folder):
    other = Yolact(preset('resnet18dcn_half', num_classes=4, input_size=300))
    before = tensors_of(other)
    restore(other, load_checkpoint(folder), folder, other_classes=True)
    fresh = {name for name, tensor in tensors_of(other).items() if np.array_equal(tensor, before[name])
             and not np.array_equal(tensor, tensors_of(network).get(name))}
    assert {name for name in fresh if name.endswith('weight')} == {
        'prediction_layers.0.conf_layer.weight', 'semantic_seg_conv.weight', 'maskiou_net.maskiou_net.10.weight'}
    with pytest.raises(UserError, match='must have the same classes and backbone'):
        restore(other, load_checkpoint(folder), folder)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match='no such checkpoint; a checkpoint is a folder with meta.json'):
        load_checkpoint(tmp_path / 'none')


def change_meta(folder, **changes):
    path = folder / 'meta.json'
    path.write_text(json.dumps({**json.loads(path.read_text('utf-8')), **changes}))


@pytest.mark.parametrize('changes, message', [
    ({'format': 2}, 'not a checkpoint of format 1; was it made by a newer version'),
    ({'config': {'backbone_name': 'x'}}, 'does not describe a network'),
    ({'config': None}, 'does not describe a network'),
    ({'config': {'backbone_name': 'resnet50', 'block': 'basic', 'depths': [3, 4, 6, 10 ** 9]}}, 'is outside 1 to 64'),
    ({'config': {'backbone_name': 'resnet50', 'block': 'basic', 'depths': 7}}, 'does not describe a network'),
    ({'step': '7'}, "step is '7'"), ({'epoch': -1}, 'epoch is -1'),
    ({'backbone_only': 'no'}, "backbone_only is 'no'"), ({'recipe': []}, 'recipe is'),
    ({'classes': None}, 'no classes'),
    ({'classes': {'names': ['a'], 'ids': [1]}}, '1 classes and a network of 9 with background'),
    ({'classes': {'names': ['a', 'b'], 'ids': [1, 1]}}, 'a category id stands for two classes')])
def test_wrong_meta(folder, changes, message):
    change_meta(folder, **changes)
    with pytest.raises(UserError, match=message) as caught:
        load_checkpoint(folder)
    assert 'meta.json' in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('content', [b'', b'\xff\xfe', b'[' * 100_000, b'{"format": 1', b'[]', b'{}', b'null'])
def test_meta_that_is_none(folder, content):
    (folder / 'meta.json').write_bytes(content)
    with pytest.raises(UserError, match='meta.json: ') as caught:
        load_checkpoint(folder)
    assert '\n' not in str(caught.value)


def test_paths_that_the_system_refuses(folder, tmp_path):
    for path in (tmp_path / ('x' * 300), tmp_path / 'a\0b', folder / 'meta.json'):
        with pytest.raises(UserError, match='no such checkpoint'):
            load_checkpoint(path)
    (folder / 'meta.json').unlink()
    (folder / 'meta.json').mkdir()
    with pytest.raises(UserError, match='meta.json: is a link, a folder or a device'):
        load_checkpoint(folder)


@pytest.mark.parametrize('velocity', [{'other': np.zeros(3, np.float32)},
                                      {'fpn.lat_layers.0.bias': np.zeros(3, np.float32)}])
def test_an_optimizer_of_other_weights(network, folder, velocity):
    save_file(velocity, folder / 'optimizer.safetensors')
    with pytest.raises(UserError, match='belongs to other weights than model.safetensors'):
        load_checkpoint(folder, training=True)


@pytest.mark.parametrize('damage', [lambda data: data[:1000], lambda data: b'', lambda data: b'\xff' * 9 + data[9:]])
def test_damaged_tensors(folder, damage):
    path = folder / 'model.safetensors'
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match='model.safetensors: cannot be read'):
        load_checkpoint(folder)


@pytest.mark.parametrize('change, message', [
    (lambda tensors: tensors.pop('fpn.lat_layers.0.bias'), 'lacks fpn.lat_layers.0.bias'),
    (lambda tensors: tensors.update(extra=np.zeros(1, np.float32)), 'has an unknown extra'),
    (lambda tensors: tensors.update({'fpn.lat_layers.0.bias': np.zeros(3, np.float32)}),
     r'fpn.lat_layers.0.bias is \[3\], the network has \[64\]')])
def test_tensors_that_do_not_fit(network, folder, change, message):
    tensors = load_file(folder / 'model.safetensors')
    change(tensors)
    save_file(tensors, folder / 'model.safetensors')
    before = tensors_of(network)
    with pytest.raises(UserError, match=message):
        restore(network, load_checkpoint(folder), folder)
    for name, tensor in tensors_of(network).items():
        np.testing.assert_array_equal(tensor, before[name])


def test_a_kill_while_saving_leaves_the_last_one(network, folder, tmp_path):
    """A process saves over and over; killed at any moment, what stands there loads."""
    script = ('import sys; sys.path.insert(0, ".")\n'
              'from model.checkpoint import *\n'
              'import dataclasses\n'
              f'some = load_checkpoint({str(folder)!r})\n'
              'print("go", flush=True)\n'
              'for step in range(8, 10**6):\n'
              f'    save_checkpoint({str(tmp_path)!r} + f"/step{{step}}.pd", dataclasses.replace(some, step=step))\n')
    for pause in (0, 0.05, 0.11):
        process = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE)
        process.stdout.readline()
        while not list(tmp_path.glob('step*.pd')):
            assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(pause)
        process.kill()
        process.wait()
        for path in tmp_path.glob('step*.pd'):
            assert f'step{load_checkpoint(path).step}.pd' == path.name


def put_link(folder):
    secret = folder.with_name('secret')
    (folder / 'model.safetensors').rename(secret)
    (folder / 'model.safetensors').symlink_to(secret)


def put_pipe(folder):
    (folder / 'optimizer.safetensors').unlink(missing_ok=True)
    os.mkfifo(folder / 'optimizer.safetensors')


@pytest.mark.parametrize('spoil, message', [
    (lambda folder: (folder / 'code.py').touch(), 'holds code.py, which is of no checkpoint'),
    (lambda folder: (folder / 'model.pdparams').touch(), 'holds model.pdparams, which is of no checkpoint'),
    (lambda folder: (folder / 'a\n\x1b[2J').touch(), r'holds a\\n\\x1b\[2J, which is of no checkpoint'),
    (lambda folder: (folder / 'sub').mkdir(), 'holds sub, which is of no checkpoint'),
    (put_link, 'model.safetensors: is a link, a folder or a device'),
    pytest.param(put_pipe, 'optimizer.safetensors: is a link, a folder or a device',
                 marks=pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='has no pipes with names'))])
def test_a_folder_that_holds_anything_else_is_refused(folder, spoil, message):
    spoil(folder)
    with pytest.raises(UserError, match=message) as caught:
        load_checkpoint(folder, training=True)
    assert '\n' not in str(caught.value) and '\x1b' not in str(caught.value)


def test_hidden_files_that_systems_leave_do_no_harm(folder):
    (folder / '.DS_Store').touch()
    assert load_checkpoint(folder).step == 7


def header(**tensors):
    """A safetensors file of nothing but its header."""
    content = json.dumps(tensors).encode()
    return struct.pack('<Q', len(content)) + content


@pytest.mark.parametrize('content', [
    struct.pack('<Q', 10 ** 10) + b'{}', struct.pack('<Q', 2 ** 63) + b'{}',
    header(x={'dtype': 'F32', 'shape': [2_500_000_000], 'data_offsets': [0, 10 ** 10]}),
    header(x={'dtype': 'F32', 'shape': [-1], 'data_offsets': [0, 0]}),
    header(x={'dtype': 'F99', 'shape': [1], 'data_offsets': [0, 4]}) + b'0000',
    header(x={'dtype': 'F32', 'shape': [1], 'data_offsets': [4, 0]}) + b'0000',
    header(x={'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 4]}) + b'0000',
    header(x={'dtype': 'I64', 'shape': [1], 'data_offsets': [0, 8]}) + b'00000000',
    header(**{'../../x\n': {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]}}) + b'0000'])
def test_headers_that_lie_are_refused_at_once(folder, content):
    (folder / 'model.safetensors').write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match='model.safetensors: ') as caught:
        load_checkpoint(folder)
    assert '\n' not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_a_description_without_end_is_refused(folder):
    (folder / 'meta.json').write_text('[' + ' ' * 10 ** 7 + ']')
    with pytest.raises(UserError, match='larger than any description of a network'):
        load_checkpoint(folder)


@pytest.mark.parametrize('change, message', [
    (dict(anchor_scales=10, aspect_ratios=[1] * 10), 'holds too little for the network of meta.json'),
    (dict(num_classes=9_000), 'holds too little for the network of meta.json'),
    (dict(num_classes=12), 'is not of the network of meta.json, which has 9 anchors a cell and 12 classes')])
def test_a_description_of_another_network_is_refused(folder, change, message):
    meta = json.loads((folder / 'meta.json').read_text('utf-8'))
    config = {**meta['config'], **change}
    classes = {'names': ['x'] * (config['num_classes'] - 1), 'ids': list(range(config['num_classes'] - 1))}
    change_meta(folder, config=config, classes=classes)
    for training in (False, True):
        with pytest.raises(UserError, match=message):
            load_checkpoint(folder, training)


def test_a_network_as_large_as_can_be_described_is_refused_for_what_its_file_lacks(folder):
    config = preset('resnet50', depths=[64] * 4, width=128, fpn_channels=512, mask_dim=512, input_size=1100,
                    num_classes=10_000, anchor_scales=10, aspect_ratios=[1] * 10)
    classes = {'names': ['x'] * 9_999, 'ids': list(range(9_999))}
    change_meta(folder, config=dataclasses.asdict(config), classes=classes)
    save_file({'prediction_layers.0.conf_layer.weight': np.zeros((10 ** 6, 0), np.float32)},
              folder / 'model.safetensors')
    with pytest.raises(UserError, match='holds too little for the network of meta.json'):
        load_checkpoint(folder)


@pytest.mark.parametrize('name', PRESETS)
def test_what_a_network_holds_at_least_is_less_than_what_it_holds(name):
    with paddle.LazyGuard():
        state = Yolact(preset(name)).state_dict()
    assert 0.5 < preset(name).min_parameters / sum(np.prod(tensor.shape) for tensor in state.values()) < 0.8


@pytest.mark.parametrize('kind', ['F8_E4M3', 'F8_E5M2'])
def test_numbers_that_numpy_has_no_type_for_are_refused(folder, kind):
    header = json.dumps({'x': {'dtype': kind, 'shape': [4], 'data_offsets': [0, 4]}}).encode()
    (folder / 'model.safetensors').write_bytes(len(header).to_bytes(8, 'little') + header + bytes(4))
    with pytest.raises(UserError, match='model.safetensors: cannot be read: '):
        load_checkpoint(folder)


def test_weights_that_are_not_finite_are_refused(folder):
    tensors = load_file(folder / 'model.safetensors')
    tensors['fpn.lat_layers.0.bias'][3] = np.nan
    save_file(tensors, folder / 'model.safetensors')
    with pytest.raises(UserError, match='fpn.lat_layers.0.bias holds numbers that are not finite'):
        load_checkpoint(folder)


def test_a_folder_that_is_no_checkpoint_is_left_as_it_is(tmp_path):
    (tmp_path / 'mine.txt').touch()
    with pytest.raises(UserError, match='is no checkpoint, which is a folder with meta.json and'):
        load_checkpoint(tmp_path)


def test_names_that_no_file_can_hold_and_values_without_end_are_told_shortly(folder):
    meta = json.loads((folder / 'meta.json').read_text('utf-8'))
    names = ['\ud800\n', *meta['classes']['names'][1:]]
    change_meta(folder, classes={**meta['classes'], 'names': names})
    assert load_checkpoint(folder).classes.names[0] == r'\ud800\n'
    change_meta(folder, step=[1] * 50_000)
    with pytest.raises(UserError) as caught:
        load_checkpoint(folder)
    assert len(str(caught.value)) < 1000
