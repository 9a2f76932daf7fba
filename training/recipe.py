"""How a run learns: the two recipes, and what flags and checkpoints change about them."""
import dataclasses
import math
from dataclasses import dataclass

WARMUP_STEPS, WARMUP_LR = 500, 1e-4  # as published; at most a tenth of a run, and none up to a rate of 1e-4
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
# Steps of 8 images, and those after which the learning rate falls to a tenth.
PUBLISHED_BATCH, PUBLISHED_STEPS, DECAY_STEPS = 8, 800_000, (280_000, 600_000, 700_000, 750_000)
FEW_IMAGES = 6  # a device that sees fewer at a time has no use for their batch statistics

SCHEDULES = ('steps', 'cosine', 'constant')
# And how the logits that each one trains become scores (`Config.scores`).
CONF_LOSSES = {'ce_loss': 'softmax', 'ohem_loss': 'softmax', 'focal_loss': 'sigmoid', 'ghm_c_loss': 'sigmoid'}
BOX_LOSSES = ('ciou', 'smooth_l1')
AUGMENTATIONS = ('full', 'light')
RANGES = {'lr': (0, math.inf), 'steps': (1, math.inf), 'batch_size': (1, math.inf), 'seed': (0, math.inf),
          'pos_threshold': (0, 1), 'neg_threshold': (0, 1), 'negpos_ratio': (1, math.inf), 'ema': (0, 1)}
WHOLE = ('steps', 'batch_size', 'seed', 'negpos_ratio')


@dataclass(frozen=True)
class Recipe:
    """How a run learns: all that makes two runs on the same data end alike.

    Attributes:
        lr: peak of the learning rate.
        lr_schedule: one of `SCHEDULES`.
        conf_loss: one of `CONF_LOSSES`.
        box_loss: one of `BOX_LOSSES`.
        steps: of the whole run.
        batch_size: images that each process sees in a step.
        seed: of the first weights, the order of images and their augmentation.
        augmentation: one of `AUGMENTATIONS`, see `data.augmentation`.
        pos_threshold, neg_threshold: IoU with an object from which an anchor is positive, and under which it is
            background.
        negpos_ratio: background anchors a positive, in 'ohem_loss'.
        freeze_bn: whether batch normalisation keeps the statistics and the scale that it has.
        ema: decay of averaged weights, 0 to less than 1, 0 for none.
    Raises:
        ValueError: a value is impossible.
    """
    lr: float
    lr_schedule: str
    conf_loss: str
    box_loss: str
    steps: int = 900_000
    batch_size: int = PUBLISHED_BATCH
    seed: int = 0
    augmentation: str = 'full'
    pos_threshold: float = 0.5
    neg_threshold: float = 0.4
    negpos_ratio: int = 3
    freeze_bn: bool = False
    ema: float = 0.0

    def __post_init__(self):
        for name, possible in (('lr_schedule', SCHEDULES), ('conf_loss', CONF_LOSSES), ('box_loss', BOX_LOSSES),
                               ('augmentation', AUGMENTATIONS), ('freeze_bn', (False, True))):
            if getattr(self, name) not in possible:
                raise ValueError(f'{name} is {getattr(self, name)!r}')
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            possible = type(value) is int or type(value) is float and name not in WHOLE
            if not possible or not least <= value <= most or value == math.inf or (name == 'ema' and value == 1):
                raise ValueError(f'{name} is {value!r}')


# https://arxiv.org/abs/1904.02689, section 6, with the losses of the public code.
PUBLISHED = Recipe(1e-3, 'steps', 'ohem_loss', 'smooth_l1')
# Converted weights reach 30.5 mask AP on test-dev after 30,000 steps of this one, with a batch of 8.
FINETUNING = Recipe(1e-4, 'constant', 'ce_loss', 'ciou')


def choose_recipe(given, earlier, finetuning, processes=1, pretrained=False):
    """The recipe of a run: what flags say, else what the run before did, else the one that suits.

    Args:
        given: dict of fields of `Recipe` that flags give.
        earlier: dict of those that the checkpoint's run had; empty where there is none.
        finetuning: whether the run goes on from a checkpoint.
        processes: how many there are.
        pretrained: whether batch normalisation has statistics worth keeping.
    Raises:
        ValueError: a value is impossible.
    """
    chosen = {**earlier, **given}
    try:
        recipe = dataclasses.replace(FINETUNING if finetuning else PUBLISHED, **chosen)
    except TypeError as error:
        raise ValueError(error) from None
    suitable = {'freeze_bn': pretrained and recipe.batch_size < FEW_IMAGES}
    if not finetuning:
        suitable['lr'] = recipe.lr * recipe.batch_size * processes / PUBLISHED_BATCH
    return dataclasses.replace(recipe, **{**suitable, **chosen})


def learning_rate(recipe, step, processes=1):
    """The learning rate of a step, from 0: a warm-up, then the schedule down from the peak.

    The published schedule shrinks with a run that is shorter than it, and where a step sees more images.

    Args:
        recipe: `Recipe`.
        step: which of the recipe's.
        processes: how many share a step.
    """
    steps, images = recipe.steps, recipe.batch_size * processes
    rate = recipe.lr
    if recipe.lr_schedule == 'steps':
        whole = PUBLISHED_STEPS * PUBLISHED_BATCH / images
        rate *= 0.1 ** sum(step * PUBLISHED_STEPS >= decay * min(steps, whole) for decay in DECAY_STEPS)
    elif recipe.lr_schedule == 'cosine':
        rate *= (1 + math.cos(math.pi * step / steps)) / 2
    warmup = max(min(WARMUP_STEPS, steps // 10), 1)
    return min(rate, WARMUP_LR + max(recipe.lr - WARMUP_LR, 0) * step / warmup)
