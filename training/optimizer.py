"""The optimizer, and its state by parameter name."""
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from training.recipe import MOMENTUM, Recipe

if TYPE_CHECKING:
    import paddle

# Paddle's name of each array that an optimizer keeps of a parameter, and the suffix that it has in a checkpoint.
STATE_SUFFIXES: dict[str, dict[str, str]] = {
    'sgd': {'velocity_0': ''},
    'adamw': {'moment1_0': ':moment1', 'moment2_0': ':moment2', 'beta1_pow_acc_0': ':beta1_pow',
              'beta2_pow_acc_0': ':beta2_pow'},
}


def make_optimizer(network: 'paddle.nn.Layer', recipe: Recipe,
                   state: Mapping[str, np.ndarray] | None = None) -> 'paddle.optimizer.Optimizer':
    """SGD with momentum, or AdamW (https://arxiv.org/abs/1711.05101). The learning rate is set in each step.

    AdamW does not decay biases, nor the scales of batch norm.

    Args:
        network: `Yolact`.
        recipe: says which, and the weight decay.
        state: arrays by parameter name, as `optimizer_state` returns them, to resume with; None starts at zero.
    """
    import paddle
    if recipe.optimizer == 'adamw':
        decayed = {parameter.name for parameter in network.parameters() if parameter.ndim > 1}
        optimizer = paddle.optimizer.AdamW(1e-4, parameters=network.parameters(), weight_decay=recipe.weight_decay,
                                           apply_decay_param_fun=decayed.__contains__)
    else:
        optimizer = paddle.optimizer.Momentum(1e-4, MOMENTUM, network.parameters(),
                                              weight_decay=paddle.regularizer.L2Decay(recipe.weight_decay))
    if state:
        _restore(optimizer, network, recipe, state)
    return optimizer


def _restore(optimizer: 'paddle.optimizer.Optimizer', network: 'paddle.nn.Layer', recipe: Recipe,
             state: Mapping[str, np.ndarray]) -> None:
    import paddle
    optimizer.set_state_dict({key: paddle.to_tensor(state[name]) for name, key in _keys(network, recipe)
                              if name in state})
    suffix, *_ = STATE_SUFFIXES[recipe.optimizer].values()
    for name, parameter in network.named_parameters():
        if name + suffix in state:
            # Gradients are cleared to zero, and a parameter with a zero gradient still decays. One without a gradient,
            # as here at first, does not. In an undisturbed run it has had a gradient by now.
            parameter.grad = paddle.zeros_like(parameter)


def optimizer_state(optimizer: 'paddle.optimizer.Optimizer', network: 'paddle.nn.Layer',
                    recipe: Recipe) -> dict[str, np.ndarray]:
    """The state of each parameter that was trained, by parameter name and suffix (`STATE_SUFFIXES`)."""
    state = optimizer.state_dict()
    return {name: state[key].numpy() for name, key in _keys(network, recipe) if key in state}


def _keys(network: 'paddle.nn.Layer', recipe: Recipe) -> Iterator[tuple[str, str]]:
    """The name of each array in a checkpoint, and in the optimizer's state.

    Paddle numbers the parameters of a process through, so that its keys differ from run to run.
    """
    for name, parameter in network.named_parameters():
        for key, suffix in STATE_SUFFIXES[recipe.optimizer].items():
            yield name + suffix, f'{parameter.name}_{key}'
