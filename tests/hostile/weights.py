"""Checkpoints, ONNX files, caches and PyTorch files that are damaged, lie, or ask for too much."""

import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.hostile.base import Base, command
from tests.hostile.case import Case
from tests.hostile.images import sparse


def _copy(base: Base, here: Path, source: Path | None = None) -> Path:
    return Path(shutil.copytree(source or base.model, here / 'bad.pd'))


def _meta(base: Base, here: Path, change: Callable[[dict], object]) -> None:
    folder = _copy(base, here)
    meta = json.loads((folder / 'meta.json').read_text())
    change(meta)
    (folder / 'meta.json').write_text(json.dumps(meta))


def _tensors(base: Base, here: Path, change: Callable[[dict], object], file: str = 'model.safetensors') -> None:
    folder = _copy(base, here, base.run if file == 'optimizer.safetensors' else None)
    tensors = load_file(folder / file)
    change(tensors)
    save_file(tensors, folder / file)


def _set(*path: str, value: object) -> Callable[[dict], object]:
    def change(meta: dict) -> None:
        for key in path[:-1]:
            meta = meta[key]
        meta[path[-1]] = value

    return change


def _fill(value: float, name: str = 'fpn.lat_layers.0.weight') -> Callable[[dict], object]:
    def change(tensors: dict) -> None:
        tensors[name] = np.full_like(tensors[name], value)

    return change


def _checkpoints(base: Base) -> dict[str, Callable[[Path], object]]:
    values = {
        'format': [2, None, 'x', 10**30],
        'config': [None, [], {}, 'x'],
        'classes': [None, [], {}, {'names': []}],
        'step': [-1, 'x', 1.5, 10**400],
        'epoch': [-1, 'x'],
        'recipe': [3, 'x', []],
        'backbone_only': [1, 'x', None],
    }
    found = {
        f'meta {key} is {str(value)[:12]}': (
            lambda here, key=key, value=value: _meta(base, here, _set(key, value=value))
        )
        for key, some in values.items()
        for value in some
    }
    config = {
        'backbone_name': ['x', 3],
        'block': ['x'],
        'depths': [[1], [10**9] * 4, 'xxxx', [1, 1, 1, 'x']],
        'width': [0, 10**9, 1.5, 'x'],
        'fpn_channels': [0, 10**9],
        'anchor_sizes': [[1], [1e9] * 5],
        'anchor_scales': [0, 10**6],
        'aspect_ratios': [[], [0], ['x'], [float('nan')]],
        'num_classes': [1, 10**9, 7],
        'input_size': [1, 10**9, 'x'],
        'mask_dim': [0, 10**9],
        'scores': ['x', None],
        'rescore_masks': ['yes', 1],
    }
    found |= {
        f'config {key} is {str(value)[:20]}': (
            lambda here, key=key, value=value: _meta(base, here, _set('config', key, value=value))
        )
        for key, some in config.items()
        for value in some
    }
    found |= {
        'config of an unknown field': lambda here: _meta(base, here, _set('config', 'x', value=1)),
        'a class name of 10^6 characters': lambda here: _meta(
            base, here, _set('classes', 'names', value=['x' * 10**6])
        ),
        'meta is empty': lambda here: (_copy(base, here) / 'meta.json').write_text(''),
        'meta is no JSON': lambda here: (_copy(base, here) / 'meta.json').write_text('{'),
        'meta nested too deep': lambda here: (_copy(base, here) / 'meta.json').write_text('[' * 200_000),
        'meta is binary': lambda here: (_copy(base, here) / 'meta.json').write_bytes(b'\xff\xfe\0'),
        'meta of 100 GB': lambda here: sparse(_copy(base, here) / 'meta.json'),
        'meta is gone': lambda here: (_copy(base, here) / 'meta.json').unlink(),
        'tensors are gone': lambda here: (_copy(base, here) / 'model.safetensors').unlink(),
        'tensors are empty': lambda here: (_copy(base, here) / 'model.safetensors').write_bytes(b''),
        'tensors cut in half': lambda here: os.truncate(_copy(base, here) / 'model.safetensors', 100_000),
        'tensors of 100 GB of holes': lambda here: sparse(_copy(base, here) / 'model.safetensors'),
        'a header that claims 2^60 bytes': lambda here: (_copy(base, here) / 'model.safetensors').write_bytes(
            struct.pack('<Q', 2**60) + b'{}'
        ),
        'a header of a tensor that overflows': lambda here: (_copy(base, here) / 'model.safetensors').write_bytes(
            (lambda head: struct.pack('<Q', len(head)) + head)(
                json.dumps({'x': {'dtype': 'F32', 'shape': [2**62, 4], 'data_offsets': [0, 16]}}).encode()
            )
            + bytes(16)
        ),
        'tensors are a FIFO': lambda here: (lambda file: (file.unlink(), os.mkfifo(file)))(
            _copy(base, here) / 'model.safetensors'
        ),
        'tensors are a link': lambda here: (lambda file: (file.unlink(), file.symlink_to('/etc/passwd')))(
            _copy(base, here) / 'model.safetensors'
        ),
        'a stranger in the folder': lambda here: (_copy(base, here) / 'run.py').write_text('boom'),
        'a pickle in the folder': lambda here: (_copy(base, here) / 'data.pkl').write_bytes(pickle.dumps(1)),
        'NaN weights': lambda here: _tensors(base, here, _fill(np.nan)),
        'infinite weights': lambda here: _tensors(base, here, _fill(np.inf)),
        'a tensor too many': lambda here: _tensors(base, here, _set('x', value=np.zeros(3, np.float32))),
        'a tensor too few': lambda here: _tensors(base, here, lambda tensors: tensors.pop('fpn.lat_layers.0.weight')),
        'a tensor of another shape': lambda here: _tensors(
            base, here, _set('fpn.lat_layers.0.weight', value=np.zeros((1, 1), np.float32))
        ),
        'integer tensors': lambda here: _tensors(
            base, here, _set('fpn.lat_layers.0.weight', value=np.zeros((64, 256, 1, 1), np.int64))
        ),
        'a tensor name of 10^6 characters': lambda here: _tensors(
            base, here, _set('x' * 10**6, value=np.zeros(3, np.float32))
        ),
        'a tensor name with escape codes': lambda here: _tensors(
            base, here, _set('\x1b[31mred\x07', value=np.zeros(3, np.float32))
        ),
        'a file instead of a folder': lambda here: (here / 'bad.pd').write_bytes(b'x'),
        'an empty folder': lambda here: (here / 'bad.pd').mkdir(),
        'nothing': lambda here: None,
        'a closed folder': lambda here: _copy(base, here).chmod(0),
    }
    return found


