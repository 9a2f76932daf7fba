"""A checkpoint as files that run elsewhere: ONNX, or Paddle Inference. Each is tried before it is handed out."""
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engines.errors import EngineError
from engines.onnx_engine import IMAGES, MASK_IOU, MASKS, open_session
from model.checkpoint import Checkpoint, restore
from system.files import replacing_folder

OPSET = 19  # the first with DeformConv
TOLERANCE = 1e-4  # of an output's range, against Paddle's


class Part(NamedTuple):
    """A layer to export.

    Attributes:
        layer: Paddle's.
        input: name of its input.
        sample: an input.
        expected: outputs for it.
        outputs: their names.
    """
    layer: Any
    input: str
    sample: np.ndarray
    expected: list[np.ndarray]
    outputs: tuple[str, ...]


def to_onnx(checkpoint: Checkpoint, path: str | Path, image: np.ndarray | None = None, with_nms: bool = False,
            winograd: bool = False) -> tuple[bytes, bytes | None]:
    """The network of a checkpoint as ONNX. The config and the classes are in its metadata, as JSON.

    Args:
        checkpoint: `Checkpoint`.
        path: where it came from, for messages.
        image: float32 [size, size, 3], BGR, 0 to 255, to try it on; None for noise.
        with_nms: whether Fast NMS is a part of it.
        winograd: whether 3×3 convolutions are to be as of `WinogradConv`, which suits ONNX Runtime on a CPU.
    Returns:
        bytes of the network, from float32 [n, size, size, 3] to what `Exported` returns; and of the net that re-scores
        masks, from float32 [n, 1, h, w] to [n, classes], or None where there is none.
    Raises:
        UserError: it is not a whole network.
        EngineError: an output is not what it is in Paddle.
        EngineError: there is nothing to convert or to try it with.
    """
    _look_for_converter()
    parts = _parts(checkpoint, path, image, with_nms, winograd)
    made = [_as_onnx(part, metadata_of(checkpoint)) for part in parts]
    return made[0], made[1] if len(made) > 1 else None


def to_paddle(checkpoint: Checkpoint, path: str | Path, folder: str | Path, image: np.ndarray | None = None,
              with_nms: bool = False) -> None:
    """The network of a checkpoint for Paddle Inference: the files network.* in a folder, which is made, and about.json.

    The net that re-scores masks is in mask_iou.*. Arguments and errors as of `to_onnx`, and
    Raises:
        OSError: they cannot be written. There is no folder then.
    """
    import paddle
    parts = _parts(checkpoint, path, image, with_nms)
    with replacing_folder(folder) as made:
        for stem, part in zip(('network', 'mask_iou'), parts):
            try:
                with _quiet():
                    _save(part, str(made / stem))
                    found = _run(paddle.jit.load(str(made / stem)), part.sample)
            except RuntimeError as error:  # Paddle overlooks a full disk when it writes
                raise EngineError(f'{folder}: cannot be read again as it was written ({str(error).strip()[-100:]!r}); '
                                  'is the disk full?') from None
            _compare(found, part)
        (made / 'about.json').write_text(json.dumps(metadata_of(checkpoint)), 'ascii')


def metadata_of(checkpoint: Checkpoint) -> dict[str, str]:
    """The config and the classes of a checkpoint, each as JSON, and a sum over its weights, which tells it apart."""
    assert checkpoint.classes is not None  # of a whole network
    weights = hashlib.sha256()
    for name, tensor in sorted(checkpoint.tensors.items()):
        weights.update(name.encode())
        weights.update(np.ascontiguousarray(tensor).data)
    return {'config': json.dumps(dataclasses.asdict(checkpoint.config)),
            'classes': json.dumps(dataclasses.asdict(checkpoint.classes)), 'weights': weights.hexdigest()}


def _parts(checkpoint: Checkpoint, path: str | Path, image: np.ndarray | None, with_nms: bool,
           winograd: bool = False) -> Iterator[Part]:
    """What there is to export: layers, names and samples of what they take, what they make of these, and its names."""
    from engines.exported_network import Exported, fold_batch_norm  # imports Paddle, as all do that only export
    from engines.winograd import use_winograd
    from model.yolact import Yolact
    config, rng = checkpoint.config, np.random.default_rng(0)
    network = Yolact(config)
    restore(network, checkpoint, path)
    network.eval()
    layer = Exported(network, with_nms)
    if image is None:
        image = rng.uniform(0, 255, (config.input_size, config.input_size, 3)).astype(np.float32)
    images = np.stack([image, image[:, ::-1]])
    expected = _run(layer, images)
    fold_batch_norm(network)
    if winograd:
        use_winograd(network)
    yield Part(layer, IMAGES, images, expected, layer.outputs)
    if config.rescore_masks:
        masks = rng.random((2, 1, config.prototype_size, config.prototype_size), np.float32)
        yield Part(network.maskiou_net, MASKS, masks, _run(network.maskiou_net, masks), (MASK_IOU,))


