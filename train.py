"""Train YOLACT++ on a COCO-style dataset."""
import contextlib
import dataclasses
import math
import signal
import sys
import time
from typing import NamedTuple, Optional

from data.coco import CocoDataset
from data.images import ImageError
from data.loader import Batches
from evaluation.evaluate import check_classes, evaluate
from model.checkpoint import load_checkpoint, restore
from model.config import preset
from prediction.predictor import Predictor
from system.cpu import default_workers
from system.device import choose_device
from system.errors import UserError
from system.interruption import Interruption, LeftOut
from system.messages import one_line, pluralize
from training.arguments import training_arguments
from training.checkpoints import best_until, keep, keep_best
from training.log import Listener, Log, say
from training.recipe import CONF_LOSSES, MOMENTUM, WEIGHT_DECAY, Recipe, choose_recipe, learning_rate

MOST_SKIPPED = 10  # steps in a row whose loss is not finite
EVALUATION_STEPS = 100  # between evaluations at the least, or --save_interval if that is less, for short epochs


def main(argv=None):
    """Train until --steps. Returns the exit status."""
    args = training_arguments(argv)
    with contextlib.redirect_stderr(Listener(sys.stderr)):
        try:
            with Interruption() as interruption:
                return run_training(args, interruption)
        except KeyboardInterrupt:
            print('train.py: stopped at once; the last checkpoint is whole', file=sys.stderr)
            return 128 + signal.SIGINT


def run_training(args, interruption):
    """Everything that may go wrong, as one line and an exit status."""
    from model.mixed_precision import UserError  # imports Paddle, which takes seconds
    from system.distributed import DistributedError
    try:
        dataset = open_dataset(args.train_anno_path, args.train_images_path)
        validation = open_dataset(args.valid_anno_path, args.valid_images_path) if args.eval else None
        if validation:
            check_classes(validation, dataset.classes)
        args.save_dir.mkdir(parents=True, exist_ok=True)
        return train(args, start_run(args, dataset), dataset, validation, interruption)
    except (UserError, ImageError) as error:
        print(f'train.py: error: {error}', file=sys.stderr)
    except DistributedError as error:
        print(f'train.py: error: {error}. The last checkpoint is whole: go on with --pattern=1', file=sys.stderr)
    except OSError as error:
        print(f'train.py: error: {one_line(error.filename or args.save_dir)}: {error.strerror}; the last checkpoint is '
              'whole', file=sys.stderr)
    return 2


def open_dataset(annotations, images):
    """A dataset to learn from or to judge by, after a look at what is wrong with it."""
    dataset = CocoDataset(annotations, images)
    dataset.check_annotations()
    dataset.check_folder()
    say(f'{annotations}: {len(dataset)} images, {len(dataset.classes)} classes')
    if dataset.warnings:
        say(*dataset.warnings[:3], f'annotations that are left out: {len(dataset.warnings)}; python -m data.coco check '
                                   'names them all')
    return dataset


class Run(NamedTuple):
    """What changes as training goes on, and how it does.

    Attributes:
        network: `Yolact`.
        optimizer: Paddle's, of the network's parameters.
        average: `EMA` of the network; None without.
        precision: `Precision` of a step.
        recipe: `Recipe`.
        start: step to start at.
        best: set of str, names of the best checkpoints of this run; those of others may be beside them.
        rank, processes: which of how many processes this is; the first one writes.
    """
    network: object
    optimizer: object
    average: Optional[object]
    precision: object
    recipe: Recipe
    start: int
    best: set
    rank: int = 0
    processes: int = 1


def start_run(args, dataset):
    """The `Run` that the flags ask for: a new one, or one that goes on."""
    import paddle

    from model.mixed_precision import half_precision
    from model.yolact import Yolact
    from system.distributed import join
    from training.ema import EMA
    from training.precision import Precision
    choose_device(None if args.use_gpu is None else 'gpu' if args.use_gpu else 'cpu')
    precision = Precision('float32' if args.amp == 'O0' else half_precision())
    rank, processes = join()
    checkpoint = open_checkpoint(args, dataset) if args.pattern == 1 else None
    recipe = recipe_of(args, checkpoint, processes)
    paddle.seed(recipe.seed)
    network = Yolact(configure(args, dataset, checkpoint, recipe))
    start = args.initial_step or 0
    if checkpoint:
        restore(network, checkpoint, args.model_path)
        start = start if checkpoint.step is None else checkpoint.step
    elif args.backbone_weights:
        restore(network, load_checkpoint(args.backbone_weights), args.backbone_weights, other_classes=True)
    if start >= recipe.steps:
        raise UserError(f'step {start} is done, and --steps={recipe.steps} asks for no more; raise it')
    if recipe.freeze_bn:
        network.freeze_batch_norm()
    optimizer = make_optimizer(network, checkpoint.velocity if checkpoint else {})
    best = best_until(args.save_dir, checkpoint.step) if checkpoint and checkpoint.step else set()
    average = EMA(network, recipe.ema, checkpoint and checkpoint.averaged) if recipe.ema else None
    return Run(network, optimizer, average, precision, recipe, start, best, rank, processes)