def cases(base: Base) -> Iterator[Case]:
    bad, root = '{here}/bad.pd', os.geteuid() == 0
    entries = {
        'demo': base.demo(model_path=bad),
        'eval': base.eval(model_path=bad),
        'export': base.export(model_path=bad),
        'resume': base.resume(model_path=bad),
        'demo --engine paddle': base.demo(model_path=bad, engine='paddle'),
    }
    for name, make in _checkpoints(base).items():
        if name == 'a closed folder' and root:  # root may read everything
            continue
        for entry, line in entries.items():
            yield Case(
                'checkpoint',
                f'{name}, {entry}',
                line,
                make,
                (2,),
                r'bad\.pd.*: ',
                outputs=('w', '.bad.pd.*', 'out'),
                max_lines=4,
            )
    huge = {'weights of 1e30': 1e30, 'weights of 3e38': 3e38, 'weights of -1e20': -1e20}
    for name, value in huge.items():
        for entry, line in entries.items():
            yield Case(
                'checkpoint',
                f'{name}, {entry}',
                line,
                lambda here, value=value: _tensors(base, here, _fill(value)),
                (0, 1, 2),
                outputs=('w', 'w/*', '.bad.pd.*', 'out', 'out/*', 'e*.onnx'),
                max_lines=14,
            )
        yield Case(
            'checkpoint',
            f'{name}, test_dev',
            base.test_dev(model_path=bad),
            lambda here, value=value: _tensors(base, here, _fill(value)),
            (0, 1, 2),
            max_lines=14,
            outputs=('r*', '.r*', '.bad.pd.*'),
            check=lambda here: (
                'NaN in a submission'
                if any(b'NaN' in file.read_bytes() or b'Infinity' in file.read_bytes() for file in here.glob('r*.json'))
                else ''
            ),
        )
    recipes = {
        'batch_size': [0, 10**12, 1.5, 'x'],
        'seed': [-1, 2**70],
        'lr': [0, -1, 'x', 1e400],
        'steps': [0, 2**70],
        'lr_schedule': ['x', None],
        'conf_loss': ['x'],
        'ema': [1, -1],
        'x': [1],
        'negpos_ratio': [0, 2**70],
        'pos_threshold': [2],
        'freeze_bn': ['x'],
    }
    for key, some in recipes.items():
        for value in some:

            def make(here: Path, key: str = key, value: object = value) -> None:
                folder = _copy(base, here, base.run)
                meta = json.loads((folder / 'meta.json').read_text())
                meta['recipe'][key] = value
                (folder / 'meta.json').write_text(json.dumps(meta))

            yield Case(
                'recipe',
                f'{key} is {str(value)[:12]}',
                [part for part in base.resume(model_path=bad) if not part.startswith((f'--{key}=', '--steps'))],
                make,
                (2,),
                r'bad\.pd',
                outputs=('w',),
                max_lines=4,
                max_seconds=30,
            )
    yield from _onnx(base)
    yield from _caches(base)
    yield from _pytorch(base)


