"""An ONNX graph under construction: nodes, constants, and at last the file. It needs no Paddle."""
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto, ValueInfoProto

Value = str | float | Sequence[int] | np.ndarray  # a tensor by its name, or a constant

OPSET = 19  # the first with DeformConv
IR_VERSION = 9  # of the file, which ONNX 1.14 brought with that opset
BATCH = 'n'  # the first dimension of inputs and outputs, which may have any size


class Graph:
    """A graph that grows node by node. Its tensors are known by their names."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []

    def input(self, name: str, *shape: int) -> str:
        """Declare an input, float32 [n, *shape]. Returns its name."""
        self._inputs.append(_described(name, 'float32', shape))
        return name

    def output(self, name: str, value: str, *shape: int, dtype: str = 'float32') -> None:
        """Make a tensor [n, *shape] an output of the network, by a name of its own."""
        from onnx import helper
        self._nodes.append(helper.make_node('Identity', [value], [name]))
        self._outputs.append(_described(name, dtype, shape))

    def node(self, operator: str, *inputs: Value, **attributes: Any) -> str:
        """Apply an operator of ONNX (https://onnx.ai/onnx/operators). Returns the name of its output."""
        return self.nodes(1, operator, *inputs, **attributes)[0]

    def nodes(self, count: int, operator: str, *inputs: Value, **attributes: Any) -> list[str]:
        """Apply an operator that has several outputs. Returns their names."""
        from onnx import helper
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        outputs = [f'{operator}.{len(self._nodes)}.{i}' for i in range(count)]
        self._nodes.append(helper.make_node(operator, names, outputs, **attributes))
        return outputs

    def constant(self, value: float | Sequence[int] | np.ndarray, name: str = '') -> str:
        """A constant: float32 from a number or an array of floats, else int64. Returns its name.

        Args:
            value: what it holds.
            name: under which it is kept once, however often it is asked for; by default one of its own.
        """
        from onnx import numpy_helper
        name = name or f'constant.{len(self._constants)}'
        if name not in self._constants:
            array = np.asarray(value)
            dtype = {'f': np.float32, 'i': np.int64}.get(array.dtype.kind, array.dtype)
            array = np.ascontiguousarray(array, dtype).reshape(array.shape)  # which a scalar loses
            self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def file(self, name: str, metadata: Mapping[str, str]) -> bytes:
        """The content of an ONNX file.

        Args:
            name: of the network.
            metadata: text by name.
        """
        from onnx import helper
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, list(self._constants.values()))
        model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid('', OPSET)])
        helper.set_model_props(model, dict(metadata))
        return model.SerializeToString()


def _described(name: str, dtype: str, shape: Sequence[int]) -> 'ValueInfoProto':
    from onnx import helper
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, element, [BATCH, *shape])
