"""The optimizer, and its velocity by parameter name."""
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from training.recipe import MOMENTUM, WEIGHT_DECAY

if TYPE_CHECKING:
    import paddle


def make_optimizer(network: 'paddle.nn.Layer',
                   velocity: Mapping[str, np.ndarray] | None = None) -> 'paddle.optimizer.Momentum':
    """SGD with momentum and weight decay, as published. The learning rate is set in each step.

    Args:
        network: `Yolact`.
        velocity: arrays by parameter name, as `velocity_of` returns them, to resume with; None starts at zero.
    """
    import paddle
    optimizer = paddle.optimizer.Momentum(1e-4, MOMENTUM, network.parameters(),
                                          weight_decay=paddle.regularizer.L2Decay(WEIGHT_DECAY))
    if velocity:
        keys = _velocity_keys(network)
        optimizer.set_state_dict({keys[name]: paddle.to_tensor(value) for name, value in velocity.items()})
    return optimizer


def velocity_of(optimizer: 'paddle.optimizer.Momentum', network: 'paddle.nn.Layer') -> dict[str, np.ndarray]:
    """The velocity of each parameter that was trained, by parameter name."""
    state = optimizer.state_dict()
    return {name: state[key].numpy() for name, key in _velocity_keys(network).items() if key in state}


def _velocity_keys(network: 'paddle.nn.Layer') -> dict[str, str]:
    """Paddle's key of each velocity in an optimizer's state, by parameter name.

    Paddle numbers the parameters of a process through, so that these keys differ from run to run.
    """
    return {name: f'{parameter.name}_velocity_0' for name, parameter in network.named_parameters()}
