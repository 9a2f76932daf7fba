"""The network, computed by ONNX Runtime, which is faster than Paddle on a CPU."""
import json

from engines.errors import EngineError
from model.classes import Classes
from model.config import Config
from system.cpu import cores, keep_memory
from system.errors import UserError

IMAGES, OUTPUTS = 'images', ('boxes', 'scores', 'coefficients', 'prototypes')
MASKS, MASK_IOU = 'masks', 'mask_iou'


class OnnxEngine:
    """A network in ONNX Runtime, on the CPU.

    Args:
        network, rescorer: bytes, as `to_onnx` returns them.
        path: where they came from, for messages.
    Attributes:
        config: the network's `Config`.
        classes: the `Classes` that it tells apart.
    Raises:
        UserError: they are damaged or not ours.
    """

    def __init__(self, network, rescorer, path):
        keep_memory()
        try:
            self._network = open_session(network)
            self._rescorer = rescorer and open_session(rescorer)
            about = self._network.get_modelmeta().custom_metadata_map
            if rescorer and self._rescorer.get_modelmeta().custom_metadata_map != about:
                raise ValueError(f'{path}: is of other weights than the file beside it that re-scores its masks; '
                                 'export both again')
            self.config, self.classes = (kind(**json.loads(about[name]))
                                         for kind, name in ((Config, 'config'), (Classes, 'classes')))
        except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
            message = str(error) if str(error).startswith(f'{path}: ') else (
                f'{path}: not as export.py wrote it ({error}); export it again')
            raise UserError(message) from None
        self._check_shapes(path, bool(rescorer))

    def _check_shapes(self, path, has_rescorer):
        """The network is the one that its description says, or arrays of other shapes would turn up far from here."""
        config, size = self.config, self.config.input_size
        found = {value.name: value.shape[1:] for value in (*self._network.get_inputs(), *self._network.get_outputs())}
        if 'classes' in found:
            raise UserError(f'{path}: was exported --with_nms, for other programs; export it without, for these')
        if MASK_IOU in found:
            raise UserError(f'{path}: re-scores the masks of a network; name that one')
        anchors, side = config.anchors_per_cell * sum(level ** 2 for level in config.level_sizes), config.prototype_size
        expected = {IMAGES: [size, size, 3], 'boxes': [anchors, 4], 'scores': [anchors, config.num_classes],
                    'coefficients': [anchors, config.mask_dim], 'prototypes': [side, side, config.mask_dim]}
        wrong = [name for name, shape in expected.items() if found.get(name) != shape]
        if len(self.classes) + 1 != config.num_classes:
            wrong.append('classes')
        if wrong or has_rescorer != config.rescore_masks:
            problem = f'its {wrong[0]} are of another network' if wrong else 'the net that re-scores is not beside it'
            raise UserError(f'{path}: not as export.py wrote it ({problem}); export it again')

    def predict(self, images, threshold):
        """As `PaddleEngine.predict`, but of all anchors."""
        return list(zip(*self._network.run(list(OUTPUTS), {IMAGES: images})))

    def mask_iou(self, masks):
        """As `PaddleEngine.mask_iou`."""
        return self._rescorer.run([MASK_IOU], {MASKS: masks})[0]


def open_session(content):
    """ONNX Runtime's session of a network, bytes, on all cores.

    Raises:
        EngineError: ONNX Runtime is not installed, or too old.
        ValueError: it does not take the network.
    """
    try:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as LacksOperator
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
    except LacksOperator:
        raise EngineError(f'onnxruntime {onnxruntime.__version__} has no deformable convolution for the CPU; '
                        f"pip install 'onnxruntime>=1.25'") from None
    except Exception as error:  # of classes that it does not name
        raise ValueError(str(error)) from None
