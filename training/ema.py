"""Weights averaged over the steps of a run, which often predict better than the last ones."""
import contextlib

import paddle


class EMA:
    """The exponential moving average of a network's parameters and statistics.

    Early on it is short: step n weighs at least 9 in n + 9, or the first weights would linger.

    Args:
        network: `Yolact`.
        decay: how much of the average stays in a step, from 0 to less than 1.
        tensors: arrays by name that it has come to, to go on from; None starts at the network's own.
    """

    def __init__(self, network, decay, tensors=None):
        self.network, self.decay = network, decay
        self.values = {name: paddle.to_tensor(tensors[name]) if tensors else value.clone().detach()
                       for name, value in network.state_dict().items()}

    @paddle.no_grad()
    def update(self, step):
        """Take the weights after a step, from 1, into account."""
        decay = min(self.decay, step / (step + 9))
        for name, value in self.network.state_dict().items():
            self.values[name] = self.values[name] * decay + value.detach() * (1 - decay)

    def tensors(self):
        """Arrays by name."""
        return {name: value.numpy() for name, value in self.values.items()}

    @contextlib.contextmanager
    def in_place(self):
        """Lend the average to the network, for an evaluation."""
        state = self.network.state_dict()
        own = {name: value.clone().detach() for name, value in state.items()}
        try:
            for name, value in state.items():
                value.set_value(self.values[name])
            yield
        finally:
            for name, value in state.items():
                value.set_value(own[name])
