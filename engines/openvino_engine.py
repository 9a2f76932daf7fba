"""The network in bfloat16 on a CPU that has it, computed by OpenVINO. ONNX Runtime has no such convolution."""
from pathlib import Path
from typing import Any

import numpy as np

from engines.onnx_engine import OUTPUTS, OnnxEngine
from system.cpu import cores
from system.errors import UserError


class OpenVinoEngine(OnnxEngine):
    """As `OnnxEngine`, but for the precision of the network. Re-scoring stays in single precision.

    Raises:
        UserError: OpenVINO is not installed, or the CPU has no bfloat16.
    """

    def __init__(self, network: bytes, mask_iou_net: bytes | None, path: str | Path) -> None:
        super().__init__(network, mask_iou_net, path)
        self._core, self._model = _core(), network
        self._requests: dict[int, Any] = {}  # by batch size
        if 'BF16' not in self._core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
            raise UserError('this CPU does not compute in bfloat16; leave --precision bf16 out')

    def predict(self, images: np.ndarray, score_threshold: float) -> list[tuple[np.ndarray, ...]]:
        """As `OnnxEngine.predict`."""
        request = self._requests.get(len(images)) or self._compile(images.shape)
        outputs = request.infer({self._input: images})
        return list(zip(*(np.array(outputs[name]) for name in OUTPUTS)))

    def _compile(self, shape: tuple[int, ...]) -> Any:
        """For batches of this size, as it takes longer for any size."""
        model = self._core.read_model(self._model)
        model.reshape({self._input: list(shape)})
        self._requests[shape[0]] = self._core.compile_model(model, 'CPU', {
            'INFERENCE_PRECISION_HINT': 'bf16', 'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_NUM_THREADS': cores()}).create_infer_request()
        return self._requests[shape[0]]


def _core() -> Any:
    try:
        import openvino
        from openvino.frontend.onnx import ConversionExtension
    except ImportError:
        raise UserError("--precision bf16 needs OpenVINO; pip install 'openvino>=2025.4'") from None
    core = openvino.Core()
    core.add_extension(ConversionExtension('DeformConv', _deform_conv))
    return core


def _deform_conv(node: Any) -> Any:
    """ONNX's operator, which OpenVINO has but does not know by this name."""
    from openvino import opset8
    x, kernel, offsets, bias, weights = (node.get_input(i) for i in range(5))
    top, left, bottom, right = node.get_attribute('pads')
    out = opset8.deformable_convolution(x, offsets, kernel, list(node.get_attribute('strides')), [top, left],
                                        [bottom, right], list(node.get_attribute('dilations')), mask=weights,
                                        bilinear_interpolation_pad=True)
    return opset8.add(out, opset8.reshape(bias, np.array([1, -1, 1, 1]), False)).outputs()