def recipe_of(args, checkpoint, processes):
    """The `Recipe` of the flags and the checkpoint."""
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(Recipe)
             if getattr(args, field.name) is not None}
    earlier = checkpoint and checkpoint.recipe or {}
    try:
        recipe = choose_recipe(given, earlier, args.pattern == 1, processes,
                               pretrained=args.pattern == 1 or args.backbone_weights is not None)
    except ValueError as error:
        raise UserError(f'{args.model_path}: its recipe is damaged: {error}; give the flags anew, from another '
                              'checkpoint') from None
    if recipe.neg_threshold > recipe.pos_threshold:
        raise UserError(f'--neg_threshold={recipe.neg_threshold} is above --pos_threshold={recipe.pos_threshold}, and '
                        'an anchor between them would be both; lower it')
    return recipe


def configure(args, dataset, checkpoint, recipe):
    """The `Config` that the flags, the dataset and the checkpoint agree on."""
    num_classes = len(dataset.classes) + 1
    if args.num_classes not in (None, num_classes):
        raise UserError(f'--num_classes={args.num_classes}, but {args.train_anno_path} has {num_classes - 1} classes, '
                        f'which makes {num_classes} with background; leave the flag out')
    given = {name: getattr(args, name) for name in ('backbone_name', 'input_size', 'mask_dim')
             if getattr(args, name) is not None}
    scores = CONF_LOSSES[recipe.conf_loss]
    try:
        if checkpoint is None:
            return preset(**{'backbone_name': 'resnet50dcn', 'num_classes': num_classes, 'scores': scores, **given})
        for name in given.keys() - {'input_size'}:
            if given[name] != getattr(checkpoint.config, name):
                raise UserError(f'--{name}={given[name]}, but {args.model_path} has '
                                f'{getattr(checkpoint.config, name)}; leave the flag out')
        if scores != checkpoint.config.scores:
            raise UserError(f'--conf_loss={recipe.conf_loss} trains {scores} scores, but {args.model_path} has '
                            f'{checkpoint.config.scores} ones; choose another loss, or start with --pattern=0 '
                            f'--backbone_weights={args.model_path}')
        return dataclasses.replace(checkpoint.config, **given)
    except ValueError as error:
        raise UserError(error) from None


def open_checkpoint(args, dataset):
    """The checkpoint to go on from, which must fit the dataset and the flags."""
    checkpoint = load_checkpoint(args.model_path, training=True)
    if checkpoint.backbone_only:
        raise UserError(f'{args.model_path}: only a backbone; start from it with --pattern=0 '
                              f'--backbone_weights={args.model_path}')
    difference = dataset.classes.difference(checkpoint.classes)
    if difference:
        raise UserError(f'{args.model_path}: other classes than {args.train_anno_path}: {difference}; to train '
                              f'new classes from these weights, use --pattern=0 --backbone_weights={args.model_path}')
    if None not in (args.initial_step, checkpoint.step) and args.initial_step != checkpoint.step:
        raise UserError(f'{args.model_path}: was saved at step {checkpoint.step}, not at '
                              f'--initial_step={args.initial_step}; leave the flag out to go on from there')
    return checkpoint


def make_optimizer(network, velocity):
    """SGD with momentum and weight decay, as published, moving on with a velocity by parameter name."""
    import paddle
    optimizer = paddle.optimizer.Momentum(1e-4, MOMENTUM, network.parameters(),
                                          weight_decay=paddle.regularizer.L2Decay(WEIGHT_DECAY))
    if velocity:
        names = {name: parameter.name for name, parameter in network.named_parameters()}
        optimizer.set_state_dict({f'{names[name]}_velocity_0': paddle.to_tensor(value)
                                  for name, value in velocity.items()})
    return optimizer


