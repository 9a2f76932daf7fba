"""ONNX Runtime as an engine. On a CPU it is faster than Paddle."""
import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engines.errors import EngineError
from model.classes import Classes
from model.config import Config
from system.cpu import cores, keep_memory
from system.errors import UserError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# Names of inputs and outputs.
IMAGES, OUTPUTS = 'images', ('boxes', 'scores', 'coefficients', 'prototypes')
MASKS, MASK_IOU = 'masks', 'mask_iou'


class OnnxFiles(NamedTuple):
    """A network in ONNX: the contents of its files.

    Attributes:
        network: from images, float32 [n, size, size, 3], to what `ExportedNetwork` returns.
        mask_iou_net: from low-resolution masks, float32 [n, 1, h, w], to [n, num_classes - 1]; None if the network has
            no such net.
    """
    network: bytes
    mask_iou_net: bytes | None


class OnnxEngine:
    """A network in ONNX Runtime, on the CPU. An `Engine`.

    Args:
        files: `OnnxFiles`.
        path: where they came from, for messages.
    Attributes:
        config: the network's `Config`.
        classes: its `Classes`.
    Raises:
        UserError: the files are damaged, or not of a network that this engine can use.
        EngineError: as of `open_session`.
    """
    config: Config
    classes: Classes

    def __init__(self, files: OnnxFiles, path: str | Path) -> None:
        keep_memory()
        try:
            self._network = open_session(files.network)
            self._mask_iou_net = open_session(files.mask_iou_net) if files.mask_iou_net else None
            metadata = _metadata(self._network)
            if self._mask_iou_net and _metadata(self._mask_iou_net) != metadata:
                raise UserError(f'{path}: is of other weights than the mask-IoU net beside it; export both again')
            self.config = Config(**json.loads(metadata['config']))
            self.classes = Classes(**json.loads(metadata['classes']))
        except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
            raise _not_as_exported(path, str(error)[:200]) from None
        self._check_kind(path)
        self._check_shapes(path)
        if self._mask_iou_net and [value.name for value in self._mask_iou_net.get_inputs()] != [MASKS]:
            raise _not_as_exported(path, 'the file of its mask-IoU net holds another network')
        self._input, = (value.name for value in self._network.get_inputs())  # 'pictures' in files of earlier versions

    def predict(self, images: np.ndarray, score_threshold: float) -> list[tuple[np.ndarray, ...]]:
        """As of `Engine`, for all anchors."""
        try:
            return list(zip(*self._network.run(list(OUTPUTS), {self._input: images})))
        except RuntimeError as error:  # ONNX Runtime's own, of which one may be for memory
            if 'allocate memory' in str(error):
                raise MemoryError from None
            raise

    def mask_iou(self, masks: np.ndarray) -> np.ndarray:
        """As of `Engine`."""
        assert self._mask_iou_net is not None  # since config.rescore_masks
        return self._mask_iou_net.run([MASK_IOU], {MASKS: masks})[0]

    def _check_kind(self, path: str | Path) -> None:
        """Raises a UserError for files of export.py that are not the network from images to raw outputs."""
        outputs = {value.name for value in self._network.get_outputs()}
        if 'classes' in outputs:
            raise UserError(f'{path}: was exported --with_nms, for other programs; export it without, for these')
        if MASK_IOU in outputs:
            raise UserError(f'{path}: is the mask-IoU net of a network; name that one')

    def _check_shapes(self, path: str | Path) -> None:
        """Raises a UserError unless the network has the shapes that its config implies.

        Otherwise arrays of wrong shapes would cause errors far from here.
        """
        config, size, side = self.config, self.config.input_size, self.config.prototype_size
        anchors = config.anchors_per_cell * sum(level ** 2 for level in config.level_sizes)
        expected = {'boxes': [anchors, 4], 'scores': [anchors, config.num_classes],
                    'coefficients': [anchors, config.mask_dim], 'prototypes': [side, side, config.mask_dim]}
        outputs = {value.name: value.shape[1:] for value in self._network.get_outputs()}
        wrong = [name for name, shape in expected.items() if outputs.get(name) != shape]
        if [value.shape[1:] for value in self._network.get_inputs()] != [[size, size, 3]]:
            wrong.append('inputs')
        if len(self.classes) + 1 != config.num_classes:
            wrong.append('classes')
        if wrong:
            raise _not_as_exported(path, f'its {wrong[0]} are of another network')
        if config.rescore_masks and self._mask_iou_net is None:
            raise _not_as_exported(path, 'the mask-IoU net is not beside it')
        if self._mask_iou_net is not None and not config.rescore_masks:
            raise _not_as_exported(path, 'it has no mask-IoU net, but one is beside it')


def _metadata(session: 'InferenceSession') -> dict[str, str]:
    """As of `engines.export.metadata_of`."""
    return session.get_modelmeta().custom_metadata_map


def _not_as_exported(path: str | Path, problem: str) -> UserError:
    return UserError(f'{path}: not as export.py wrote it ({problem}); export it again')


def open_session(content: bytes) -> 'InferenceSession':
    """An ONNX Runtime session on all CPU cores.

    Args:
        content: of an ONNX file.
    Raises:
        EngineError: ONNX Runtime is not installed, or too old.
        ValueError: it refuses the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise EngineError("onnxruntime is not installed; pip install 'onnxruntime>=1.25'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    options.log_severity_level = 3  # errors; below it warns of nodes that it optimises away
    # Threads that wait by spinning slow down the mask-IoU net's threads, and those of other processes.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.add_session_config_entry('session.set_denormal_as_zero', '1')
    try:
        return onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # of classes that only a private module has
        if not _lacks_operator(error):
            raise ValueError(str(error)) from None
        raise EngineError(f'onnxruntime {onnxruntime.__version__} has no deformable convolution for the CPU; '
                          f"pip install 'onnxruntime>=1.25'") from None


def _lacks_operator(error: Exception) -> bool:
    """Whether ONNX Runtime's error says that it lacks an operator.

    It is known by the name of its class, which ONNX Runtime exports from a private module only.
    """
    return type(error).__name__ == 'NotImplemented'