def _onnx(base: Base) -> Iterator[Case]:
    rescorer = base.folder / 'model_mask_iou.onnx'

    def pair(
        here: Path, change: Callable[[bytes], bytes] = bytes, of_rescorer: Callable[[bytes], bytes] = bytes
    ) -> None:
        (here / 'bad.onnx').write_bytes(change(base.onnx.read_bytes()))
        (here / 'bad_mask_iou.onnx').write_bytes(of_rescorer(rescorer.read_bytes()))

    def edited(edit: Callable) -> Callable[[bytes], bytes]:
        def change(content: bytes) -> bytes:
            import onnx

            model = onnx.load_from_string(content)
            edit(model)
            return model.SerializeToString()

        return change

    def rename_output(model: object) -> None:
        model.graph.output[0].name = 'x'

    def property_of(key: str, value: str) -> Callable:
        def edit(model: object) -> None:
            for entry in model.metadata_props:
                if entry.key == key:
                    entry.value = value

        return edit

    def nan_weights(model: object) -> None:
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) > 1000:
                tensor.raw_data = b'\xff\xff\xff\x7f' * (len(tensor.raw_data) // 4)

    def no_metadata(model: object) -> None:
        del model.metadata_props[:]

    makes = {
        'empty': lambda here: pair(here, lambda content: b''),
        'cut in half': lambda here: pair(here, lambda content: content[: len(content) // 2]),
        'noise': lambda here: pair(here, lambda content: np.random.default_rng(0).bytes(10_000)),
        'a page': lambda here: pair(here, lambda content: b'<html>'),
        'no metadata': lambda here: pair(here, edited(no_metadata), edited(no_metadata)),
        'another output': lambda here: pair(here, edited(rename_output)),
        'config is no JSON': lambda here: pair(here, edited(property_of('config', '{'))),
        'config is empty': lambda here: pair(here, edited(property_of('config', '{}'))),
        'config nested too deep': lambda here: pair(here, edited(property_of('config', '[' * 100_000))),
        'classes are too few': lambda here: pair(here, edited(property_of('classes', '{"names": ["x"], "ids": [1]}'))),
        'a class of 10^6 characters': lambda here: pair(
            here, edited(property_of('classes', json.dumps({'names': ['x' * 10**6], 'ids': [1]})))
        ),
        'the re-scoring net is gone': lambda here: (here / 'bad.onnx').write_bytes(base.onnx.read_bytes()),
        'the re-scoring net is empty': lambda here: pair(here, of_rescorer=lambda content: b''),
        'the re-scoring net is the network': lambda here: pair(
            here, of_rescorer=lambda content: base.onnx.read_bytes()
        ),
        'the re-scoring net has other weights': lambda here: pair(
            here, of_rescorer=edited(property_of('weights', 'x'))
        ),
        'they are exchanged': lambda here: pair(
            here, lambda content: rescorer.read_bytes(), lambda content: base.onnx.read_bytes()
        ),
        '100 GB of holes': lambda here: sparse(here / 'bad.onnx'),
        'a folder': lambda here: (here / 'bad.onnx').mkdir(),
        'a FIFO': lambda here: os.mkfifo(here / 'bad.onnx'),
        'nothing': lambda here: None,
        'the re-scoring net is a FIFO': lambda here: (
            (here / 'bad.onnx').write_bytes(base.onnx.read_bytes()),
            os.mkfifo(here / 'bad_mask_iou.onnx'),
        ),
    }
    for name, make in makes.items():
        for entry, line in {
            'demo': base.demo(model_path='{here}/bad.onnx'),
            'eval': base.eval(model_path='{here}/bad.onnx'),
            'prototypes': base.prototypes(model_path='{here}/bad.onnx'),
        }.items():
            yield Case(
                'ONNX', f'{name}, {entry}', line, make, (2,), r'bad(_mask_iou)?\.onnx: ', outputs=('out',), max_lines=4
            )
    for entry, line in {
        'demo': base.demo(model_path='{here}/bad.onnx'),
        'eval': base.eval(model_path='{here}/bad.onnx'),
    }.items():
        yield Case(
            'ONNX',
            f'NaN weights, {entry}',
            line,
            lambda here: pair(here, edited(nan_weights)),
            (0, 1, 2),
            outputs=('out', 'out/*'),
            max_lines=4,
        )


def _caches(base: Base) -> Iterator[Case]:
    """The cache beside a checkpoint is rebuilt, or done without, whatever it is."""

    def with_cache(here: Path, make: Callable[[Path], object]) -> None:
        _copy(base, here)
        make(here / '.bad.pd.fp32.zip')

    good = base.folder / '.model.pd.fp32.zip'

    def zipped(entries: dict[str, bytes]) -> Callable[[Path], object]:
        def make(path: Path) -> None:
            with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
                for name, content in entries.items():
                    archive.writestr(name, content)

        return make

    makes = {
        'empty': lambda path: path.write_bytes(b''),
        'noise': lambda path: path.write_bytes(b'x' * 1000),
        'cut': lambda path: path.write_bytes(good.read_bytes()[:50_000]),
        'a folder': lambda path: path.mkdir(),
        'a FIFO': os.mkfifo,
        'of other weights': zipped({'key': b'x', 'network.onnx': b'x', 'mask_iou.onnx': b'x'}),
        'a dangling link': lambda path: path.symlink_to('gone'),
        'a link to a file': lambda path: (path.parent.joinpath('mine').write_text('mine'), path.symlink_to('mine')),
        'no entries': zipped({}),
        'a bomb as key': zipped({'key': bytes(10**9)}),
        '100 GB of holes': sparse,
    }
    for name, make in makes.items():
        yield Case(
            'cache',
            name,
            base.demo(model_path='{here}/bad.pd'),
            lambda here, make=make: with_cache(here, make),
            (0,),
            outputs=('out', 'out/*', '.bad.pd.fp32.zip'),
            must_exist=('out/7.jpg',),
        )


def _pytorch(base: Base) -> Iterator[Case]:
    try:
        import torch
    except ImportError:
        return

    def saved(make: Callable[[], object]) -> Callable[[Path], object]:
        return lambda here: torch.save(make(), here / 'bad.pth')

    class Code:
        def __reduce__(self) -> tuple:
            return os.system, ('touch /tmp/hostile_code_ran',)

    def inflated(here: Path) -> None:
        torch.save({'x': torch.zeros(2**20)}, here / 'plain.pth')
        with (
            zipfile.ZipFile(here / 'plain.pth') as source,
            zipfile.ZipFile(here / 'bad.pth', 'w', zipfile.ZIP_DEFLATED) as target,
        ):
            for entry in source.namelist():
                target.writestr(entry, bytes(2**31) if '/data/' in entry else source.read(entry))
        (here / 'plain.pth').unlink()

    makes = {
        'empty': lambda here: (here / 'bad.pth').write_bytes(b''),
        'noise': lambda here: (here / 'bad.pth').write_bytes(b'x' * 1000),
        'a page': lambda here: (here / 'bad.pth').write_bytes(b'<html>'),
        'code': saved(lambda: {'x': Code()}),
        'a pickle': lambda here: (here / 'bad.pth').write_bytes(pickle.dumps({'x': 1})),
        'a tensor': saved(lambda: torch.zeros(3)),
        'a list': saved(lambda: [torch.zeros(3)]),
        'an empty dict': saved(dict),
        'numbers': saved(lambda: {'x': 3}),
        'of no network': saved(lambda: {'x': torch.zeros(3)}),
        'strides of zero that claim 24 GB': saved(
            lambda: {f'backbone.{i}': torch.zeros(1).expand(10**8) for i in range(60)}
        ),
        'a sparse tensor': saved(lambda: {'backbone.x': torch.zeros(3).to_sparse()}),
        'a name of 10^6 characters': saved(lambda: {'x' * 10**6: torch.zeros(3)}),
        'a name with escape codes': saved(lambda: {'backbone.\x1b[31m\x07': torch.zeros(3)}),
        '100 GB of holes': lambda here: sparse(here / 'bad.pth'),
        'inflates to gigabytes': inflated,
        'a folder': lambda here: (here / 'bad.pth').mkdir(),
        'a FIFO': lambda here: os.mkfifo(here / 'bad.pth'),
        'nothing': lambda here: None,
        'complex numbers': saved(lambda: {'backbone.x': torch.zeros(3, dtype=torch.complex64)}),
    }
    for name, make in makes.items():
        yield Case(
            'PyTorch file',
            name,
            command('1_pytorch2paddle.py', {'out': '{here}/o'}) + ['{here}/bad.pth'],
            make,
            (2,),
            r'bad\.pth',
            max_lines=4,
            check=lambda here: 'code ran' if Path('/tmp/hostile_code_ran').exists() else '',
        )
