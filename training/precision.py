"""The numbers that a step is computed in."""

from model.mixed_precision import forward_in

FIRST_SCALE, STEPS_TO_DOUBLE = 2.0 ** 10, 2000


class Precision:
    """Single precision, or half precision in the forward pass where that is safe (https://arxiv.org/abs/1710.03740).

    Parameters, their gradients and the losses are in single precision always. Small gradients vanish in float16, so
    they are scaled up on their way. Not by Paddle's GradScaler, which does nothing on a CPU, where this is tested.

    Args:
        dtype: 'float32', 'bfloat16' or 'float16', see `model.mixed_precision.half_precision`.
    Attributes:
        scale: what gradients are multiplied by in the backward pass: doubled after many good steps, halved when they
            overflow; 1 but for float16.
    """

    def __init__(self, dtype='float32'):
        self.dtype = dtype
        self.scale = FIRST_SCALE if dtype == 'float16' else 1.0
        self.good_steps = 0

    def forward(self, network, images):
        """The network's `Outputs` in single precision, whatever it computed in."""
        return forward_in(self.dtype, network, images)

    def backward(self, loss, parameters):
        """Give parameters the gradients of a loss."""
        (loss * self.scale).backward()
        if self.scale != 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad = parameter.grad / self.scale

    def adapt(self, finite):
        """Choose the scale of the next step by whether the gradients of this one were finite."""
        if self.dtype == 'float16':
            self.good_steps = self.good_steps + 1 if finite else 0
            if not finite:
                self.scale /= 2
            elif self.good_steps % STEPS_TO_DOUBLE == 0:
                self.scale *= 2
