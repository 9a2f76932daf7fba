"""Convert the public PyTorch weights of YOLACT and YOLACT++ to a checkpoint of this project.

Also converts ImageNet weights of ResNet-50, ResNet-101 and DarkNet-53, to a backbone to train from.
"""
import system  # noqa: F401  the first import, so that Ctrl-C during the others is quiet

# isort: split
import argparse
import re
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.annotation_file import parse, read_classes, records_of
from model.checkpoint import META, MODEL, Checkpoint, save_checkpoint
from model.classes import COCO, Classes
from model.config import PUBLISHED_SIZE, Config, preset
from model.parameter_names import public_name
from system.arguments import ArgumentParser
from system.command import run
from system.errors import UserError
from system.limits import MAX_WEIGHTS, check_size
from system.messages import pluralize

NETWORKS = ('resnet50dcn', 'resnet101dcn', 'resnet50', 'resnet101', 'darknet53')
ANCHORS: dict[str, dict[str, Any]] = {
    'coco': {}, 'pascal': dict(anchor_sizes=(32, 64, 128, 256, 512), square_anchors=False),
}
MAX_NUMBERS = 3 * 10 ** 8  # in a file, which may claim more than it holds. No network here has a quarter of this
UNUSED = {  # patterns of the names of tensors that are left out, by the reason
    'batch counters of batch norm, which nothing uses': r'\.num_batches_tracked$',
    "second copies of the backbone's layers, from old versions": r'^backbone\.layer\d\.',
    'pyramid levels above P7, from old versions, never used': r'^fpn\.downsample_layers\.([2-9]|\d\d)',
    'the ImageNet classifier': r'^backbone\.fc\.',
}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Needs PyTorch: pip install -r requirements-convert.txt\n'
               'The file is loaded as tensors only; code in it is not run.\n\n'
               'Examples:\n'
               '  python 1_pytorch2paddle.py yolact_plus_resnet50_54_800000.pth\n'
               '  python 1_pytorch2paddle.py yolact_im700_54_800000.pth --out pretrained_im700\n'
               '  python 1_pytorch2paddle.py my_fruit.pth --classes fruit.txt\n'
               '  python 1_pytorch2paddle.py resnet50-19c8e357.pth')
    parser.add_argument('path', metavar='FILE',
                        help='.pth file: a state dict of the public YOLACT code, or ImageNet weights of '
                        'torchvision (ResNet) or of the public YOLACT code (DarkNet)')
    parser.add_argument('--out', metavar='FOLDER',
                        help='folder to write; only a converted checkpoint is replaced there (default: '
                        'pretrained_NETWORK, or backbone_NETWORK of an ImageNet file)')
    parser.add_argument('--backbone_name', choices=NETWORKS,
                        help='the network (default: recognised; an ImageNet ResNet becomes the one of YOLACT++, '
                        'with deformable convolutions whose offsets start at zero)')
    detector = parser.add_argument_group('what the weights do not say (not for an ImageNet file)')
    detector.add_argument('--classes', metavar='NAMES',
                          help='text file in UTF-8, a class name on each line in the order of training, whose ids '
                          'count from 1; or a .json file of annotations, whose categories are taken in the order of '
                          "their ids (default: COCO's if there are 80 classes)")
    detector.add_argument('--input_size', type=int, metavar='PIXELS',
                          help='side of the input in pixels, as the network was trained (default: 400 or 700 if im400 '
                          f"or im700 is in the file's name, otherwise {PUBLISHED_SIZE})")
    detector.add_argument('--anchors', choices=ANCHORS,
                          help='anchors, as the network was trained; pascal: 32 to 512 pixels, not square, as '
                          'yolact_resnet50_pascal has them (default: pascal if that is in the file\'s name, '
                          'otherwise coco)')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Convert a file. Returns the exit status."""
    args = parse_arguments(argv)
    convert(args)
    return 0


def convert(args: argparse.Namespace) -> None:
    """Read, convert and write a file, and print what was done.

    Raises:
        UserError: the file, or the file of class names, cannot be used, or there is something else in the way.
        OSError: a file cannot be read or written.
    """
    checkpoint, left_out = checkpoint_of(read_state(args.path), args)
    kind = 'backbone' if checkpoint.backbone_only else 'pretrained'
    out = Path(args.out or f'{kind}_{checkpoint.config.backbone_name}')
    if out.exists() and not is_converted(out):
        raise UserError(f'{out}: exists and is no converted checkpoint; choose another --out')
    save_checkpoint(out, checkpoint)
    report(args.path, checkpoint, left_out, out)


def checkpoint_of(state: dict[str, np.ndarray], args: argparse.Namespace) -> tuple[Checkpoint, dict[str, list[str]]]:
    """Recognise the network, check its tensors, and rename them.

    Args:
        state: float32 arrays by public name.
        args: of the command line.
    Returns:
        `Checkpoint`, and the names of tensors that were left out by the reason, as of `split_unused`.
    Raises:
        UserError: the tensors are not exactly those of a network known here, or do not go with args.
    """
    if not any(name.startswith('backbone.') for name in state):
        state = as_backbone(state)
    state, left_out = split_unused(state)
    backbone_only = all(name.startswith('backbone.') for name in state)
    name = args.backbone_name or recognise(state, backbone_only)
    if name is None:
        raise UserError(f'{args.path}: of no network known here; those are {", ".join(NETWORKS)}; take a file of one')
    if backbone_only:
        check_backbone_arguments(args)
        config, classes = preset(name), None
    else:
        config, classes = config_and_classes(state, name, args)
    shapes = shapes_of(config, backbone_only)
    if backbone_only:
        state = zero_offsets(shapes) | state
    tensors = rename(state, shapes, f'{args.path}: taken for {name}, but')
    return Checkpoint(config, classes, tensors, backbone_only=backbone_only), left_out


def read_state(path: str) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch file by name, as float32 arrays. Code in the file is not run.

    Args:
        path: a saved state dict, perhaps inside a dict as 'state_dict' or 'model', perhaps of DataParallel.
    Raises:
        UserError: PyTorch is not installed, or the file holds anything but tensors by name.
        OSError: the file cannot be read.
    """
    try:
        import torch  # before Paddle, after which its libraries do not load on Windows
    except ImportError as error:
        raise UserError(f'needs PyTorch ({error}): pip install -r requirements-convert.txt') from None
    check_size(path, MAX_WEIGHTS)
    check_unpacked_size(path)
    with open(path, 'rb') as file:
        try:
            state = torch.load(file, map_location='cpu', weights_only=True)
        except Exception:  # a damaged file may raise anything
            raise UserError(f'{path}: refused: it is damaged, or no PyTorch file, or loading it might '
                            f'run code; get it again, or save model.state_dict() alone') from None
    if isinstance(state, dict):
        state = next((state[key] for key in ('state_dict', 'model') if key in state), state)
    if not (isinstance(state, dict) and state and all(
            isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items())):
        raise UserError(f'{path}: not a state dict, which is tensors by name; save model.state_dict()')
    total = sum(tensor.numel() for tensor in state.values())
    if total > MAX_NUMBERS:  # a view with strides of zero claims more numbers than the file holds
        raise UserError(f'{path}: refused: {total} numbers, more than any network here has; save model.state_dict()')
    for name, tensor in state.items():
        special = tensor.is_meta or tensor.is_quantized or tensor.is_complex() or tensor.is_neg()
        if special or tensor.layout != torch.strided:
            raise UserError(f'{path}: refused: {name} is no plain tensor; save model.state_dict()')
    return {name.removeprefix('module.'): tensor.detach().float().numpy() for name, tensor in state.items()}


