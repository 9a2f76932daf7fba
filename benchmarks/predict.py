"""Milliseconds from a 640x480 image's file to its masks, where they go, and how near that is to what is possible.

    python -m benchmarks.predict
    python -m benchmarks.predict --public ../yolact --backbone_name resnet50dcn    # beside the public code

Weights are those of the tests' golden numbers, with a bias to background that leaves as many anchors as a trained
network would, and 100 objects in an image of noise.
"""
import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.public_code import CONFIGS, open_public_code
from benchmarks.turns import alone, take_turns
from model.config import PRESETS, preset
from tests.golden.golden_inputs import image, weight

HEIGHT, WIDTH = 480, 640
BACKGROUND = 14  # is added to its logit
ENGINES = ('onnx', 'bf16', 'paddle')
STAGES = ('decode', 'resize', 'network', 'NMS', 're-scoring', 'masks')
# Channels in and out, side of the kernel and of the map: convolutions of these networks that suit a processor.
CONVOLUTIONS = ((256, 256, 3, 69), (128, 128, 3, 69), (256, 256, 3, 35), (512, 512, 3, 18), (1024, 256, 1, 35),
                (256, 64, 1, 138))


def main():
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
            path = alone(write_checkpoint, name, folder)
            for batch_size in args.batch_size:
                compare(args, name, path, batch_size, file)


def compare(args, name, path, batch_size, file):
    """Prints what each contestant takes an image, and where our time goes."""
    contestants = {engine: (our_work, path, engine, file, batch_size) for engine in args.engine}
    if args.public and name in CONFIGS:
        contestants['public code'] = public_work, args.public, name, file, batch_size
    seconds = take_turns(contestants, args.rounds)
    print(f'{name}, {preset(name).input_size} pixels, {batch_size} at a time, best of {args.rounds}; ms an image:')
    for contestant, total in seconds.items():
        line = f'{1000 * total / batch_size:7.1f}  {contestant:<11}'
        if 'public code' in seconds:
            line += f'  {seconds["public code"] / total:4.2f} times the public code'
        print(line)
    for engine in args.engine:
        found, parts = alone(stages, path, engine, file, batch_size, args.rounds)
        shares = ', '.join(f'{stage} {1000 * part / batch_size:.1f} ({part / sum(parts):.0%})'
                           for stage, part in zip(STAGES, parts))
        print(f'    {engine}, {found} objects: {shares}')
    if 'onnx' in args.engine:
        operations, ceiling, network = alone(against_ceiling, name, path, batch_size, args.rounds)
        rate = operations * batch_size / network
        print(f'    the network has {operations / 1e9:.1f} billion operations an image by plain convolution, of which '
              f'the fastest does {ceiling / 1e9:.0f} billion a second and the network {rate / 1e9:.0f}: '
              f'{rate / ceiling:.0%}', flush=True)


def write_checkpoint(name, folder):
    """A checkpoint with the golden weights. Returns its path."""
    from model.checkpoint import Checkpoint, save_checkpoint
    from model.classes import Classes
    from model.yolact import Yolact
    network = Yolact(preset(name))
    tensors = {key: golden_weight(public_name(key), tuple(value.shape)) for key, value in network.state_dict().items()}
    path = Path(folder) / f'{name}.pd'
    save_checkpoint(path, Checkpoint(network.config, Classes([str(i) for i in range(80)], range(1, 81)), tensors))
    return path


def open_predictor(path, engine):
    from prediction import Predictor
    return Predictor.open(path, 'cpu', *(('onnx', 'bf16') if engine == 'bf16' else (engine,)))


def public_name(name):
    return name.replace('._mean', '.running_mean').replace('._variance', '.running_var')


def golden_weight(name, shape):
    value = weight(name, shape)
    if name == 'prediction_layers.0.conf_layer.bias':
        value.reshape(-1, 81)[:, 0] += BACKGROUND
    return value


def our_work(path, engine, file, batch_size):
    """A callable that finds the masks of a batch with our code."""
    from data.images import read_image
    predictor = open_predictor(path, engine)
    return lambda: predictor([read_image(file) for _ in range(batch_size)])


