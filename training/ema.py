"""Exponential moving average (EMA) of the weights, which often predicts better than the weights themselves."""
import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import paddle


class EMA:
    """The exponential moving average of a network's parameters and batch norm statistics.

    The decay is lower in early steps, at most step / (step + 9), so that the initial weights are forgotten quickly.

    Args:
        network: `Yolact`.
        decay: weight of the average so far in each update, from 0 to less than 1.
        values: arrays by name, to continue an average; None starts with the network's own weights.
    """

    def __init__(self, network: paddle.nn.Layer, decay: float, values: Mapping[str, np.ndarray] | None = None) -> None:
        self.network, self.decay = network, decay
        self.values = {name: paddle.to_tensor(values[name]) if values else value.clone().detach()
                       for name, value in network.state_dict().items()}

    @paddle.no_grad()
    def update(self, step: int) -> None:
        """Average in the weights after a step, from 1."""
        decay = min(self.decay, step / (step + 9))
        for name, value in self.network.state_dict().items():
            self.values[name] = self.values[name] * decay + value.detach() * (1 - decay)

    def arrays(self) -> dict[str, np.ndarray]:
        """The averages by name."""
        return {name: value.numpy() for name, value in self.values.items()}

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the network the averages for a while, for an evaluation."""
        state = self.network.state_dict()
        weights = {name: value.clone().detach() for name, value in state.items()}
        try:
            for name, value in state.items():
                value.set_value(self.values[name])
            yield
        finally:
            for name, value in state.items():
                value.set_value(weights[name])
