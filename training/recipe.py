"""How a run learns: the recipes by name, and what flags and checkpoints change about them."""
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data.augmentation import AUGMENTATIONS, CHANGEABLE
from model.loss_names import BOX_LOSSES, CLASS_LOSSES
from system.arguments import MAX_BATCH_SIZE, MAX_INT

MOMENTUM = 0.9  # of SGD
WARMUP_STEPS, WARMUP_LR = 500, 1e-4  # as published; shorter in short runs, and none up to a rate of 1e-4
TIMED_WARMUP_STEPS = 100  # of a run whose number of steps is not known
# Steps of 8 images, and those after which the learning rate falls to a tenth.
PUBLISHED_BATCH_SIZE, PUBLISHED_STEPS, LR_DECAY_STEPS = 8, 800_000, (280_000, 600_000, 700_000, 750_000)
MIN_BATCH_NORM_IMAGES = 6  # the batch norm statistics of fewer images per device are too poor to train with

LR_SCHEDULES = ('steps', 'cosine', 'constant')
MOSAIC_SHARE = 0.9  # of a run; it ends on images as they are predicted (https://arxiv.org/abs/2107.08430, section 2.1)
OPTIMIZERS = ('sgd', 'adamw')
FIELD_CHOICES = {'lr_schedule': LR_SCHEDULES, 'conf_loss': CLASS_LOSSES, 'box_loss': BOX_LOSSES,
                 'augmentation': AUGMENTATIONS, 'freeze_bn': (False, True), 'balance_classes': (False, True),
                 'vertical_flip': (None, False, True), 'quarter_turns': (None, False, True),
                 'optimizer': OPTIMIZERS}
FIELD_RANGES = {'lr': (1e-300, math.inf), 'steps': (1, MAX_INT), 'batch_size': (1, MAX_BATCH_SIZE),
                'seed': (0, MAX_INT),
                'pos_threshold': (0, 1), 'neg_threshold': (0, 1), 'negpos_ratio': (1, MAX_INT), 'ema': (0, 1),
                'minutes': (0, math.inf), 'weight_decay': (0, 1), 'clip_norm': (0, math.inf),
                'box_weight': (0, math.inf), 'scale_jitter': (0, math.inf), 'rotation': (0, math.inf), 'mosaic': (0, 1),
                'copy_paste': (0, 1)}
INTEGER_FIELDS = ('steps', 'batch_size', 'seed', 'negpos_ratio')


@dataclass(frozen=True)
class Recipe:
    """How a run learns: all that makes two runs on the same data end with the same weights.

    Attributes:
        lr: peak of the learning rate.
        lr_schedule: one of `LR_SCHEDULES`.
        conf_loss: one of `CLASS_LOSSES`.
        box_loss: one of `BOX_LOSSES`.
        steps: of the whole run, unless it is given minutes.
        minutes: of the whole run, evaluations included, at the end of which the schedule ends; 0 for a run of `steps`.
        batch_size: images per step and process.
        seed: of the initial weights, the order of images and their augmentation.
        augmentation: one of `AUGMENTATIONS`, see `data.augmentation.Augmentation`.
        scale_jitter, rotation, vertical_flip, quarter_turns, mosaic, copy_paste: other values for fields of it; None
            for its own.
        pos_threshold: IoU with a ground truth box from which an anchor is positive.
        neg_threshold: IoU below which an anchor is background.
        negpos_ratio: background anchors per positive anchor, in 'ohem_loss'.
        freeze_bn: whether batch norm keeps its statistics, scale and shift.
        ema: decay of the EMA of the weights, from 0 to less than 1; 0 for no EMA.
        optimizer: one of `OPTIMIZERS`: SGD with momentum, or AdamW.
        weight_decay: of the optimizer.
        clip_norm: norm to which longer gradients of all parameters together are scaled down; 0 for any norm.
        box_weight: weight of the box loss.
        balance_classes: whether the anchors of rare classes weigh more in the class loss.
    Raises:
        ValueError: a value is impossible.
    """
    lr: float
    lr_schedule: str
    conf_loss: str
    box_loss: str
    steps: int = 900_000
    minutes: float = 0.0
    batch_size: int = PUBLISHED_BATCH_SIZE
    seed: int = 0
    augmentation: str = 'full'
    pos_threshold: float = 0.5
    neg_threshold: float = 0.4
    negpos_ratio: int = 3
    freeze_bn: bool = False
    ema: float = 0.0
    optimizer: str = 'sgd'
    weight_decay: float = 5e-4
    clip_norm: float = 0.0
    box_weight: float = 1.5
    balance_classes: bool = False
    scale_jitter: float | None = None
    rotation: float | None = None
    vertical_flip: bool | None = None
    quarter_turns: bool | None = None
    mosaic: float | None = None
    copy_paste: float | None = None

    def __post_init__(self) -> None:
        for name, choices in FIELD_CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f'{name} is {getattr(self, name)!r}')
        for name, (minimum, maximum) in FIELD_RANGES.items():
            value = getattr(self, name)
            if value is None and name in CHANGEABLE:
                continue
            is_number = type(value) is int or type(value) is float and name not in INTEGER_FIELDS
            if not is_number or not minimum <= value <= maximum or value == math.inf or (name == 'ema' and value == 1):
                raise ValueError(f'{name} is {value!r}')