def _look_for_converter() -> None:
    for package in ('onnxruntime', 'onnx', 'paddle2onnx'):
        if importlib.util.find_spec(package) is None:
            raise EngineError(f'{package} is not installed; pip install -r requirements.txt')
    version = importlib.metadata.version('paddle2onnx')
    if int(version.partition('.')[0]) < 2:  # it would end the process
        raise EngineError(f'paddle2onnx {version} knows no deformable convolution; it takes Paddle 3 and paddle2onnx 2')


def _as_onnx(part: Part, properties: dict[str, str]) -> bytes:
    """A layer as ONNX, for any batch size, compared with Paddle on the sample."""
    import onnx
    import paddle2onnx
    with tempfile.TemporaryDirectory() as folder, _quiet():
        stem = os.path.join(folder, 'network')
        _save(part, stem)
        program, = (str(path) for path in Path(folder).iterdir() if path.suffix in ('.json', '.pdmodel'))
        # Its default tool to optimise with installs packages of its own accord.
        paddle2onnx.export(program, stem + '.pdiparams', stem + '.onnx', opset_version=OPSET, optimize_tool='None')
        model = onnx.load(stem + '.onnx')
    _mend(model.graph)
    _describe_outputs(model.graph, dict(zip(part.outputs, part.expected, strict=True)))
    onnx.helper.set_model_props(model, properties)
    made = model.SerializeToString()
    _compare(open_session(made).run(list(part.outputs), {part.input: part.sample}), part)
    return made


def _save(part: Part, stem: str) -> None:
    """Write the files of Paddle Inference."""
    import paddle
    spec = paddle.static.InputSpec([None, *part.sample.shape[1:]], 'float32', part.input)
    paddle.jit.save(paddle.jit.to_static(part.layer, input_spec=[spec], full_graph=True), stem)


def _run(layer: Any, sample: np.ndarray) -> list[np.ndarray]:
    """What a layer makes of a sample: list of arrays."""
    import paddle
    with paddle.no_grad():
        made = layer(paddle.to_tensor(sample))
    return [part.numpy() for part in (made if isinstance(made, (list, tuple)) else [made])]


def _describe_outputs(graph: Any, expected: dict[str, np.ndarray]) -> None:
    """Names and shapes, of which the converter leaves some open."""
    given = dict(zip((output.name for output in graph.output), expected, strict=True))
    for value in (*graph.input, *graph.output):
        value.name = given.get(value.name, value.name)
        sides = value.type.tensor_type.shape.dim
        sides[0].dim_param = 'n'
        for side, number in list(zip(sides, expected[value.name].shape))[1:] if value.name in expected else ():
            side.dim_value = number
    for node in graph.node:
        for used in (node.input, node.output):
            used[:] = [given.get(name, name) for name in used]


def _mend(graph: Any) -> None:
    """paddle2onnx 2.1 leaves the slope of leaky ReLUs to chance, and constants that nothing uses."""
    from model.backbones.darknet import LEAK
    used = {name for node in graph.node for name in node.input}
    for node in [node for node in graph.node if node.op_type == 'Constant' and node.output[0] not in used]:
        graph.node.remove(node)
    for node in graph.node:
        if node.op_type == 'LeakyRelu':
            node.attribute[0].f = LEAK


def _compare(outputs: Sequence[np.ndarray], part: Part) -> None:
    """Outputs of the exported layer against Paddle's."""
    found, expected = (dict(zip(part.outputs, some, strict=True)) for some in (outputs, part.expected))
    if 'classes' in expected:  # after NMS: of two that are as good as equal either may come first
        scores = np.pad(expected['scores'], ((0, 0), (1, 1)), constant_values=np.inf)
        steps = np.abs(scores[:, 1:] - scores[:, :-1]) > TOLERANCE
        sure = steps[:, 1:] & steps[:, :-1]
        for name in ('boxes', 'classes', 'coefficients'):
            found[name], expected[name] = found[name][sure], expected[name][sure]
    for name in part.outputs:
        apart = np.abs(found[name] - expected[name]).max(initial=0)
        extent = expected[name].max(initial=0) - expected[name].min(initial=0)
        if not apart <= TOLERANCE * extent:
            raise EngineError(f'the exported network gives other {name} than Paddle, by {apart:.2g} in a range of '
                              f'{extent:.2g}')


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Paddle and the converter talk, from Python and from C++."""
    sys.stdout.flush()
    kept = [(stream, os.dup(stream)) for stream in (1, 2)]
    with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            for stream, _ in kept:
                os.dup2(nowhere.fileno(), stream)
            yield
        finally:
            for stream, copy in kept:
                os.dup2(copy, stream)
                os.close(copy)
