"""Exporting a checkpoint to ONNX or Paddle Inference. What is exported is compared with Paddle before it is kept."""
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engines.errors import EngineError
from engines.onnx_engine import IMAGES, MASK_IOU, MASKS, OnnxFiles, open_session
from model.checkpoint import Checkpoint, restore
from system.files import replacing_folder
from system.gpu_errors import as_gpu_error
from system.streams import silenced

if TYPE_CHECKING:
    from onnx import GraphProto
    from paddle.nn import Layer

OPSET = 19  # the first with DeformConv
# Not a requirements file: requirements.txt would install a Paddle without a GPU beside one with it.
INSTALL = "pip install 'onnxruntime>=1.25' 'paddle2onnx>=2.1,<2.2' 'onnx>=1.16.1,<1.18'"
TOLERANCE = 1e-4  # largest difference from Paddle, as a share of an output's range


class ExportedLayer(NamedTuple):
    """A layer to export, with a sample to check the exported layer on.

    Attributes:
        layer: `nn.Layer` with one input.
        input: name of the input.
        sample: values of the input, for two images or masks.
        expected: the layer's outputs for the sample.
        outputs: names of the outputs.
    """
    layer: 'Layer'
    input: str
    sample: np.ndarray
    expected: list[np.ndarray]
    outputs: tuple[str, ...]


def to_onnx(checkpoint: Checkpoint, path: str | Path, image: np.ndarray | None = None, with_nms: bool = False,
            winograd: bool = False) -> OnnxFiles:
    """The network of a checkpoint as ONNX, with `metadata_of` it.

    Args:
        checkpoint: `Checkpoint` of a whole network.
        path: where it came from, for messages.
        image: float32 [size, size, 3], BGR, 0 to 255, to compare with Paddle on; None for noise.
        with_nms: append Fast NMS to the network.
        winograd: use `WinogradConv` for large 3×3 convolutions, which makes ONNX Runtime faster on a CPU.
    Raises:
        UserError: the checkpoint's tensors are not those of its network.
        EngineError: a package for the conversion is missing, or an output differs from Paddle's.
    """
    _check_converter()
    metadata = metadata_of(checkpoint)
    network, *mask_iou_net = (_convert_to_onnx(layer, metadata)
                              for layer in _layers_of(checkpoint, path, image, with_nms, winograd))
    return OnnxFiles(network, mask_iou_net[0] if mask_iou_net else None)


def to_paddle(checkpoint: Checkpoint, path: str | Path, folder: str | Path, image: np.ndarray | None = None,
              with_nms: bool = False) -> None:
    """Write the network of a checkpoint for Paddle Inference.

    The folder holds the network as network.*, the mask-IoU net as mask_iou.*, and `metadata_of` it in about.json.

    Args:
        folder: to create or to replace.
        checkpoint, path, image, with_nms: as of `to_onnx`.
    Raises:
        UserError, EngineError: as of `to_onnx`. The folder is not created or replaced.
        OSError: the folder cannot be written. It is not created or replaced.
    """
    import paddle
    with replacing_folder(folder) as part:
        for stem, layer in zip(('network', 'mask_iou'), _layers_of(checkpoint, path, image, with_nms)):
            try:
                with silenced():
                    _save_for_inference(layer, str(part / stem))
                    outputs = _run(paddle.jit.load(str(part / stem)), layer.sample)
            except RuntimeError as error:  # Paddle reports no error when the disk is full
                if as_gpu_error(error):
                    raise
                raise EngineError(f'{folder}: cannot be read again as it was written ({str(error).strip()[-100:]!r}); '
                                  'is the disk full?') from None
            compare_with_paddle(outputs, layer)
        (part / 'about.json').write_text(json.dumps(metadata_of(checkpoint)), 'ascii')


def metadata_of(checkpoint: Checkpoint) -> dict[str, str]:
    """Metadata of an exported network: 'config' and 'classes' as JSON, and 'weights', a SHA-256 over the tensors."""
    assert checkpoint.classes is not None  # of a whole network
    weights = hashlib.sha256()
    for name, tensor in sorted(checkpoint.tensors.items()):
        weights.update(name.encode())
        weights.update(np.ascontiguousarray(tensor).data)
    return {'config': json.dumps(dataclasses.asdict(checkpoint.config)),
            'classes': json.dumps(dataclasses.asdict(checkpoint.classes)), 'weights': weights.hexdigest()}


def compare_with_paddle(outputs: Sequence[np.ndarray], layer: ExportedLayer) -> None:
    """Check the outputs of an exported layer for its sample.

    Raises:
        EngineError: one differs from Paddle's by more than `TOLERANCE`.
    """
    found, expected = (dict(zip(layer.outputs, arrays, strict=True)) for arrays in (outputs, layer.expected))
    if 'classes' in expected:  # after NMS: detections with nearly equal scores may be in any order
        scores = np.pad(expected['scores'], ((0, 0), (1, 1)), constant_values=np.inf)
        apart = np.abs(scores[:, 1:] - scores[:, :-1]) > TOLERANCE
        comparable = apart[:, 1:] & apart[:, :-1]
        for name in ('boxes', 'classes', 'coefficients'):
            found[name], expected[name] = found[name][comparable], expected[name][comparable]
    for name in layer.outputs:
        difference = np.abs(found[name] - expected[name]).max(initial=0)
        extent = expected[name].max(initial=0) - expected[name].min(initial=0)
        if not difference <= TOLERANCE * extent:  # nor if it is NaN
            raise EngineError(f'the exported network gives other {name} than Paddle, by {difference:.2g} in a range '
                              f'of {extent:.2g}')


