import numpy as np
import paddle
import pytest

from training.step import clip_gradients, gradient_norm


def parameters_with(gradients):
    parameters = [paddle.create_parameter([len(gradient)], 'float32') for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = paddle.to_tensor(gradient, 'float32')
    return [*parameters, paddle.create_parameter([2], 'float32')]  # the last one has no gradient


@pytest.mark.parametrize('max_norm, expected', [(10, [[3, 0], [0, 4, 0]]), (2.5, [[1.5, 0], [0, 2, 0]])])
def test_gradients_are_scaled_down_together(max_norm, expected):
    parameters = parameters_with([[3, 0], [0, 4, 0]])
    norm = gradient_norm(parameters)
    assert float(norm) == 5
    clip_gradients(parameters, norm, max_norm)
    for parameter, values in zip(parameters, expected):
        np.testing.assert_allclose(parameter.grad.numpy(), values, rtol=1e-6)
    assert parameters[-1].grad is None


def test_gradients_of_zero_stay():
    parameters = parameters_with([[0, 0]])
    clip_gradients(parameters, gradient_norm(parameters), 1)
    np.testing.assert_array_equal(parameters[0].grad.numpy(), [0, 0])


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_the_norm_is_not_finite_if_a_gradient_is_not(value):
    assert not np.isfinite(float(gradient_norm(parameters_with([[1, 2], [value]]))))