def public_work(checkout, name, file, batch_size):
    """A callable that finds them with the public code."""
    config = open_public_code(checkout, name)
    config.mask_proto_debug = False
    import torch
    from layers.output_utils import postprocess
    from utils.augmentations import FastBaseTransform
    from yolact import Yolact
    network = Yolact()
    state = network.state_dict()
    for key, value in state.items():
        if value.dtype.is_floating_point:
            value.copy_(torch.from_numpy(golden_weight(key, tuple(value.shape))))
    network.load_state_dict(state)
    network.eval()
    network.detect.use_fast_nms = True
    prepare = FastBaseTransform()

    @torch.no_grad()
    def work():
        images = np.stack([cv2.imread(file) for _ in range(batch_size)])
        found = network(prepare(torch.from_numpy(images).float()))
        return [postprocess(found, WIDTH, HEIGHT, batch_idx=i) for i in range(batch_size)]
    return work


def stages(path, engine, file, batch_size, rounds):
    """How many objects there are in an image, and the best seconds that each stage took for a batch."""
    from data.images import read_image
    predictor = open_predictor(path, engine)
    steps = (lambda _: [read_image(file) for _ in range(batch_size)],
             lambda images: [predictor.preprocess(image) for image in images],
             predictor.forward,
             lambda outputs: [predictor.detect(one, (HEIGHT, WIDTH)) for one in outputs],
             lambda found: [predictor.rescore(small) for small in found],
             lambda found: [small.upsample() for small in found])
    best = np.full(len(steps), np.inf)
    for _ in range(rounds + 1):
        value = None
        for place, step in enumerate(steps):
            began = time.perf_counter()
            value = step(value)
            best[place] = min(best[place], time.perf_counter() - began)
    return len(value[0]), best.tolist()


def against_ceiling(name, path, batch_size, rounds):
    """The network's operations an image, the most a second that a convolution does, and its seconds for a batch."""
    predictor = open_predictor(path, 'onnx')
    shape = batch_size, *[preset(name).input_size] * 2, 3
    images = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    seconds, ceiling = np.inf, 0
    convolutions = [convolution(*shape) for shape in CONVOLUTIONS]
    for _ in range(rounds):
        seconds = min(seconds, timed(lambda: predictor.forward(images)))
        ceiling = max(ceiling, *(operations / timed(work) for work, operations in convolutions for _ in range(3)))
    return count_operations(name), ceiling, seconds


def timed(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def convolution(channels_in, channels_out, kernel, side):
    """A callable that does a convolution in ONNX Runtime, and how many operations it has."""
    from onnx import TensorProto, helper, numpy_helper

    from engines.onnx_engine import open_session
    values = np.random.default_rng(0).normal(size=(channels_out, channels_in, kernel, kernel)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node('Conv', ['x', 'w'], ['y'], pads=[kernel // 2] * 4)], 'one',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, channels_in, side, side])],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, [1, channels_out, side, side])],
        [numpy_helper.from_array(values, 'w')])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 19)], ir_version=9)
    session = open_session(model.SerializeToString())
    x = np.random.default_rng(1).normal(size=(1, channels_in, side, side)).astype(np.float32)
    return lambda: session.run(None, {'x': x}), 2 * values.size * side ** 2


def count_operations(name):
    """Multiplications and additions of all convolutions for an image."""
    import paddle
    from paddle import nn

    from model.backbones.deform_conv import DeformConv
    from model.yolact import Yolact
    network, total = Yolact(preset(name)), []

    def count(layer, _, output):
        total.append(2 * layer.weight.size * output.shape[2] * output.shape[3])
    for layer in network.sublayers():
        if isinstance(layer, (nn.Conv2D, DeformConv)):
            layer.register_forward_post_hook(count)
    network.eval()
    with paddle.no_grad():
        network.predict(paddle.zeros([1, *[preset(name).input_size] * 2, 3]))
    return sum(total)


if __name__ == '__main__':
    main()
