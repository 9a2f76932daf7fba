"""The network in ONNX Runtime, which is faster than Paddle on a CPU."""
import json
from pathlib import Path
from typing import Any

import numpy as np

from engines.errors import EngineError
from model.classes import Classes
from model.config import Config
from system.cpu import cores, keep_memory
from system.errors import UserError

IMAGES, OUTPUTS = 'images', ('boxes', 'scores', 'coefficients', 'prototypes')
MASKS, MASK_IOU = 'masks', 'mask_iou'


class OnnxEngine:
    """A network in ONNX Runtime, on the CPU. An `Engine`.

    Args:
        network, mask_iou_net: as `to_onnx` returns them.
        path: where they came from, for messages.
    Attributes:
        config: the network's `Config`.
        classes: the `Classes` that it tells apart.
    Raises:
        UserError: they are damaged or not ours.
    """
    config: Config
    classes: Classes

    def __init__(self, network: bytes, mask_iou_net: bytes | None, path: str | Path) -> None:
        keep_memory()
        try:
            self._network = open_session(network)
            self._mask_iou_net = open_session(mask_iou_net) if mask_iou_net else None
            metadata = self._network.get_modelmeta().custom_metadata_map
            if self._mask_iou_net and self._mask_iou_net.get_modelmeta().custom_metadata_map != metadata:
                raise UserError(f'{path}: is of other weights than the mask-IoU net beside it; export both again')
            self.config = Config(**json.loads(metadata['config']))
            self.classes = Classes(**json.loads(metadata['classes']))
        except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
            raise UserError(f'{path}: not as export.py wrote it ({str(error)[:200]}); export it again') from None
        self._input = self._network.get_inputs()[0].name  # 'pictures' in files of earlier versions
        self._check_shapes(path)

    def _check_shapes(self, path: str | Path) -> None:
        """The network is the one that its metadata describes, or arrays of other shapes would turn up far from here."""
        config, size, side = self.config, self.config.input_size, self.config.prototype_size
        inputs, outputs = ({value.name: value.shape[1:] for value in values}
                           for values in (self._network.get_inputs(), self._network.get_outputs()))
        if 'classes' in outputs:
            raise UserError(f'{path}: was exported --with_nms, for other programs; export it without, for these')
        if MASK_IOU in outputs:
            raise UserError(f'{path}: is the mask-IoU net of a network; name that one')
        anchors = config.anchors_per_cell * sum(level ** 2 for level in config.level_sizes)
        expected = {'boxes': [anchors, 4], 'scores': [anchors, config.num_classes],
                    'coefficients': [anchors, config.mask_dim], 'prototypes': [side, side, config.mask_dim]}
        wrong = [name for name, shape in expected.items() if outputs.get(name) != shape]
        if inputs != {self._input: [size, size, 3]}:
            wrong.append('inputs')
        if len(self.classes) + 1 != config.num_classes:
            wrong.append('classes')
        if wrong or (self._mask_iou_net is not None) != config.rescore_masks:
            problem = f'its {wrong[0]} are of another network' if wrong else 'the mask-IoU net is not beside it'
            raise UserError(f'{path}: not as export.py wrote it ({problem}); export it again')

    def predict(self, images: np.ndarray, score_threshold: float) -> list[tuple[np.ndarray, ...]]:
        """As of `Engine`, of all anchors."""
        return list(zip(*self._network.run(list(OUTPUTS), {self._input: images})))

    def mask_iou(self, masks: np.ndarray) -> np.ndarray:
        """As of `Engine`."""
        assert self._mask_iou_net is not None  # of a network that re-scores its masks
        return self._mask_iou_net.run([MASK_IOU], {MASKS: masks})[0]


def open_session(content: bytes) -> Any:
    """ONNX Runtime's session of a network, bytes, on all cores.

    Raises:
        EngineError: ONNX Runtime is not installed, or too old.
        ValueError: it does not take the network.
    """
    try:
        import onnxruntime
    except ImportError:
        raise EngineError("onnxruntime is not installed; pip install 'onnxruntime>=1.25'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    options.log_severity_level = 3  # it warns of what optimising takes away
    # Threads that wait by spinning are in the way of the other network's, and of what goes on beside.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.add_session_config_entry('session.set_denormal_as_zero', '1')
    try:
        return onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # of classes that it does not export
        if type(error).__name__ != 'NotImplemented':
            raise ValueError(str(error)) from None
        raise EngineError(f'onnxruntime {onnxruntime.__version__} has no deformable convolution for the CPU; '
                          f"pip install 'onnxruntime>=1.25'") from None