def check_unpacked_size(path: str) -> None:
    """Raises a UserError for a zip file, as PyTorch's are, that would unpack to too much."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return  # PyTorch says what is wrong
    if unpacked > MAX_WEIGHTS:
        raise UserError(f'{path}: refused: it unpacks to {unpacked / 1e9:.1f} GB, more than the '
                        f'{MAX_WEIGHTS / 1e9:g} GB that are read; get it again')


def as_backbone(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """ImageNet weights by the names that they have in the network's backbone, where layer1 is layers.0."""
    return {'backbone.' + re.sub(r'^layer(\d)', lambda found: f'layers.{int(found[1]) - 1}', name): tensor
            for name, tensor in state.items()}


def split_unused(state: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """The tensors that may be of the network, and the names of those that are known to be unused, by the reason."""
    unused = {reason: [name for name in state if re.search(pattern, name)] for reason, pattern in UNUSED.items()}
    all_unused = {name for names in unused.values() for name in names}
    return ({name: tensor for name, tensor in state.items() if name not in all_unused},
            {reason: names for reason, names in unused.items() if names})


def recognise(names: Collection[str], backbone_only: bool) -> str | None:
    """The network that tensors with these names belong to: one of `NETWORKS`, or None.

    A ResNet backbone alone may belong to two; it is taken for the one with deformable convolutions.
    """
    if 'backbone._preconv.0.weight' in names:
        return 'darknet53'
    blocks = {name.split('.')[3] for name in names if name.startswith('backbone.layers.2.')}
    resnet = {6: 'resnet50', 23: 'resnet101'}.get(len(blocks))
    deformable = backbone_only or any('conv_offset_mask' in name for name in names)
    return resnet and resnet + 'dcn' * deformable


def check_backbone_arguments(args: argparse.Namespace) -> None:
    """Raises a UserError for flags that only a whole network takes."""
    for flag in ('classes', 'input_size', 'anchors'):
        if getattr(args, flag) is not None:
            raise UserError(f'{args.path}: only a backbone, for networks of any --{flag}; leave it out')


def config_and_classes(state: dict[str, np.ndarray], name: str,
                       args: argparse.Namespace) -> tuple[Config, Classes]:
    """The `Config` of a whole network, and its `Classes`.

    Raises:
        UserError: no such network is possible, or the flags or the file of class names do not go with it.
    """
    if 'semantic_seg_conv.bias' not in state:
        raise UserError(f'{args.path}: lacks semantic_seg_conv.bias, whose size is the number of classes; '
                        'save the whole model.state_dict()')
    num_classes = state['semantic_seg_conv.bias'].size
    size = published_size(args.path) if args.input_size is None else args.input_size
    anchors = args.anchors or ('pascal' if 'pascal' in Path(args.path).stem else 'coco')
    try:
        config = preset(name, num_classes=num_classes + 1, input_size=size, **ANCHORS[anchors])
    except ValueError as error:  # the size, or the number of classes
        raise UserError(f'{args.path}: {error}; correct --input_size, or take another file') from None
    return config, classes_of(num_classes, args.path, args.classes)


def published_size(path: str) -> int:
    """Input size in pixels, by the name of a published file."""
    found = re.search('im(400|700)', Path(path).stem)
    return int(found[1]) if found else PUBLISHED_SIZE


def classes_of(count: int, path: str, names_path: str | None = None) -> Classes:
    """The `Classes` of a network.

    Args:
        count: how many it has, without background, at least 1.
        path: its file, for messages.
        names_path: text file in UTF-8, a name on each line, or a COCO-style annotation file (.json); None if they are
            COCO's.
    Raises:
        UserError: there are more or fewer names, or their file is wrong.
        OSError: the file of names cannot be read.
    """
    if names_path is None:
        if count != len(COCO):
            raise UserError(f"{path}: {count} classes, not COCO's {len(COCO)}; give a text file with "
                            f'their names, one a line: --classes NAMES')
        return COCO
    names, ids = read_names(names_path)
    if len(names) != count:
        raise UserError(f'{names_path}: {pluralize(len(names), "name")}, but {path} has {pluralize(count, "class")}; '
                        'give a file with a name for each')
    return Classes(tuple(names), tuple(ids))


def read_names(path: str) -> tuple[Sequence[str], Sequence[int]]:
    """Names and ids in a text file or an annotation file. Errors as of `classes_of`."""
    if Path(path).suffix == '.json':
        try:
            classes = read_classes(records_of(parse(Path(path)), 'categories'))
        except ValueError as error:
            raise UserError(f'{path}: {error}') from None
        return classes.names, classes.ids
    try:
        lines = Path(path).read_text('utf-8-sig').splitlines()
    except UnicodeDecodeError:
        raise UserError(f'{path}: not a text file in UTF-8; save it as such') from None
    names = [line.strip() for line in lines if line.strip()]
    return names, range(1, len(names) + 1)


def zero_offsets(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The parameters of deformable convolution that ImageNet weights lack, as training initialises them: zeros.

    The mask of each tap is then sigmoid(0) = 0.5, which halves the output; batch norm follows it.
    """
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()
            if re.search(r'\.conv2\.(bias$|conv_offset_mask\.)', name)}


def shapes_of(config: Config, backbone_only: bool) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's tensors, or only of its backbone's, by our name."""
    import paddle

    from model.yolact import Yolact
    paddle.device.set_device('cpu')
    with paddle.LazyGuard():  # no initial values, which take seconds to draw
        network = Yolact(config)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()
            if not backbone_only or name.startswith('backbone.')}


def rename(state: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]],
           error_prefix: str) -> dict[str, np.ndarray]:
    """The tensors by our name, after checking that they are exactly those of the network.

    Args:
        state: arrays by public name.
        shapes: of all tensors that the network has, by our name.
        error_prefix: how an error begins.
    Raises:
        UserError: a tensor is missing, too many, or of another shape.
    """
    public = {name: public_name(name) for name in shapes}
    problems = {
        'it lacks': [name for name in public.values() if name not in state],
        'the network has no': sorted(state.keys() - set(public.values())),
        'shapes differ:': [f'{name} {state[name].shape} for {shapes[ours]}' for ours, name in public.items()
                           if name in state and state[name].shape != shapes[ours]],
    }
    found = [f'{problem} {", ".join(names[:3])} ({len(names)} in all)'
             for problem, names in problems.items() if names]
    if found:
        raise UserError(f'{error_prefix} {"; ".join(found)}; name the right --backbone_name, or take another file')
    return {ours: state[name] for ours, name in public.items()}


