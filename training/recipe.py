"""How a run learns: the two recipes, and what flags and checkpoints change about them."""
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.loss_names import BOX_LOSSES, CLASS_LOSSES

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
WARMUP_STEPS, WARMUP_LR = 500, 1e-4  # as published; shorter in short runs, and none up to a rate of 1e-4
# Steps of 8 images, and those after which the learning rate falls to a tenth.
PUBLISHED_BATCH_SIZE, PUBLISHED_STEPS, LR_DECAY_STEPS = 8, 800_000, (280_000, 600_000, 700_000, 750_000)
MIN_BATCH_NORM_IMAGES = 6  # the batch norm statistics of fewer images per device are too poor to train with

LR_SCHEDULES = ('steps', 'cosine', 'constant')
AUGMENTATIONS = ('full', 'light')
FIELD_CHOICES = {'lr_schedule': LR_SCHEDULES, 'conf_loss': CLASS_LOSSES, 'box_loss': BOX_LOSSES,
                 'augmentation': AUGMENTATIONS, 'freeze_bn': (False, True)}
FIELD_RANGES = {'lr': (0, math.inf), 'steps': (1, math.inf), 'batch_size': (1, math.inf), 'seed': (0, math.inf),
                'pos_threshold': (0, 1), 'neg_threshold': (0, 1), 'negpos_ratio': (1, math.inf), 'ema': (0, 1)}
INTEGER_FIELDS = ('steps', 'batch_size', 'seed', 'negpos_ratio')


@dataclass(frozen=True)
class Recipe:
    """How a run learns: all that makes two runs on the same data end with the same weights.

    Attributes:
        lr: peak of the learning rate.
        lr_schedule: one of `LR_SCHEDULES`.
        conf_loss: one of `CLASS_LOSSES`.
        box_loss: one of `BOX_LOSSES`.
        steps: of the whole run.
        batch_size: images per step and process.
        seed: of the initial weights, the order of images and their augmentation.
        augmentation: one of `AUGMENTATIONS`, see `data.augmentation`.
        pos_threshold: IoU with a ground truth box from which an anchor is positive.
        neg_threshold: IoU below which an anchor is background.
        negpos_ratio: background anchors per positive anchor, in 'ohem_loss'.
        freeze_bn: whether batch norm keeps its statistics, scale and shift.
        ema: decay of the EMA of the weights, from 0 to less than 1; 0 for no EMA.
    Raises:
        ValueError: a value is impossible.
    """
    lr: float
    lr_schedule: str
    conf_loss: str
    box_loss: str
    steps: int = 900_000
    batch_size: int = PUBLISHED_BATCH_SIZE
    seed: int = 0
    augmentation: str = 'full'
    pos_threshold: float = 0.5
    neg_threshold: float = 0.4
    negpos_ratio: int = 3
    freeze_bn: bool = False
    ema: float = 0.0

    def __post_init__(self) -> None:
        for name, choices in FIELD_CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f'{name} is {getattr(self, name)!r}')
        for name, (minimum, maximum) in FIELD_RANGES.items():
            value = getattr(self, name)
            is_number = type(value) is int or type(value) is float and name not in INTEGER_FIELDS
            if not is_number or not minimum <= value <= maximum or value == math.inf or (name == 'ema' and value == 1):
                raise ValueError(f'{name} is {value!r}')


# https://arxiv.org/abs/1904.02689, section 6, with the losses of the public code.
PUBLISHED = Recipe(1e-3, 'steps', 'ohem_loss', 'smooth_l1')
# Converted weights reach 30.5 mask AP on test-dev after 30,000 steps of this one, with a batch size of 8.
FINETUNING = Recipe(1e-4, 'constant', 'ce_loss', 'ciou')


def choose_recipe(flags: Mapping[str, Any], checkpoint_recipe: Mapping[str, Any], finetuning: bool,
                  world_size: int = 1, pretrained: bool = False) -> Recipe:
    """The recipe of a run. Flags come first, then the recipe of the checkpoint, then the default for this kind of run.

    Args:
        flags: fields of `Recipe` that flags give, by name.
        checkpoint_recipe: fields that the checkpoint's run had, by name; empty where there is none.
        finetuning: whether the run resumes a checkpoint.
        world_size: number of processes.
        pretrained: whether batch norm starts with trained statistics.
    Raises:
        ValueError: a value is impossible, or there is no such field.
    """
    chosen = {**checkpoint_recipe, **flags}
    try:
        recipe = dataclasses.replace(FINETUNING if finetuning else PUBLISHED, **chosen)
    except TypeError as error:
        raise ValueError(error) from None
    defaults: dict[str, Any] = {'freeze_bn': pretrained and recipe.batch_size < MIN_BATCH_NORM_IMAGES}
    if not finetuning:
        defaults['lr'] = recipe.lr * recipe.batch_size * world_size / PUBLISHED_BATCH_SIZE
    return dataclasses.replace(recipe, **{**defaults, **chosen})


def learning_rate(recipe: Recipe, step: int, world_size: int = 1) -> float:
    """The learning rate of a step, from 0: a warm-up, then the schedule down from the peak.

    The published schedule is one of images: it shrinks where a step takes more of them. It also shrinks to fit a run
    that is shorter.

    Args:
        recipe: `Recipe`.
        step: number of the step, from 0.
        world_size: number of processes, each of which adds its images to a step.
    """
    rate = recipe.lr
    if recipe.lr_schedule == 'steps':
        published_length = PUBLISHED_STEPS * PUBLISHED_BATCH_SIZE / (recipe.batch_size * world_size)
        length = min(recipe.steps, published_length)
        rate *= 0.1 ** sum(step * PUBLISHED_STEPS >= decay_step * length for decay_step in LR_DECAY_STEPS)
    elif recipe.lr_schedule == 'cosine':
        rate *= (1 + math.cos(math.pi * step / recipe.steps)) / 2
    warmup = max(min(WARMUP_STEPS, recipe.steps // 10), 1)
    return min(rate, WARMUP_LR + max(recipe.lr - WARMUP_LR, 0) * step / warmup)
