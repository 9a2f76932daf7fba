"""Starts a training run: a new one, or one that resumes a checkpoint."""
import argparse
import dataclasses
import math
import uuid
from pathlib import Path

import numpy as np
import paddle

from data.augmentation import choose_augmentation
from data.coco import CocoDataset
from data.loader import Batches
from model.checkpoint import Checkpoint, load_checkpoint, restore
from model.config import Config, preset
from model.loss_names import CLASS_LOSSES
from model.losses import Criterion
from model.mixed_precision import half_precision
from model.yolact import Yolact
from system.device import choose_device
from system.distributed import init_process_group
from system.errors import UserError
from system.messages import print_lines
from training.checkpoints import best_checkpoints
from training.ema import EMA
from training.log import Log, ScalarWriter
from training.optimizer import make_optimizer
from training.own_data import choose_for_own_data, fit_anchors_to
from training.precision import Precision
from training.recipe import Recipe, choose_recipe
from training.run import Run
from training.run_folder import LOG_NAME, check_save_dir
from training.summary import describe_run

WARNINGS_SHOWN = 3
CONFIG_FLAGS = ('backbone_name', 'input_size', 'mask_dim', 'anchor_sizes', 'aspect_ratios')


def open_dataset(annotations: str, images: str, allow_outside: bool = False) -> CocoDataset:
    """A dataset with annotations, and a few lines about it.

    Raises:
        UserError: it cannot be used.
    """
    dataset = CocoDataset(annotations, images, allow_outside)
    dataset.check_annotations()
    dataset.check_folder()
    print_lines(f'{annotations}: {len(dataset)} images, {len(dataset.classes)} classes')
    if dataset.warnings:
        print_lines(*dataset.warnings[:WARNINGS_SHOWN], f'annotations that are left out: {len(dataset.warnings)}; '
                    f'python -m tools.check {annotations} {images} --all lists them')
    return dataset


def start_run(args: argparse.Namespace, dataset: CocoDataset) -> Run:
    """The `Run` that the flags ask for.

    Raises:
        UserError: flags, dataset and checkpoint do not fit together.
        DistributedError: another process has ended.
    """
    choose_device(None if args.use_gpu is None else 'gpu' if args.use_gpu else 'cpu')
    precision = Precision('float32' if args.amp == 'O0' else half_precision())
    rank, world_size = init_process_group()
    if args.recipe == 'own_data':
        lines = choose_for_own_data(args, dataset, gpu=paddle.get_device() != 'cpu')
        print_lines(*lines if rank == 0 else ())
    checkpoint = open_checkpoint(args, dataset) if args.pattern == 1 else None
    other_run = check_save_dir(args.save_dir, args.model_path, checkpoint)
    recipe = recipe_of(args, checkpoint, world_size)
    if args.epochs:
        recipe = dataclasses.replace(recipe, minutes=0.0, steps=steps_of(args.epochs, dataset, recipe, world_size))
    start, seconds = first_step(args, checkpoint, recipe), checkpoint.seconds if checkpoint else 0.0
    network = build_network(args, dataset, checkpoint, recipe)
    optimizer = make_optimizer(network, recipe, checkpoint.optimizer_state if checkpoint else None)
    ema = EMA(network, recipe.ema, checkpoint.ema if checkpoint else None) if recipe.ema else None
    resumed = checkpoint if checkpoint and checkpoint.step is not None else None
    name = resumed.run if resumed else uuid.uuid4().hex
    best = best_checkpoints(args.save_dir, resumed.step or 0, name) if resumed else set()
    criterion = Criterion(recipe.conf_loss, recipe.box_loss, recipe.negpos_ratio, recipe.box_weight,
                          balanced_class_weights(dataset) if recipe.balance_classes else None)
    run = Run(network, dataset.classes, recipe, criterion, optimizer, precision, ema, args.save_dir, start, best,
              rank, world_size, seconds, name, Path(args.model_path) if resumed else None)
    if run.is_main_process:
        weights = args.model_path if checkpoint else args.backbone_weights
        print_lines(*[other_run] if other_run else (), *describe_run(run, args.recipe, weights, checkpoint))
    return run


