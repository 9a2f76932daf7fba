"""Exporting a checkpoint to ONNX or Paddle Inference, and comparing what is exported with Paddle."""
import dataclasses
import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engines.errors import EngineError
from engines.onnx_engine import IMAGES, MASK_IOU, MASKS, OnnxFiles, open_session
from engines.onnx_network import network_files
from model.checkpoint import Checkpoint, restore
from system.files import replacing_folder
from system.gpu_errors import as_gpu_error
from system.streams import silenced

if TYPE_CHECKING:
    from paddle.nn import Layer

TOLERANCE = 1e-4  # largest difference from Paddle, as a share of an output's range


class ExportedLayer(NamedTuple):
    """A layer of Paddle, with a sample to check on it what is exported.

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


def to_onnx(checkpoint: Checkpoint, path: str | Path, with_nms: bool = False, winograd: bool = False) -> OnnxFiles:
    """The network of a checkpoint as ONNX, with `metadata_of` it. It needs no Paddle.

    Args:
        checkpoint: `Checkpoint` of a whole network.
        path: where it came from, for messages.
        with_nms: append Fast NMS to the network.
        winograd: compute large 3×3 convolutions as Winograd convolutions, which makes ONNX Runtime faster on a CPU.
    Raises:
        UserError: the checkpoint's tensors are not those of its network.
        EngineError: the onnx package is missing.
    """
    if importlib.util.find_spec('onnx') is None:
        raise EngineError('onnx is not installed; pip install -r requirements.txt')
    return network_files(checkpoint, path, metadata_of(checkpoint), with_nms, winograd)


def check_onnx(files: OnnxFiles, checkpoint: Checkpoint, path: str | Path, image: np.ndarray | None = None,
               with_nms: bool = False) -> None:
    """Compare files in ONNX Runtime with the checkpoint in Paddle.

    Args:
        files: what `to_onnx` made of the checkpoint.
        image: float32 [size, size, 3], BGR, 0 to 255, to compare on; None for noise.
        checkpoint, path, with_nms: as of `to_onnx`.
    Raises:
        EngineError: ONNX Runtime is missing or refuses a file, or an output differs from Paddle's.
    """
    for content, layer in zip(files, _layers_of(checkpoint, path, image, with_nms)):
        assert content is not None  # since there is such a layer
        try:
            session = open_session(content)
        except ValueError as error:
            raise EngineError(f'ONNX Runtime refuses the exported network ({str(error)[:200]}); '
                              'pip install -r requirements.txt') from None
        compare_with_paddle(session.run(list(layer.outputs), {layer.input: layer.sample}), layer)


def to_paddle(checkpoint: Checkpoint, path: str | Path, folder: str | Path, image: np.ndarray | None = None,
              with_nms: bool = False) -> None:
    """Write the network of a checkpoint for Paddle Inference.

    The folder holds the network as network.*, the mask-IoU net as mask_iou.*, and `metadata_of` it in about.json.

    Args:
        folder: to create or to replace.
        checkpoint, path, with_nms: as of `to_onnx`.
        image: as of `check_onnx`.
    Raises:
        UserError: as of `to_onnx`. The folder is not created or replaced.
        EngineError: an output differs from Paddle's. The folder is not created or replaced.
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


def _layers_of(checkpoint: Checkpoint, path: str | Path, image: np.ndarray | None,
               with_nms: bool) -> Iterator[ExportedLayer]:
    """The layers of a checkpoint to export: the network, and its mask-IoU net if it has one."""
    from engines.exported_network import ExportedNetwork, fold_batch_norm  # these import Paddle
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
    yield ExportedLayer(layer, IMAGES, images, expected, layer.outputs)
    if config.rescore_masks:
        masks = rng.random((2, 1, config.prototype_size, config.prototype_size), np.float32)
        yield ExportedLayer(network.maskiou_net, MASKS, masks, _run(network.maskiou_net, masks), (MASK_IOU,))


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