def is_converted(folder: Path) -> bool:
    """Whether a folder holds exactly the files that this script writes, so that nothing else would be lost."""
    return folder.is_dir() and {path.name for path in folder.iterdir()} == {META, MODEL}


def report(path: str, checkpoint: Checkpoint, left_out: dict[str, list[str]], out: Path) -> None:
    """Print what was converted and left out, and the command to go on with."""
    config, classes = checkpoint.config, checkpoint.classes
    kind = 'YOLACT++' if config.rescore_masks else 'YOLACT'
    if classes is None:
        print(f'{path}: ImageNet weights, as a backbone for {kind} {config.backbone_name}')
        command = f'train.py --pattern=0 --backbone_name={config.backbone_name} --backbone_weights={out}'
    else:
        named = 'of COCO' if classes == COCO else f'({", ".join(classes.names[:3])}, ...)'
        print(f'{path}: {kind} {config.backbone_name}, {len(classes)} classes {named}, input '
              f'{config.input_size} pixels, anchors {config.anchor_sizes[0]} to {config.anchor_sizes[-1]}')
        command = f'demo.py --model_path={out}'
    for reason, names in left_out.items():
        print(f'left out {len(names)}: {reason} ({names[0]}{", ..." if len(names) > 1 else ""})')
    print(f'wrote {out}: {len(checkpoint.tensors)} tensors')
    print(f'next: python {command}')


if __name__ == '__main__':
    run(main)
