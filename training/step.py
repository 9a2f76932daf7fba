"""One training step."""
import math
from collections.abc import Iterable
from dataclasses import dataclass

import paddle

from data.loader import Batch
from model.losses import Targets
from model.yolact import Yolact
from system.distributed import all_reduce, all_reduce_gradients
from system.interruption import StopRequest
from training.recipe import learning_rate
from training.run import Run


@dataclass(frozen=True)
class StepResult:
    """What a step came to, the same in every process.

    Attributes:
        losses: weighted losses by name, over the images of all processes.
        gradient_norm: of all gradients together, before it is clipped.
        finite: whether losses and gradients were finite. Otherwise the step was skipped.
        stop_requested: whether any process is to stop.
    """
    losses: dict[str, float]
    gradient_norm: float
    finite: bool
    stop_requested: bool


def training_step(run: Run, batch: Batch, step: int, stop_request: StopRequest) -> StepResult:
    """Forward and backward pass, and the update of weights and EMA. A step that is not finite leaves both as they are.

    Args:
        run: `Run`.
        batch: this process's share of the images.
        step: number of the step, from 1.
        stop_request: `StopRequest` of this process.
    Raises:
        DistributedError: another process has ended.
    """
    network, parameters = run.network, run.network.parameters()
    run.optimizer.set_lr(learning_rate(run.recipe, step - 1, run.world_size, run.seconds))
    statistics = batch_norm_statistics(network)
    targets = targets_of(batch)
    positives = int(all_reduce(paddle.to_tensor(len(targets.positives))))
    outputs = run.precision.forward(network, paddle.to_tensor(batch.images))
    losses = run.criterion(network, outputs, targets, positives, run.recipe.batch_size * run.world_size)
    run.precision.backward(sum(losses.values(), start=paddle.zeros([])), parameters)
    all_reduce_gradients(parameters)
    # Every process learns what happened in any of them, and does the same.
    norm = gradient_norm(parameters)
    *values, gradients, stop_requested, run.seconds = all_reduce(paddle.stack([
        *(loss.detach() for loss in losses.values()), norm / run.world_size,
        paddle.to_tensor(float(stop_request.requested)),
        paddle.to_tensor(run.elapsed() / run.world_size)])).numpy().tolist()
    finite = math.isfinite(sum(values) + gradients)
    run.precision.update_scale(finite)
    if finite:
        if run.recipe.clip_norm:
            clip_gradients(parameters, norm, run.recipe.clip_norm)
        run.optimizer.step()
        if run.ema:
            run.ema.update(step)
    else:
        for value, before in statistics:
            paddle.assign(before, value)
    run.optimizer.clear_grad()
    return StepResult(dict(zip(losses, values)), gradients, finite, stop_requested > 0)


def targets_of(batch: Batch) -> Targets:
    """A batch's targets, on the device."""
    to, assigned = paddle.to_tensor, batch.assignment
    return Targets(to(assigned.labels), to(batch.boxes), to(batch.classes), to(batch.masks), to(batch.semantic),
                   to(assigned.positives), to(assigned.matched), [to(rows) for rows in assigned.masked],
                   to(assigned.mask_weights))


def batch_norm_statistics(network: Yolact) -> list[tuple[paddle.Tensor, paddle.Tensor]]:
    """The batch norm statistics, which the forward pass updates, each with a copy to restore it from."""
    return [(value, value.clone()) for value in network.parameters() if value.stop_gradient]


def gradient_norm(parameters: Iterable[paddle.Tensor]) -> paddle.Tensor:
    """The Euclidean norm of all gradients together, float32 []. It is finite only if all gradients are."""
    return paddle.add_n([parameter.grad.square().sum() for parameter in parameters
                         if parameter.grad is not None]).sqrt()


def clip_gradients(parameters: Iterable[paddle.Tensor], norm: paddle.Tensor, max_norm: float) -> None:
    """Scale all gradients down so that their norm together is at most a maximum.

    Args:
        parameters: of the network.
        norm: as of `gradient_norm`.
        max_norm: the maximum.
    """
    factor = paddle.clip(max_norm / norm, max=1)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = parameter.grad * factor