def steps_of(epochs: float, dataset: CocoDataset, recipe: Recipe, world_size: int) -> int:
    """The number of steps of so many passes over a dataset."""
    return math.ceil(epochs * len(dataset) / (recipe.batch_size * world_size))


def balanced_class_weights(dataset: CocoDataset) -> tuple[float, ...]:
    """The weight of each class: one over the square root of its number of objects, 1 as a mean over objects."""
    counts = np.zeros(len(dataset.classes))
    for i in range(len(dataset)):
        counts += np.bincount(dataset.objects(i).labels, minlength=len(counts))
    weights = 1 / np.sqrt(np.maximum(counts, 1))
    return tuple((weights * counts.sum() / max((weights * counts).sum(), 1e-9)).tolist())


def open_checkpoint(args: argparse.Namespace, dataset: CocoDataset) -> Checkpoint:
    """The checkpoint to resume.

    Raises:
        UserError: it does not fit the dataset and the flags.
    """
    checkpoint = load_checkpoint(args.model_path, training=True)
    if checkpoint.backbone_only:
        raise UserError(f'{args.model_path}: only a backbone; start from it with --pattern=0 '
                        f'--backbone_weights={args.model_path}')
    assert checkpoint.classes is not None  # of a whole network
    difference = dataset.classes.difference(checkpoint.classes)
    if difference:
        raise UserError(f'{args.model_path}: other classes than {args.train_anno_path}: {difference}; to train '
                        f'new classes from these weights, use --pattern=0 --backbone_weights={args.model_path}')
    if None not in (args.initial_step, checkpoint.step) and args.initial_step != checkpoint.step:
        raise UserError(f'{args.model_path}: was saved at step {checkpoint.step}, not at '
                        f'--initial_step={args.initial_step}; leave the flag out to resume from there')
    return checkpoint


def recipe_of(args: argparse.Namespace, checkpoint: Checkpoint | None, world_size: int) -> Recipe:
    """The `Recipe` of the flags and the checkpoint.

    Raises:
        UserError: the checkpoint's is damaged, or the thresholds contradict each other.
    """
    flags = {field.name: getattr(args, field.name) for field in dataclasses.fields(Recipe)
             if getattr(args, field.name) is not None}
    if 'steps' in flags:
        flags.setdefault('minutes', 0.0)
    try:
        recipe = choose_recipe(flags, checkpoint and checkpoint.recipe or {}, args.recipe, world_size,
                               pretrained=args.pattern == 1 or args.backbone_weights is not None)
    except ValueError as error:
        raise UserError(f'{args.model_path}: its recipe is damaged: {error}; copy the checkpoint again or take another '
                        'one') from None
    if recipe.neg_threshold > recipe.pos_threshold:
        raise UserError(f'--neg_threshold={recipe.neg_threshold} is above --pos_threshold={recipe.pos_threshold}, and '
                        'an anchor between them would be both; lower it')
    return recipe


def first_step(args: argparse.Namespace, checkpoint: Checkpoint | None, recipe: Recipe) -> int:
    """How many steps are done before the run.

    Raises:
        UserError: all of them, or all minutes are over.
    """
    start = args.initial_step or 0
    if checkpoint and checkpoint.step is not None:
        start = checkpoint.step
    if checkpoint and recipe.minutes and checkpoint.seconds >= 60 * recipe.minutes:
        raise UserError(f'{args.model_path}: has trained {checkpoint.seconds / 60:.1f} minutes, and '
                        f'--minutes={recipe.minutes:g} asks for no more; raise it')
    if start >= recipe.steps and not recipe.minutes:
        raise UserError(f'step {start} is done, and --steps={recipe.steps} asks for no more; raise it')
    return start