def train(args, run, dataset, validation, interruption):
    """The training loop. Returns the exit status."""
    import paddle

    from model.losses import Criterion
    from system.distributed import PATIENCE, all_reduce, all_reduce_gradients, barrier
    network, optimizer, precision, recipe = run.network, run.optimizer, run.precision, run.recipe
    criterion = Criterion(recipe.conf_loss, recipe.box_loss, recipe.negpos_ratio)
    batches = Batches(dataset, network.config, recipe.batch_size, recipe.seed, recipe.pos_threshold,
                      recipe.neg_threshold, recipe.augmentation, run.rank, run.processes)
    images = recipe.batch_size * run.processes
    log = Log(args.save_dir / 'log.jsonl', run.start, recipe.steps, args.log_interval, run.rank == 0,
              open_visualdl(args.save_dir) if args.visualdl and run.rank == 0 else None)
    network.train()
    asked, evaluated = time.time(), run.start
    for step, batch in enumerate(batches.prefetch(run.start, recipe.steps, args.num_workers), run.start + 1):
        log.waiting(time.time() - asked)
        log.problems(batch.problems)
        optimizer.set_lr(learning_rate(recipe, step - 1, run.processes))
        statistics = [(value, value.clone()) for value in network.parameters() if value.stop_gradient]
        targets = targets_of(batch)
        positives = int(all_reduce(paddle.to_tensor(len(targets.positives))))
        outputs = precision.forward(network, paddle.to_tensor(batch.images))
        losses = criterion(network, outputs, targets, positives, images)
        precision.backward(sum(losses.values()), network.parameters())
        all_reduce_gradients(network.parameters())
        # Every process learns what happened in any of them, and does the same.
        *values, gradients, wishes = all_reduce(paddle.stack([
            *(loss.detach() for loss in losses.values()), sum_of_gradients(network),
            paddle.to_tensor(float(interruption.wanted()))])).tolist()
        epoch = batches.epoch(step)
        finite = math.isfinite(sum(values) + gradients)
        precision.adapt(finite)
        if finite:
            optimizer.step()
            if run.average:
                run.average.update(step)
            log.step(step, epoch, optimizer.get_lr(), dict(zip(losses, values)))
        else:
            for value, before in statistics:
                paddle.assign(before, value)
            log.skip(step, dict(zip(losses, values)), batch.image_ids)
        optimizer.clear_grad()

        stepped, stop = time.time(), wishes or log.in_a_row == MOST_SKIPPED
        saves = step % args.save_interval == 0 or step == recipe.steps or stop
        ended = epoch > batches.epoch(evaluated) and step - evaluated >= min(EVALUATION_STEPS, args.save_interval)
        validates = validation and not stop and (ended or step == recipe.steps)
        if run.rank == 0 and saves and log.totals:
            keep(args.save_dir, run, dataset.classes, step, epoch, log.mean())
        if validates:
            evaluated = step
        if run.rank == 0 and validates:
            figures = validate(run, validation, interruption, log)
            if figures:
                log.write(step, box_ap=figures.box['AP'], mask_ap=figures.mask['AP'])
                keep_best(args.save_dir, run, dataset.classes, step, epoch, figures.mask['AP'])
        if saves or validates:
            # The others would lose patience in a step, and the launcher ends all when one has ended.
            barrier(PATIENCE)
            log.pause(time.time() - stepped)
        if stop:
            break
        asked = time.time()
    log.close()
    if log.in_a_row == MOST_SKIPPED or log.skipped and not log.totals and not wishes:
        raise UserError(f'the loss was not finite in {pluralize(log.in_a_row, "step")} in a row; look at the images '
                        'named above, or go on from the last checkpoint with a lower --lr')
    return 128 + (interruption.signal or signal.SIGTERM) if wishes else 0


def open_visualdl(save_dir):
    """VisualDL's LogWriter, in the run's folder."""
    try:
        from visualdl import LogWriter
    except ImportError:
        raise UserError('--visualdl: VisualDL is not installed; pip install visualdl') from None
    return LogWriter(str(save_dir / 'visualdl'))


def sum_of_gradients(network):
    """A number that is finite if all gradients are."""
    import paddle
    return paddle.add_n([parameter.grad.sum() for parameter in network.parameters() if parameter.grad is not None])


def validate(run, dataset, interruption, log):
    """Print AP on the validation images, of the averaged weights if there are any, and go on training.

    Returns:
        `AveragePrecision`; None if the run was asked to stop meanwhile.
    """
    from engines.paddle_engine import PaddleEngine
    try:
        with run.average.in_place() if run.average else contextlib.nullcontext(), interruption.at_once():
            figures, problems = evaluate(Predictor.of(PaddleEngine(run.network, dataset.classes)), dataset,
                                         workers=default_workers(), progress=sys.stderr.isatty())
        say(figures.table())
        log.problems(problems)
        return figures
    except LeftOut:
        say('the evaluation is left out')
        return None
    finally:
        run.network.train()


def targets_of(batch):
    """A batch's truth, on the device."""
    import paddle

    from model.losses import Targets
    to, assigned = paddle.to_tensor, batch.assignment
    return Targets(to(assigned.labels), to(batch.boxes), to(batch.classes), to(batch.masks), to(batch.semantic),
                   to(assigned.positives), to(assigned.objects), [to(rows) for rows in assigned.masked],
                   to(assigned.mask_weights))


if __name__ == '__main__':
    sys.exit(main())
