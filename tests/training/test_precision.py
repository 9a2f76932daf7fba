import numpy as np
import paddle
import pytest

from model.mixed_precision import half_precision
from model.yolact import Outputs
from system.errors import UserError
from training.precision import INITIAL_LOSS_SCALE, STEPS_TO_DOUBLE_SCALE, Precision


def parameter(value):
    result = paddle.create_parameter([1], 'float32')
    result.set_value(paddle.to_tensor([value]))
    return result


def test_gradients_do_not_depend_on_the_loss_scale():
    for dtype in ('float32', 'bfloat16', 'float16'):
        used, unused = parameter(0.3), parameter(0.3)
        Precision(dtype).backward((used ** 3).sum(), [used, unused])
        np.testing.assert_allclose(used.grad.numpy(), 3 * 0.3 ** 2, rtol=1e-6)
        assert unused.grad is None


@pytest.mark.filterwarnings('ignore:amp_guard')  # which changes nothing on a CPU
def test_a_gradient_that_would_vanish_in_float16_is_kept():
    def forward(images):
        return Outputs(*[(images * weight).astype('float16')] * 4, None)
    weight = parameter(1.0)
    precision = Precision('float16')
    outputs = precision.forward(forward, paddle.to_tensor([0.5]))
    assert [output.dtype for output in outputs[:4]] == [paddle.float32] * 4 and outputs.semantic is None
    precision.backward(outputs.offsets.sum() * 1e-8, [weight])  # float16 ends at 6e-8
    np.testing.assert_allclose(weight.grad.numpy(), 0.5e-8, rtol=1e-2)


def test_the_loss_scale_is_halved_by_an_overflow_and_doubled_by_many_finite_steps():
    precision = Precision('float16')
    assert precision.loss_scale == INITIAL_LOSS_SCALE
    precision.update_scale(False)
    precision.update_scale(False)
    assert precision.loss_scale == INITIAL_LOSS_SCALE / 4
    for _ in range(STEPS_TO_DOUBLE_SCALE - 1):
        precision.update_scale(True)
    assert precision.loss_scale == INITIAL_LOSS_SCALE / 4
    precision.update_scale(True)
    assert precision.loss_scale == INITIAL_LOSS_SCALE / 2
    precision.update_scale(True)
    precision.update_scale(False)
    assert precision.loss_scale == INITIAL_LOSS_SCALE / 4


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_dtypes_with_the_range_of_float32_need_no_loss_scale(dtype):
    precision = Precision(dtype)
    precision.update_scale(False)
    for _ in range(STEPS_TO_DOUBLE_SCALE):
        precision.update_scale(True)
    assert precision.loss_scale == 1


def test_a_cpu_cannot_train_in_half_precision():
    paddle.device.set_device('cpu')
    with pytest.raises(UserError, match='--amp=O1 needs a GPU with half precision, and this is cpu'):
        half_precision()