def _layers_of(checkpoint: Checkpoint, path: str | Path, image: np.ndarray | None, with_nms: bool,
               winograd: bool = False) -> Iterator[ExportedLayer]:
    """The layers of a checkpoint to export: the network, and its mask-IoU net if it has one."""
    from engines.exported_network import ExportedNetwork, fold_batch_norm  # these import Paddle
    from engines.winograd import use_winograd
    from model.yolact import Yolact
    config, rng = checkpoint.config, np.random.default_rng(0)
    network = Yolact(config)
    restore(network, checkpoint, path)
    network.eval()
    layer = ExportedNetwork(network, with_nms)
    if image is None:
        image = rng.uniform(0, 255, (config.input_size, config.input_size, 3)).astype(np.float32)
    images = np.stack([image, image[:, ::-1]])
    expected = _run(layer, images)
    fold_batch_norm(network)
    if winograd:
        use_winograd(network)
    yield ExportedLayer(layer, IMAGES, images, expected, layer.outputs)
    if config.rescore_masks:
        masks = rng.random((2, 1, config.prototype_size, config.prototype_size), np.float32)
        yield ExportedLayer(network.maskiou_net, MASKS, masks, _run(network.maskiou_net, masks), (MASK_IOU,))


def _check_converter() -> None:
    """Raises an EngineError unless the packages that the conversion needs are installed."""
    for package in ('onnxruntime', 'onnx', 'paddle2onnx'):
        if importlib.util.find_spec(package) is None:
            raise EngineError(f'{package} is not installed; {INSTALL}')
    version = importlib.metadata.version('paddle2onnx')
    if int(version.partition('.')[0]) < 2:  # it would end the process
        raise EngineError(f'paddle2onnx {version} knows no deformable convolution; it takes Paddle 3 and paddle2onnx 2')


def _convert_to_onnx(layer: ExportedLayer, metadata: dict[str, str]) -> bytes:
    """A layer as ONNX, for any batch size, after comparing it with Paddle."""
    import onnx
    import paddle2onnx
    with tempfile.TemporaryDirectory() as folder, silenced():
        stem = os.path.join(folder, 'network')
        _save_for_inference(layer, stem)
        program, = (str(path) for path in Path(folder).iterdir() if path.suffix in ('.json', '.pdmodel'))
        # Its default optimize_tool installs packages without asking.
        paddle2onnx.export(program, stem + '.pdiparams', stem + '.onnx', opset_version=OPSET, optimize_tool='None')
        model = onnx.load(stem + '.onnx')
    _fix_conversion(model.graph)
    _describe_outputs(model.graph, dict(zip(layer.outputs, layer.expected, strict=True)))
    onnx.helper.set_model_props(model, metadata)
    content = model.SerializeToString()
    try:
        session = open_session(content)
    except ValueError as error:
        raise EngineError(f'ONNX Runtime refuses the exported network ({str(error)[:200]}); {INSTALL}'
                          ) from None
    compare_with_paddle(session.run(list(layer.outputs), {layer.input: layer.sample}), layer)
    return content


def _save_for_inference(layer: ExportedLayer, stem: str) -> None:
    """Write the files of Paddle Inference: their path up to the suffix is given."""
    import paddle
    spec = paddle.static.InputSpec([None, *layer.sample.shape[1:]], 'float32', layer.input)
    paddle.jit.save(paddle.jit.to_static(layer.layer, input_spec=[spec], full_graph=True), stem)


def _run(layer: Callable[..., Any], sample: np.ndarray) -> list[np.ndarray]:
    """The outputs of a layer, of which there may be one or several."""
    import paddle
    with paddle.no_grad():
        outputs = layer(paddle.to_tensor(sample))
    return [output.numpy() for output in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]


def _fix_conversion(graph: 'GraphProto') -> None:
    """Set the slope of leaky ReLUs, which paddle2onnx 2.1 leaves undefined, and remove constants that nothing uses."""
    from model.backbones.darknet import LEAK
    used = {name for node in graph.node for name in node.input}
    for node in [node for node in graph.node if node.op_type == 'Constant' and node.output[0] not in used]:
        graph.node.remove(node)
    for node in graph.node:
        if node.op_type == 'LeakyRelu':
            node.attribute[0].f = LEAK


def _describe_outputs(graph: 'GraphProto', expected: dict[str, np.ndarray]) -> None:
    """Name the outputs, and declare all shapes, which the converter leaves open in part.

    Args:
        graph: to change.
        expected: an example of each output by its name to be, in the order of the graph's outputs.
    """
    new_names = dict(zip((output.name for output in graph.output), expected, strict=True))
    for value in (*graph.input, *graph.output):
        value.name = new_names.get(value.name, value.name)
        sides = value.type.tensor_type.shape.dim
        sides[0].dim_param = 'n'
        for side, number in list(zip(sides, expected[value.name].shape))[1:] if value.name in expected else ():
            side.dim_value = number
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new_names.get(name, name) for name in names]
