"""Optimizers that are resumed go on to the bit, and are those of the papers."""
import dataclasses

import numpy as np
import paddle
import pytest
from paddle import nn

from training.optimizer import make_optimizer, optimizer_state
from training.recipe import OWN_DATA, PUBLISHED


class TwoBranches(nn.Layer):
    """Only one of its layers takes part in a step, like the mask-IoU net in a batch without large objects."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.sometimes = nn.Linear(3, 2), nn.Linear(3, 2)

    def loss(self, step):
        x = paddle.to_tensor(np.random.default_rng(step).normal(size=(4, 3)), 'float32')
        loss = self.always(x).square().mean()
        return loss + self.sometimes(x).square().mean() if step in (1, 4) else loss


def train(network, optimizer, steps):
    for step in steps:
        network.loss(step).backward()
        optimizer.set_lr(0.1)
        optimizer.step()
        optimizer.clear_grad()


def values(network):
    return {name: value.numpy() for name, value in network.state_dict().items()}


@pytest.mark.parametrize('recipe', [PUBLISHED, OWN_DATA], ids=['sgd', 'adamw'])
@pytest.mark.parametrize('resumed_at', range(1, 6))
def test_a_resumed_optimizer_goes_on_to_the_bit(recipe, resumed_at):
    """Also where the first step after it leaves a parameter without gradient, which then still decays."""
    paddle.seed(0)
    network = TwoBranches()
    optimizer = make_optimizer(network, recipe)
    train(network, optimizer, range(resumed_at))
    weights = {name: value.copy() for name, value in values(network).items()}
    state = {name: value.copy() for name, value in optimizer_state(optimizer, network, recipe).items()}
    train(network, optimizer, range(resumed_at, 6))

    again = TwoBranches()
    again.set_state_dict(weights)
    resumed = make_optimizer(again, recipe, state)
    train(again, resumed, range(resumed_at, 6))
    for name, value in values(network).items():
        np.testing.assert_array_equal(values(again)[name], value, name)
    expected, found = optimizer_state(optimizer, network, recipe), optimizer_state(resumed, again, recipe)
    assert expected.keys() == found.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], name)


def test_a_parameter_that_never_had_a_gradient_has_no_state():
    network = TwoBranches()
    optimizer = make_optimizer(network, PUBLISHED)
    train(network, optimizer, [0])
    assert optimizer_state(optimizer, network, PUBLISHED).keys() == {'always.weight', 'always.bias'}


def test_adamw_by_its_definition():
    """Algorithm 2 of the paper, and no decay of biases."""
    recipe = dataclasses.replace(OWN_DATA, weight_decay=0.5)
    paddle.seed(1)
    network = TwoBranches()
    expected = values(network)['always.weight'].astype(np.float64), values(network)['always.bias'].astype(np.float64)
    optimizer = make_optimizer(network, recipe)
    moments = [np.zeros_like(value) for value in expected * 2]
    for step in range(3):
        network.loss(step=0).backward()
        optimizer.set_lr(0.1)
        gradients = [parameter.grad.numpy().astype(np.float64) for parameter in network.always.parameters()]
        optimizer.step()
        optimizer.clear_grad()
        new = []
        for i, (value, gradient, decay) in enumerate(zip(expected, gradients, (0.5, 0))):
            moments[i] = 0.9 * moments[i] + 0.1 * gradient
            moments[2 + i] = 0.999 * moments[2 + i] + 0.001 * gradient ** 2
            first, second = moments[i] / (1 - 0.9 ** (step + 1)), moments[2 + i] / (1 - 0.999 ** (step + 1))
            new.append(value - 0.1 * (first / (np.sqrt(second) + 1e-8) + decay * value))
        expected = tuple(new)
    np.testing.assert_allclose(values(network)['always.weight'], expected[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(values(network)['always.bias'], expected[1], rtol=1e-4, atol=1e-6)
