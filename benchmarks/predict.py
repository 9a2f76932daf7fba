"""Milliseconds from the file of a 640x480 image to its masks, by stage, and the share of the CPU's peak speed.

    python -m benchmarks.predict
    python -m benchmarks.predict --public ../yolact --backbone_name resnet50dcn    # beside the public code

The weights are those of the tests' golden numbers, with a higher background bias, so that as many anchors as with a
trained network pass the score threshold, and 100 objects are detected in an image of noise.
"""
import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from benchmarks.public_code import CONFIGS, open_public_code, public_module
from benchmarks.turns import Contestants, in_new_process, take_turns
from model.config import PRESETS, preset
from model.parameter_names import public_name
from tests.golden.golden_inputs import image, weight

if TYPE_CHECKING:
    from prediction import Predictor

HEIGHT, WIDTH = 480, 640
BACKGROUND_BIAS = 14  # is added to the background's logit
ENGINES = ('onnx', 'bf16', 'paddle')
STAGES = ('decode', 'resize', 'network', 'NMS', 'mask-IoU net', 'masks')
# Input and output channels, side of the kernel and of the feature map: convolutions of these networks that suit a CPU.
CONVOLUTIONS = ((256, 256, 3, 69), (128, 128, 3, 69), (256, 256, 3, 35), (512, 512, 3, 18), (1024, 256, 1, 35),
                (256, 64, 1, 138))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--public', help='folder of a checkout of the public code to compare with')
    parser.add_argument('--backbone_name', choices=PRESETS, nargs='+', default=list(PRESETS))
    parser.add_argument('--engine', choices=ENGINES, nargs='+', default=['onnx', 'paddle'],
                        help='bf16: --precision bf16')
    parser.add_argument('--batch_size', type=int, nargs='+', default=[1, 8])
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / 'image.jpg')
        cv2.imwrite(file, cv2.GaussianBlur(image(HEIGHT, WIDTH), (5, 5), 0))
        for name in args.backbone_name:
            path = in_new_process(write_checkpoint, name, folder)
            for batch_size in args.batch_size:
                compare(args, name, path, batch_size, file)


def compare(args: argparse.Namespace, name: str, path: Path, batch_size: int, file: str) -> None:
    """Print the time per image of each contestant, and of each stage of ours."""
    contestants: Contestants = {engine: (our_work, path, engine, file, batch_size) for engine in args.engine}
    if args.public and name in CONFIGS:
        contestants['public code'] = public_work, args.public, name, file, batch_size
    seconds = take_turns(contestants, args.rounds)
    print(f'{name}, {preset(name).input_size} pixels, {batch_size} at a time, best of {args.rounds}; ms per image:')
    for contestant, total in seconds.items():
        line = f'{1000 * total / batch_size:7.1f}  {contestant:<11}'
        if 'public code' in seconds:
            line += f'  {seconds["public code"] / total:4.2f} times the public code'
        print(line)
    for engine in args.engine:
        found, parts = in_new_process(stages, path, engine, file, batch_size, args.rounds)
        shares = ', '.join(f'{stage} {1000 * part / batch_size:.1f} ({part / sum(parts):.0%})'
                           for stage, part in zip(STAGES, parts))
        print(f'    {engine}, {found} objects: {shares}')
    if 'onnx' in args.engine:
        operations, peak, network = in_new_process(network_and_peak, name, path, batch_size, args.rounds)
        rate = operations * batch_size / network
        print(f'    the network: {operations / 1e9:.1f} GFLOP per image by direct convolution, '
              f'{rate / 1e9:.0f} GFLOP/s, {rate / peak:.0%} of the '
              f'{peak / 1e9:.0f} GFLOP/s of the fastest convolution', flush=True)


def write_checkpoint(name: str, folder: str) -> Path:
    """Write a checkpoint with the golden weights. Returns its path."""
    from model.checkpoint import Checkpoint, save_checkpoint
    from model.classes import COCO
    from model.yolact import Yolact
    network = Yolact(preset(name))
    tensors = {key: golden_weight(public_name(key), tuple(value.shape)) for key, value in network.state_dict().items()}
    path = Path(folder) / f'{name}.pd'
    save_checkpoint(path, Checkpoint(network.config, COCO, tensors))
    return path


def open_predictor(path: Path, engine: str) -> 'Predictor':
    from prediction import Predictor
    return Predictor.open(path, 'cpu', *(('onnx', 'bf16') if engine == 'bf16' else (engine,)))


