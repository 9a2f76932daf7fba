"""Half precision, where it is safe and the device has it."""
from collections.abc import Callable
from typing import Any, Literal

import paddle

from system.errors import UserError

Dtype = Literal['float32', 'bfloat16', 'float16']
FLOAT32_OPERATORS = {'deformable_conv'}  # Paddle 2.6 has it in single precision only


def autocast_forward(dtype: Dtype, function: Callable[..., Any], *inputs: paddle.Tensor) -> Any:
    """A function of tensors, computed in a lower precision where that is safe, its outputs in float32.

    Args:
        dtype: 'float32', 'bfloat16' or 'float16'.
        function: returns a tuple of tensors and None, such as `Outputs`.
    Returns:
        What the function returns.
    """
    if dtype == 'float32':
        return function(*inputs)
    with paddle.amp.auto_cast(custom_black_list=FLOAT32_OPERATORS, dtype=dtype):
        outputs = function(*inputs)
    single = [output if output is None else output.astype('float32') for output in outputs]
    return outputs._make(single) if hasattr(outputs, '_make') else tuple(single)


def half_precision() -> Dtype:
    """The half precision that the device computes in: bfloat16 if it can, which has the range of float32, or float16.

    Raises:
        UserError: neither.
    """
    if paddle.get_device().startswith('gpu'):
        if paddle.amp.is_bfloat16_supported():
            return 'bfloat16'
        if paddle.amp.is_float16_supported():
            return 'float16'
    raise UserError(f'--amp=O1 needs a GPU with half precision, and this is {paddle.get_device()}; leave it out')
