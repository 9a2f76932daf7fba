"""Half precision, where it is safe and the device has it."""
import paddle

from system.errors import UserError

IN_SINGLE = {'deformable_conv'}  # Paddle 2.6 has it in single precision only


def forward_in(dtype, function, *inputs):
    """What a function makes of tensors: computed in a precision where that is safe, handed on in single precision.

    Args:
        dtype: 'float32', 'bfloat16' or 'float16'.
        function: returns a tuple of tensors and None, such as `Outputs`.
    """
    if dtype == 'float32':
        return function(*inputs)
    with paddle.amp.auto_cast(custom_black_list=IN_SINGLE, dtype=dtype):
        outputs = function(*inputs)
    single = [output if output is None else output.astype('float32') for output in outputs]
    return outputs._make(single) if hasattr(outputs, '_make') else tuple(single)


def half_precision():
    """The half precision that the device computes in: bfloat16 if it can, which has the range of float32, or float16.

    Raises:
        UserError: neither.
    """
    if paddle.get_device().startswith('gpu'):
        for dtype, supported in (('bfloat16', paddle.amp.is_bfloat16_supported),
                                 ('float16', paddle.amp.is_float16_supported)):
            if supported():
                return dtype
    raise UserError(f'--amp=O1 needs a GPU with half precision, and this is {paddle.get_device()}; leave it out')