def golden_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weight of a public name, with a higher background bias."""
    value = weight(name, shape)
    if name == 'prediction_layers.0.conf_layer.bias':
        value.reshape(-1, 81)[:, 0] += BACKGROUND_BIAS
    return value


def our_work(path: Path, engine: str, file: str, batch_size: int) -> Callable[[], object]:
    """A callable that predicts a batch with our code."""
    from data.images import read_image
    predictor = open_predictor(path, engine)
    return lambda: predictor([read_image(file) for _ in range(batch_size)])


def public_work(checkout: str, name: str, file: str, batch_size: int) -> Callable[[], object]:
    """A callable that predicts a batch with the public code."""
    config = open_public_code(checkout, name)
    config.mask_proto_debug = False
    import torch
    postprocess = public_module('layers.output_utils').postprocess
    network = public_module('yolact').Yolact()
    state = network.state_dict()
    for key, value in state.items():
        if value.dtype.is_floating_point:
            value.copy_(torch.from_numpy(golden_weight(key, tuple(value.shape))))
    network.load_state_dict(state)
    network.eval()
    network.detect.use_fast_nms = True
    prepare = public_module('utils.augmentations').FastBaseTransform()

    @torch.no_grad()
    def work() -> object:
        images = np.stack([np.asarray(cv2.imread(file)) for _ in range(batch_size)])
        found = network(prepare(torch.from_numpy(images).float()))
        return [postprocess(found, WIDTH, HEIGHT, batch_idx=i) for i in range(batch_size)]
    return work


def stages(path: Path, engine: str, file: str, batch_size: int, rounds: int) -> tuple[int, list[float]]:
    """The number of objects in an image, and the best time of each stage for a batch, in seconds."""
    from data.images import read_image
    predictor = open_predictor(path, engine)
    steps: list[Callable[[Any], Any]] = [
             lambda _: [read_image(file) for _ in range(batch_size)],
             lambda images: [predictor.preprocess(image) for image in images],
             predictor.forward,
             lambda outputs: [predictor.postprocess(one, (HEIGHT, WIDTH)) for one in outputs],
             lambda found: [predictor.rescore(one) for one in found],
             lambda found: [one.upsample() for one in found]]
    best = np.full(len(steps), np.inf)
    for _ in range(rounds + 1):
        value: Any = None
        for i, step in enumerate(steps):
            began = time.perf_counter()
            value = step(value)
            best[i] = min(best[i], time.perf_counter() - began)
    return len(value[0]), best.tolist()


def network_and_peak(name: str, path: Path, batch_size: int, rounds: int) -> tuple[int, float, float]:
    """The network's operations per image, the most per second of a single convolution, and its seconds for a batch."""
    predictor = open_predictor(path, 'onnx')
    size = preset(name).input_size
    images = list(np.random.default_rng(0).uniform(0, 255, (batch_size, size, size, 3)).astype(np.float32))
    seconds, peak = np.inf, 0.0
    convolutions = [convolution(*shape) for shape in CONVOLUTIONS]
    for _ in range(rounds):
        seconds = min(seconds, timed(lambda: predictor.forward(images)))
        peak = max(peak, *(operations / timed(work) for work, operations in convolutions for _ in range(3)))
    return count_operations(name), peak, seconds


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def convolution(in_channels: int, out_channels: int, kernel: int, side: int) -> tuple[Callable[[], object], int]:
    """A callable that computes a convolution in ONNX Runtime, and the number of its operations."""
    from onnx import TensorProto, helper, numpy_helper

    from engines.onnx_engine import open_session
    values = np.random.default_rng(0).normal(size=(out_channels, in_channels, kernel, kernel)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node('Conv', ['x', 'w'], ['y'], pads=[kernel // 2] * 4)], 'one',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, in_channels, side, side])],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, [1, out_channels, side, side])],
        [numpy_helper.from_array(values, 'w')])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 19)], ir_version=9)
    session = open_session(model.SerializeToString())
    x = np.random.default_rng(1).normal(size=(1, in_channels, side, side)).astype(np.float32)
    return lambda: session.run(None, {'x': x}), 2 * values.size * side ** 2


def count_operations(name: str) -> int:
    """Multiplications and additions of all convolutions for an image."""
    import paddle
    from paddle import nn

    from model.backbones.deform_conv import DeformConv
    from model.yolact import Yolact
    network, operations = Yolact(preset(name)), []

    def count(layer: Any, _: object, output: paddle.Tensor) -> paddle.Tensor:
        operations.append(2 * layer.weight.size * output.shape[2] * output.shape[3])
        return output

    for layer in network.sublayers():
        if isinstance(layer, (nn.Conv2D, DeformConv)):
            layer.register_forward_post_hook(count)
    network.eval()
    with paddle.no_grad():
        network.predict(paddle.zeros([1, *[preset(name).input_size] * 2, 3]))
    return sum(operations)


if __name__ == '__main__':
    main()