# https://arxiv.org/abs/1904.02689, section 6, with the losses of the public code.
PUBLISHED = Recipe(1e-3, 'steps', 'ohem_loss', 'smooth_l1')
# Converted weights reach 30.5 mask AP on test-dev after 30,000 steps of this one, with a batch size of 8.
FINETUNING = Recipe(1e-4, 'constant', 'ce_loss', 'ciou')
# For small datasets and short runs; docs/experiments.md has what was compared.
OWN_DATA = Recipe(1e-3, 'cosine', 'ce_loss', 'ciou', batch_size=4, augmentation='light', ema=0.998, optimizer='adamw',
                  weight_decay=0.01, clip_norm=10.0, box_weight=5.0)
RECIPES = {'published': PUBLISHED, 'finetuning': FINETUNING, 'own_data': OWN_DATA}


def choose_recipe(flags: Mapping[str, Any], checkpoint_recipe: Mapping[str, Any], name: str,
                  world_size: int = 1, pretrained: bool = False) -> Recipe:
    """The recipe of a run. Flags come first, then the recipe of the checkpoint, then the recipe of that name.

    Args:
        flags: fields of `Recipe` that flags give, by name.
        checkpoint_recipe: fields that the checkpoint's run had, by name; empty where there is none.
        name: a key of `RECIPES`.
        world_size: number of processes.
        pretrained: whether batch norm starts with trained statistics.
    Raises:
        ValueError: a value is impossible, or there is no such field.
    """
    chosen = {**checkpoint_recipe, **flags}
    try:
        recipe = dataclasses.replace(RECIPES[name], **chosen)
    except TypeError as error:
        raise ValueError(error) from None
    defaults: dict[str, Any] = {}
    if name != 'own_data':  # which learns another kind of image than that of the statistics
        defaults['freeze_bn'] = pretrained and recipe.batch_size < MIN_BATCH_NORM_IMAGES
    if name == 'published':
        defaults['lr'] = recipe.lr * recipe.batch_size * world_size / PUBLISHED_BATCH_SIZE
    return dataclasses.replace(recipe, **{**defaults, **chosen})


def progress(recipe: Recipe, step: int, seconds: float = 0.0) -> float:
    """The share of a run that is done, 0 to 1 (more where it ended late), after so many steps and seconds."""
    return seconds / (60 * recipe.minutes) if recipe.minutes else step / recipe.steps


def has_mosaics(recipe: Recipe, step: int, seconds: float = 0.0) -> bool:
    """Whether the batch of a step, from 0, may have mosaics, of a run that has trained so many seconds."""
    return progress(recipe, step, seconds) < MOSAIC_SHARE


def learning_rate(recipe: Recipe, step: int, world_size: int = 1, seconds: float = 0.0) -> float:
    """The learning rate of a step, from 0: a warm-up, then the schedule down from the peak.

    The published schedule is one of images: it shrinks where a step takes more of them. It also shrinks to fit a run
    that is shorter.

    Args:
        recipe: `Recipe`.
        step: number of the step, from 0.
        world_size: number of processes, each of which adds its images to a step.
        seconds: that the run has trained.
    """
    rate = recipe.lr
    if recipe.lr_schedule == 'steps':
        published_length = PUBLISHED_STEPS * PUBLISHED_BATCH_SIZE / (recipe.batch_size * world_size)
        length = published_length if recipe.minutes else min(recipe.steps, published_length)
        rate *= 0.1 ** sum(step * PUBLISHED_STEPS >= decay_step * length for decay_step in LR_DECAY_STEPS)
    elif recipe.lr_schedule == 'cosine':
        rate *= (1 + math.cos(math.pi * min(progress(recipe, step, seconds), 1))) / 2
    warmup = TIMED_WARMUP_STEPS if recipe.minutes else max(min(WARMUP_STEPS, recipe.steps // 10), 1)
    return min(rate, WARMUP_LR + max(recipe.lr - WARMUP_LR, 0) * step / warmup)
