"""Mixed precision: the forward pass in half precision, with loss scaling where gradients need it."""
from collections.abc import Callable, Iterable

import paddle

from model.mixed_precision import Dtype, autocast_forward
from model.yolact import Outputs

INITIAL_LOSS_SCALE = 2.0 ** 10
STEPS_TO_DOUBLE_SCALE = 2000


class Precision:
    """Single precision, or half precision in the forward pass where that is safe (https://arxiv.org/abs/1710.03740).

    Parameters, gradients and losses are always in single precision. In float16 small gradients would vanish in the
    backward pass, so the loss is scaled up and the gradients are scaled down again. Paddle's GradScaler would do that
    too, but it does nothing on a CPU, where this is tested.

    Args:
        dtype: 'float32', 'bfloat16' or 'float16', see `model.mixed_precision.half_precision`.
    Attributes:
        loss_scale: factor on the loss in the backward pass. In float16 it is doubled after many finite steps and
            halved when gradients overflow; otherwise it is 1.
    """

    def __init__(self, dtype: Dtype = 'float32') -> None:
        self.dtype = dtype
        self.loss_scale = INITIAL_LOSS_SCALE if dtype == 'float16' else 1.0
        self._finite_steps = 0

    def forward(self, network: Callable[[paddle.Tensor], Outputs], images: paddle.Tensor) -> Outputs:
        """The network's `Outputs`, converted to single precision."""
        return autocast_forward(self.dtype, network, images)

    def backward(self, loss: paddle.Tensor, parameters: Iterable[paddle.Tensor]) -> None:
        """Give parameters the gradients of a loss, unscaled."""
        (loss * self.loss_scale).backward()
        if self.loss_scale != 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad = parameter.grad / self.loss_scale

    def update_scale(self, finite: bool) -> None:
        """Choose the loss scale of the next step by whether losses and gradients of this one were finite."""
        if self.dtype == 'float16':
            self._finite_steps = self._finite_steps + 1 if finite else 0
            if not finite:
                self.loss_scale /= 2
            elif self._finite_steps % STEPS_TO_DOUBLE_SCALE == 0:
                self.loss_scale *= 2
