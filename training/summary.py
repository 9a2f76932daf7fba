"""What a run is, in the few lines that it starts with."""
import paddle

from model.checkpoint import Checkpoint
from system.messages import one_line, pluralize
from training.recipe import Recipe
from training.run import Run

OPTIMIZER_NAMES = {'sgd': 'SGD', 'adamw': 'AdamW'}


def describe_run(run: Run, recipe_name: str, weights: str | None, checkpoint: Checkpoint | None) -> list[str]:
    """Network, device and weights; the recipe; and, unless the run is new, where it goes on.

    Args:
        run: `Run`.
        recipe_name: of the recipe, as far as the checkpoint has none.
        weights: folder that the weights came from; None for random ones.
        checkpoint: `Checkpoint` that is resumed; None for a new run.
    """
    config = run.network.config
    devices = paddle.get_device() if run.world_size == 1 else f'{paddle.get_device()}, {run.world_size} processes'
    lines = [f'{config.backbone_name} at {config.input_size} pixels on {devices}{_precision(run)}; '
             + (f'weights from {one_line(weights)}' if weights else 'random weights'),
             f'recipe {"of the checkpoint" if checkpoint and checkpoint.recipe else recipe_name}: '
             f'{describe_recipe(run.recipe)}']
    if checkpoint or run.start:
        lines.append(describe_start(run, resumed=checkpoint is not None and checkpoint.step is not None))
    return lines


def describe_recipe(recipe: Recipe) -> str:
    """How long a run trains, and how, in a line."""
    length = f'{recipe.minutes:g} minutes' if recipe.minutes else pluralize(recipe.steps, 'step')
    return (f'{length} of {pluralize(recipe.batch_size, "image")} a step, {OPTIMIZER_NAMES[recipe.optimizer]} at '
            f'{recipe.lr:g} ({recipe.lr_schedule}), {recipe.augmentation} augmentation, {recipe.conf_loss}, '
            f'{recipe.box_loss}')


def describe_start(run: Run, resumed: bool) -> str:
    """The step at which a run goes on, of how many; or the minutes, where these are what it is given."""
    verb = 'resumed' if resumed else 'starts'
    if run.recipe.minutes:
        return f'{verb} at step {run.start}, after {run.seconds / 60:.1f} of {run.recipe.minutes:g} minutes'
    return f'{verb} at step {run.start} of {run.recipe.steps}'


def _precision(run: Run) -> str:
    return '' if run.precision.dtype == 'float32' else f' in {run.precision.dtype}'