def build_network(args: argparse.Namespace, dataset: CocoDataset, checkpoint: Checkpoint | None,
                  recipe: Recipe) -> Yolact:
    """The network, with the checkpoint's weights, those of --backbone_weights, or random ones.

    Raises:
        UserError: the weights do not fit the network.
    """
    paddle.seed(recipe.seed)
    network = Yolact(config_of(args, dataset, checkpoint, recipe))
    if checkpoint:
        restore(network, checkpoint, args.model_path)
    elif args.backbone_weights:
        restore(network, load_checkpoint(args.backbone_weights), args.backbone_weights, other_classes=True)
    if recipe.freeze_bn:
        network.freeze_batch_norm()
    for part in args.freeze or ():
        network.freeze(part)
    return network


def config_of(args: argparse.Namespace, dataset: CocoDataset, checkpoint: Checkpoint | None, recipe: Recipe) -> Config:
    """The `Config` that flags, dataset and checkpoint agree on.

    Raises:
        UserError: they do not agree.
    """
    num_classes = len(dataset.classes) + 1
    if args.num_classes not in (None, num_classes):
        raise UserError(f'--num_classes={args.num_classes}, but {args.train_anno_path} has {num_classes - 1} classes, '
                        f'which makes {num_classes} with background; leave the flag out')
    flags = {name: getattr(args, name) for name in CONFIG_FLAGS if getattr(args, name) is not None}
    flags.update((name, tuple(value)) for name, value in flags.items() if isinstance(value, list))
    scores = CLASS_LOSSES[recipe.conf_loss]
    try:
        if checkpoint:
            _check_same_network(args, checkpoint, flags, recipe.conf_loss)
            return dataclasses.replace(checkpoint.config, **flags)
        config = preset(**{'backbone_name': 'resnet50dcn', 'num_classes': num_classes, 'scores': scores, **flags})
    except ValueError as error:
        raise UserError(error) from None
    if args.fit_anchors:
        config, line = fit_anchors_to(dataset, config)
        print_lines(*[line] if paddle.distributed.get_rank() == 0 else ())
    return config


def _check_same_network(args: argparse.Namespace, checkpoint: Checkpoint, flags: dict[str, object],
                        conf_loss: str) -> None:
    """Make sure that the flags ask for the checkpoint's network, at whatever input size."""
    for name in flags.keys() - {'input_size'}:
        if flags[name] != getattr(checkpoint.config, name):
            raise UserError(f'--{name}={flags[name]}, but {args.model_path} has {getattr(checkpoint.config, name)}; '
                            'leave the flag out')
    if CLASS_LOSSES[conf_loss] != checkpoint.config.scores:
        raise UserError(f'--conf_loss={conf_loss} trains {CLASS_LOSSES[conf_loss]} scores, but {args.model_path} has '
                        f'{checkpoint.config.scores} ones; choose another loss, or start with --pattern=0 '
                        f'--backbone_weights={args.model_path}')


def make_batches(run: Run, dataset: CocoDataset) -> Batches:
    """This process's share of the batches of a run."""
    recipe = run.recipe
    augmentation = choose_augmentation(recipe.augmentation, dataclasses.asdict(recipe))
    return Batches(dataset, run.network.config, recipe.batch_size, recipe.seed, recipe.pos_threshold,
                   recipe.neg_threshold, augmentation, run.rank, run.world_size)


def open_log(args: argparse.Namespace, run: Run) -> Log:
    """The log of a run, in its folder.

    Raises:
        UserError: VisualDL is asked for and not installed.
    """
    scalars = open_visualdl(run.save_dir) if args.visualdl and run.is_main_process else None
    return Log(run.save_dir / LOG_NAME, run.start, None if run.recipe.minutes else run.recipe.steps,
               args.log_interval, run.is_main_process, scalars, run.recipe.minutes)


def open_visualdl(save_dir: Path) -> ScalarWriter:
    """VisualDL's LogWriter, in the folder of a run."""
    try:
        from visualdl import LogWriter
    except ImportError:
        raise UserError('--visualdl: VisualDL is not installed; pip install visualdl') from None
    return LogWriter(str(save_dir / 'visualdl'))
