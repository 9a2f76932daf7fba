"""OpenVINO as an engine, for bfloat16 on a CPU that has it. ONNX Runtime has no convolution in bfloat16 for the CPU."""
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.onnx_engine import OUTPUTS, OnnxEngine, OnnxFiles
from system.cpu import cores
from system.errors import UserError

if TYPE_CHECKING:
    from openvino import Core, InferRequest, Output
    from openvino.frontend import NodeContext


class OpenVinoEngine(OnnxEngine):
    """As `OnnxEngine`, but the network computes in bfloat16. The mask-IoU net stays in float32, in ONNX Runtime.

    Raises:
        UserError: OpenVINO is not installed, or the CPU has no bfloat16.
    """

    def __init__(self, files: OnnxFiles, path: str | Path) -> None:
        super().__init__(files, path)
        self._content, self._core = files.network, _open_core()
        self._requests: dict[int, InferRequest] = {}  # by batch size
        if 'BF16' not in self._core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
            raise UserError('this CPU does not compute in bfloat16; leave --precision bf16 out')

    def predict(self, images: np.ndarray, score_threshold: float) -> list[tuple[np.ndarray, ...]]:
        """As of `Engine`, for all anchors."""
        if len(images) not in self._requests:
            self._requests[len(images)] = self._compile(images.shape)
        outputs = self._requests[len(images)].infer({self._input: images})
        return list(zip(*(np.array(outputs[name]) for name in OUTPUTS)))

    def _compile(self, shape: tuple[int, ...]) -> 'InferRequest':
        """The network compiled for one shape of images. Compiled for any batch size, it is slower."""
        model = self._core.read_model(self._content)
        model.reshape({self._input: list(shape)})
        options = {'INFERENCE_PRECISION_HINT': 'bf16', 'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_NUM_THREADS': cores()}
        return self._core.compile_model(model, 'CPU', options).create_infer_request()


def _open_core() -> 'Core':
    """OpenVINO, with support for ONNX's deformable convolution."""
    try:
        import openvino
        from openvino.frontend.onnx import ConversionExtension
    except ImportError:
        raise UserError("--precision bf16 needs OpenVINO; pip install 'openvino>=2025.4'") from None
    core = openvino.Core()
    core.add_extension(ConversionExtension('DeformConv', _deform_conv))
    return core


def _deform_conv(node: 'NodeContext') -> 'list[Output]':
    """ONNX's DeformConv in OpenVINO's operators. OpenVINO has the operator, but does not convert ONNX's to it."""
    from openvino import opset8
    x, kernel, offsets, bias, masks = (node.get_input(i) for i in range(5))
    top, left, bottom, right = node.get_attribute('pads')
    out = opset8.deformable_convolution(x, offsets, kernel, list(node.get_attribute('strides')), [top, left],
                                        [bottom, right], list(node.get_attribute('dilations')), mask=masks,
                                        bilinear_interpolation_pad=True)
    return opset8.add(out, opset8.reshape(bias, np.array([1, -1, 1, 1]), False)).outputs()
