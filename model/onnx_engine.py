"""The network, computed by ONNX Runtime, which is faster than Paddle on a CPU."""
import json

from model.checkpoint import CheckpointError
from model.classes import Classes
from model.config import Config
from model.cpu import cores, keep_memory

PICTURES, OUTPUTS = 'pictures', ('boxes', 'scores', 'coefficients', 'prototypes')
MASKS, MASK_IOU = 'masks', 'mask_iou'


class OnnxError(RuntimeError):
    """ONNX Runtime or the way to it is missing or too old. The message is one line for the user."""


class OnnxEngine:
    """A network in ONNX Runtime, on the CPU.

    Args:
        network, judge: bytes, as `to_onnx` returns them.
        path: where they came from, for messages.
    Attributes:
        config: the network's `Config`.
        classes: the `Classes` that it tells apart.
    Raises:
        CheckpointError: they are damaged or not ours.
    """

    def __init__(self, network, judge, path):
        keep_memory()
        try:
            self._network = open_session(network)
            self._judge = judge and open_session(judge)
            if [output.name for output in self._network.get_outputs()] != list(OUTPUTS):
                raise ValueError(f'it gives other things than {", ".join(OUTPUTS)}; those come without --with_nms')
            about = self._network.get_modelmeta().custom_metadata_map
            if judge and self._judge.get_modelmeta().custom_metadata_map != about:
                raise ValueError('the net beside it that re-scores masks belongs to another')
            self.config, self.classes = (kind(**json.loads(about[name]))
                                         for kind, name in ((Config, 'config'), (Classes, 'classes')))
            if self.config.rescore_masks and not judge:
                raise ValueError('the net that re-scores its masks is not beside it')
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f'{path}: not as export.py wrote it ({error}); export it again') from None

    def predict(self, pictures, threshold):
        """As `PaddleEngine.predict`, but of all anchors."""
        return list(zip(*self._network.run(list(OUTPUTS), {PICTURES: pictures})))

    def mask_iou(self, masks):
        """As `PaddleEngine.mask_iou`."""
        return self._judge.run([MASK_IOU], {MASKS: masks})[0]


def open_session(content):
    """ONNX Runtime's session of a network, bytes, on all cores.

    Raises:
        OnnxError: ONNX Runtime is not installed, or too old.
        ValueError: it does not take the network.
    """
    try:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as LacksOperator
    except ImportError:
        raise OnnxError("onnxruntime is not installed; pip install 'onnxruntime>=1.25'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    options.log_severity_level = 3  # it warns of what optimising takes away
    # Threads that wait by spinning are in the way of the other network's, and of what goes on beside.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.add_session_config_entry('session.set_denormal_as_zero', '1')
    try:
        return onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
    except LacksOperator:
        raise OnnxError(f'onnxruntime {onnxruntime.__version__} has no deformable convolution for the CPU; '
                        f"pip install 'onnxruntime>=1.25'") from None
    except Exception as error:  # of classes that it does not name
        raise ValueError(str(error)) from None
