"""Values that no flag can have, and values that are absurd."""

from collections.abc import Iterator

from tests.hostile.base import Base
from tests.hostile.case import Case


def cases(base: Base) -> Iterator[Case]:
    numbers = ('-1', '0', '1.5', 'x', '', 'nan', 'inf', '1e400', '9' * 30, '１２', '0x10', '--', ' ')
    entries = {
        'demo': (
            base.demo,
            {
                'batch_size': ('integer', 1),
                'top_k': ('integer', 1),
                'obj_threshold': ('fraction', 0),
                'nms_threshold': ('fraction', 0),
            },
        ),
        'eval': (base.eval, {'max_images': ('integer', 1), 'num_workers': ('integer', 0)}),
        'train': (
            base.train,
            {
                'batch_size': ('integer', 1),
                'steps': ('integer', 1),
                'seed': ('integer', 0),
                'lr': ('positive', 0),
                'ema': ('fraction', 0),
                'input_size': ('size', 0),
                'save_interval': ('integer', 1),
                'mask_dim': ('integer', 1),
                'negpos_ratio': ('integer', 1),
            },
        ),
    }
    for entry, (make, flags) in entries.items():
        for flag, (kind, least) in flags.items():
            for value in numbers:
                good = {
                    'integer': value in {'0', '１２'} and int(value) >= least or value == '１２',
                    'fraction': value in ('0',),
                    'positive': value in ('１２', '1.5', '9' * 30),
                    'size': False,
                }[kind]
                if good or (kind == 'fraction' and value == '１２'):
                    continue
                yield Case(
                    'flag',
                    f'{entry} --{flag}={value!r}',
                    make(**{flag: value}),
                    status=(2,),
                    outputs=('w', 'out'),
                    max_lines=60,
                )
    absurd = {
        'a batch of a million': (base.demo(batch_size=1_000_000, images=base.video), (0, 2)),
        'a batch of a billion': (base.demo(batch_size=10**9, images=base.video), (0, 2)),
        'eval, a batch of a million': (base.eval(batch_size=1_000_000), (0, 2)),
        'a camera of 20 digits': (base.demo(images='9' * 20), (1, 2)),
        'camera 99': (base.demo(images='99'), (1, 2)),
        'a camera of 400 digits': (base.demo(images='9' * 400), (1, 2)),
        'empty backbone weights': (base.train(backbone_weights=''), (2,)),
        'empty model path': (base.demo(model_path=''), (2,)),
        'empty images': (base.demo(images=''), (2,)),
        'empty out': (base.demo(out=''), (2,)),
        'empty save_dir': (base.train(save_dir=''), (2,)),
        'empty train images': (base.train(train_images_path=''), (2,)),
        'empty annotations': (base.train(train_anno_path=''), (2,)),
        'empty eval annotations': (base.eval(valid_anno_path=''), (2,)),
        'empty results': (base.eval(results=''), (2,)),
        'an image twice': (
            base.demo(images=None) + ['--images', str(base.photos / '7.jpg'), str(base.photos / '7.jpg')],
            (0, 1),
        ),
        'an image by two names': (
            base.demo(images=None) + ['--images', str(base.photos / '7.jpg'), str(base.photos / '../photos/7.jpg')],
            (0, 1),
        ),
        'a device that is none': (base.demo(device='tpu'), (2,)),
        'gpu:x': (base.demo(device='gpu:x'), (2,)),
        'gpu:-1': (base.demo(device='gpu:-1'), (2,)),
        'gpu without one': (base.demo(device='gpu'), (2,)),
        'a thousand workers': (base.eval(num_workers=1000), (0, 2)),
        'an unknown engine': (base.demo(engine='x'), (2,)),
        'an unknown network': (base.train(backbone_name='x'), (2,)),
        'an unknown flag': ([*base.demo(), '--nothing'], (2,)),
        'no such checkpoint': (base.resume(model_path='/none'), (2,)),
        'a name of 10^5 characters': (base.demo(images='x' * 10**5), (2,)),
        'a pattern of nothing': (base.demo(images='{here}/*.jpg'), (2,)),
        'an address': (base.demo(images='https://x.org/a.jpg'), (2,)),
        'all of the disk': (base.demo(images='/proc/1/mem'), (1, 2)),
        'results of another set': (base.eval(results=base.annotations), (2,)),
        'annotations as model': (base.eval(model_path=base.annotations), (2,)),
        'an image as annotations': (base.eval(valid_anno_path=base.photos / '7.jpg'), (2,)),
        'a folder as annotations': (base.eval(valid_anno_path=base.photos), (2,)),
        '/dev/zero as annotations': (base.eval(valid_anno_path='/dev/zero'), (2,)),
        '/dev/zero as results': (base.eval(results='/dev/zero'), (2,)),
        '/dev/zero as model': (base.demo(model_path='/dev/zero'), (2,)),
        '/dev/stdin as annotations': (base.eval(valid_anno_path='/dev/stdin'), (2,)),
        'shapes of -1 images': (['tools.shapes', '{here}/d', '--train', '-1'], (2,)),
        'shapes of 1 pixel': (['tools.shapes', '{here}/d', '--width', '1'], (2,)),
        'shapes of 10^9 pixels': (['tools.shapes', '{here}/d', '--width', '1000000000'], (2,)),
        'shapes of a long seed': (
            ['tools.shapes', '{here}/d', '--seed', '9' * 30, '--train', '1', '--val', '0', '--test', '0'],
            (0, 2),
        ),
    }
    for name, (line, status) in absurd.items():
        yield Case(
            'absurd value',
            name,
            line,
            status=status,
            outputs=('w', 'out', 'out/*', 'd', 'd/*'),
            max_lines=60,
            max_seconds=30,
        )
