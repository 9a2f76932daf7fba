"""Train YOLACT++ on a COCO-style dataset."""
import dataclasses
import math
import os
import re
import shutil
import signal
import sys
import time
from collections import deque
from typing import NamedTuple

from tqdm import tqdm

from command_line import training_arguments
from data.coco import AnnotationError, CocoDataset
from data.loader import Batches, LoaderError
from data.pictures import PictureError
from data.results import check_classes, evaluate
from model.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    restore,
    save_checkpoint,
    tensors_of,
)
from model.config import ConfigError, preset

CHECKPOINTS_KEPT = 15
CHECKPOINT_NAME = re.compile(r'step\d{7,}-ep\d{3,}-loss\S+\.pd')
WARMUP_STEPS, WARMUP_LR = 500, 1e-4  # as published; a rate below 1e-4 starts at once
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
MOST_SKIPPED = 10  # steps in a row whose loss is not finite
# Shares of the published 800,000 steps after which the learning rate falls to a tenth.
PUBLISHED_STEPS, DECAY_STEPS = 800_000, (280_000, 600_000, 700_000, 750_000)


def main(argv=None):
    """Train until --steps. Returns the exit status."""
    args = training_arguments(argv)
    try:
        with Interruption() as interruption:
            return run_training(args, interruption)
    except KeyboardInterrupt:
        print('train.py: stopped at once; the last checkpoint is whole', file=sys.stderr)
        return 128 + signal.SIGINT


def run_training(args, interruption):
    """Everything that may go wrong, as one line and an exit status."""
    from model.predictor import DeviceError  # imports Paddle, which takes seconds
    try:
        dataset = open_dataset(args.train_anno_path, args.train_images_path)
        validation = open_dataset(args.valid_anno_path, args.valid_images_path) if args.eval else None
        if validation:
            check_classes(validation, dataset.classes)
        args.save_dir.mkdir(parents=True, exist_ok=True)
        return train(args, start_run(args, dataset), dataset, validation, interruption)
    except (AnnotationError, CheckpointError, DeviceError, FlagError, LoaderError, LossError, PictureError) as error:
        print(f'train.py: error: {error}', file=sys.stderr)
    except OSError as error:
        print(f'train.py: error: {error.filename or args.save_dir}: {error.strerror}; the last checkpoint is whole',
              file=sys.stderr)
    return 2


def open_dataset(annotations, images):
    """A dataset to learn from or to judge by, after a look at what is wrong with it."""
    dataset = CocoDataset(annotations, images)
    if not dataset.has_annotations:
        raise AnnotationError(f'{annotations}: has no annotations')
    dataset.check_folder()
    report(f'{annotations}: {len(dataset)} pictures, {len(dataset.classes)} classes')
    if dataset.warnings:
        report(*dataset.warnings[:3], f'annotations that are left out: {len(dataset.warnings)}')
    return dataset


class FlagError(ValueError):
    """Flags that do not work, or not together. The message is one line for the user."""


class LossError(ArithmeticError):
    """Training that leads nowhere. The message is one line for the user."""


class Interruption:
    """Ctrl-C or a request to terminate, as a wish to stop that the training loop grants after a step."""

    def __enter__(self):
        import paddle  # noqa: F401  sets a handler of its own, which would replace these
        self.signal = 0
        self._parent = os.getppid()
        self._earlier = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def wanted(self):
        """Whether to stop: a signal came, or the launcher that started this process is gone."""
        if 'PADDLE_TRAINER_ID' in os.environ and os.getppid() != self._parent:
            self.signal = self.signal or signal.SIGTERM
        return self.signal != 0

    def _note(self, number, _):
        if not self.signal:
            report('stopping after this step, with a checkpoint; once more stops at once')
        self.signal = number
        # Not both of them: the launcher answers Ctrl-C, which everyone hears, by a request to terminate.
        signal.signal(number, self._stop)

    def _stop(self, *_):
        raise KeyboardInterrupt


class Run(NamedTuple):
    """What changes as training goes on, and how it does.

    Attributes:
        network: `Yolact`.
        optimizer: Paddle's, of the network's parameters.
        start: step to start at.
        recipe: dict of lr and lr_schedule.
        rank, processes: which of how many processes this is; the first one writes.
    """
    network: object
    optimizer: object
    start: int
    recipe: dict
    rank: int = 0
    processes: int = 1


def start_run(args, dataset):
    """The `Run` that the flags ask for: a new one, or one that goes on."""
    import paddle

    from model.parallel import join
    from model.predictor import choose_device
    from model.yolact import Yolact
    choose_device(None if args.use_gpu is None else 'gpu' if args.use_gpu else 'cpu')
    rank, processes = join()
    paddle.seed(args.seed)
    checkpoint = open_checkpoint(args, dataset) if args.pattern == 1 else None
    network = Yolact(configure(args, dataset, checkpoint))
    start = args.initial_step or 0
    if checkpoint:
        restore(network, checkpoint, args.model_path)
        start = start if checkpoint.step is None else checkpoint.step
    elif args.backbone_weights:
        restore(network, load_checkpoint(args.backbone_weights), args.backbone_weights, other_classes=True)
    if start >= args.steps:
        raise FlagError(f'step {start} is done, and --steps={args.steps} asks for no more; raise it')
    optimizer = make_optimizer(network, checkpoint.velocity if checkpoint else {})
    return Run(network, optimizer, start, recipe(args, checkpoint), rank, processes)


def configure(args, dataset, checkpoint):
    """The `Config` that the flags, the dataset and the checkpoint agree on."""
    num_classes = len(dataset.classes) + 1
    if args.num_classes not in (None, num_classes):
        raise FlagError(f'--num_classes={args.num_classes}, but {args.train_anno_path} has {num_classes - 1} classes, '
                        f'which makes {num_classes} with background; leave the flag out')
    given = {name: getattr(args, name) for name in ('backbone_name', 'input_size', 'mask_dim')
             if getattr(args, name) is not None}
    try:
        if checkpoint is None:
            return preset(**{'backbone_name': 'resnet50dcn', 'num_classes': num_classes, **given})
        for name in given.keys() - {'input_size'}:
            if given[name] != getattr(checkpoint.config, name):
                raise FlagError(f'--{name}={given[name]}, but {args.model_path} has '
                                f'{getattr(checkpoint.config, name)}; leave the flag out')
        return dataclasses.replace(checkpoint.config, **given)
    except ConfigError as error:
        raise FlagError(error) from None


def open_checkpoint(args, dataset):
    """The checkpoint to go on from, which must fit the dataset and the flags."""
    checkpoint = load_checkpoint(args.model_path, optimizer=True)
    if checkpoint.backbone_only:
        raise CheckpointError(f'{args.model_path}: only a backbone; start from it with --pattern=0 '
                              f'--backbone_weights={args.model_path}')
    difference = dataset.classes.difference(checkpoint.classes)
    if difference:
        raise CheckpointError(f'{args.model_path}: other classes than {args.train_anno_path}: {difference}; to train '
                              f'new classes from these weights, use --pattern=0 --backbone_weights={args.model_path}')
    if None not in (args.initial_step, checkpoint.step) and args.initial_step != checkpoint.step:
        raise CheckpointError(f'{args.model_path}: was saved at step {checkpoint.step}, not at '
                              f'--initial_step={args.initial_step}; leave the flag out to go on from there')
    return checkpoint


def make_optimizer(network, velocity):
    """SGD with momentum and weight decay, as published, moving on with a velocity by parameter name."""
    import paddle
    optimizer = paddle.optimizer.Momentum(WARMUP_LR, MOMENTUM, network.parameters(),
                                          weight_decay=paddle.regularizer.L2Decay(WEIGHT_DECAY))
    if velocity:
        names = {name: parameter.name for name, parameter in network.named_parameters()}
        optimizer.set_state_dict({f'{names[name]}_velocity_0': paddle.to_tensor(value)
                                  for name, value in velocity.items()})
    return optimizer


def recipe(args, checkpoint):
    """How to learn: what the flags say, else what the checkpoint's run did, else what suits the pattern."""
    usual = dict(lr=1e-3, lr_schedule='steps') if args.pattern == 0 else dict(lr=1e-4, lr_schedule='constant')
    earlier = checkpoint and checkpoint.recipe or {}
    given = {key: value for key, value in (('lr', args.lr), ('lr_schedule', args.lr_schedule)) if value is not None}
    return {**usual, **earlier, **given}


def learning_rate(step, steps, lr, lr_schedule):
    """The learning rate of a step, from 0, of so many: a warm-up, then the schedule down from lr."""
    rate = lr
    if lr_schedule == 'steps':
        published = step * PUBLISHED_STEPS / min(steps, PUBLISHED_STEPS)
        rate *= 0.1 ** sum(published >= decay for decay in DECAY_STEPS)
    elif lr_schedule == 'cosine':
        rate *= (1 + math.cos(math.pi * step / steps)) / 2
    return min(rate, WARMUP_LR + max(lr - WARMUP_LR, 0) * step / WARMUP_STEPS)


def train(args, run, dataset, validation, interruption):
    """The training loop. Returns the exit status."""
    import paddle

    from model.losses import Criterion
    from model.parallel import add_up, add_up_gradients, wait_for_all
    network, optimizer = run.network, run.optimizer
    criterion = Criterion(args.conf_loss, args.box_loss, args.negpos_ratio)
    batches = Batches(dataset, network.config, args.batch_size, args.seed, args.pos_threshold, args.neg_threshold,
                      run.rank, run.processes)
    log = Log(run, args.steps, args.log_interval)
    network.train()
    for step, batch in enumerate(batches.read_ahead(run.start, args.steps, args.num_workers), run.start + 1):
        log.problems(batch.problems)
        optimizer.set_lr(learning_rate(step - 1, args.steps, **run.recipe))
        statistics = [(value, value.clone()) for value in network.parameters() if value.stop_gradient]
        targets = targets_of(batch)
        positives = int(add_up(paddle.to_tensor(len(targets.positives))))
        losses = criterion(network, network(paddle.to_tensor(batch.pictures)), targets, positives,
                           args.batch_size * run.processes)
        sum(losses.values()).backward()
        add_up_gradients(network.parameters())
        # Every process learns what happened in any of them, and does the same.
        *values, gradients, wishes = add_up(paddle.stack([
            *(loss.detach() for loss in losses.values()), sum_of_gradients(network),
            paddle.to_tensor(float(interruption.wanted()))])).tolist()
        epoch = batches.epoch(step)
        if math.isfinite(sum(values) + gradients):
            optimizer.step()
            log.step(step, epoch, optimizer.get_lr(), dict(zip(losses, values)))
        else:
            for value, before in statistics:
                paddle.assign(before, value)
            log.skip(step, dict(zip(losses, values)), batch.image_ids)
        optimizer.clear_grad()

        stop = wishes or log.in_a_row == MOST_SKIPPED
        if run.rank == 0 and log.totals and (step % args.save_interval == 0 or step == args.steps or stop):
            report(f'saved {save(args, run, dataset.classes, step, epoch, log.mean())}')
        if stop:
            wait_for_all()  # the launcher ends the others when one has ended
            break
        if run.rank == 0 and validation and (epoch > batches.epoch(step - 1) or step == args.steps):
            validate(network, validation)
    log.close()
    if log.in_a_row == MOST_SKIPPED:
        raise LossError(f'the loss was not finite in {MOST_SKIPPED} steps in a row; look at the pictures named above, '
                        'or go on from the last checkpoint with a lower --lr')
    return 128 + (interruption.signal or signal.SIGTERM) if wishes else 0


def sum_of_gradients(network):
    """A number that is finite if all gradients are."""
    import paddle
    return paddle.add_n([parameter.grad.sum() for parameter in network.parameters() if parameter.grad is not None])


class Log:
    """What a run says while it goes on: a bar on a terminal, else a line now and then.

    Of several processes only the first one tells of steps, and each one of the pictures that it skipped.
    """

    def __init__(self, run, steps, interval):
        self.run, self.steps, self.interval = run, steps, interval
        self.began = time.time()
        self.totals = deque(maxlen=100)
        self.skipped = self.in_a_row = 0
        self.named = set()
        self.bar = tqdm(total=steps, initial=run.start, unit='step', dynamic_ncols=True,
                        disable=run.rank > 0 or not sys.stderr.isatty())

    def step(self, step, epoch, rate, losses):
        """Tell of a step: its epoch, learning rate and losses by name."""
        self.totals.append(sum(losses.values()))
        self.in_a_row = 0
        shown = f'loss {self.totals[-1]:.3f} ' + ' '.join(f'{name} {value:.3f}' for name, value in losses.items())
        self.bar.set_description_str(f'epoch {epoch} {shown}', refresh=False)
        self.bar.update()
        if self.bar.disable and self.run.rank == 0 and step % self.interval == 0:
            pace = (time.time() - self.began) / (step - self.run.start)
            left = tqdm.format_interval(pace * (self.steps - step))
            report(f'step {step}/{self.steps} epoch {epoch} lr {rate:.2e} {shown} {pace:.2f} s/step, {left} left')

    def skip(self, step, losses, image_ids):
        """Tell of a step that was not taken, because a loss or a gradient is not finite."""
        self.skipped += 1
        self.in_a_row += 1
        names = [name for name, value in losses.items() if not math.isfinite(value)] or ['gradient']
        report(f'step {step} is skipped: {", ".join(names)} not finite; pictures {", ".join(map(str, image_ids))}')
        self.bar.update()

    def problems(self, lines):
        """Name each damaged picture once."""
        for line in sorted(set(lines) - self.named):
            report(f'skipped: {line}')
        self.named.update(lines)

    def mean(self):
        """The total loss, over the last 100 steps that were taken."""
        return sum(self.totals) / len(self.totals)

    def close(self):
        self.bar.close()
        if self.named:
            report(f'pictures that were skipped: {len(self.named)}')
        if self.skipped:
            report(f'steps that were skipped: {self.skipped}')


def validate(network, dataset):
    """Print AP on the validation pictures, and go on training."""
    from model.predictor import Predictor
    figures, problems = evaluate(Predictor.of(network, dataset.classes), dataset)
    report(str(figures), *problems)
    network.train()


def save(args, run, classes, step, epoch, loss):
    """Write a checkpoint and remove all but the newest ones. Returns its folder."""
    state = run.optimizer.state_dict()
    keys = {name: f'{parameter.name}_velocity_0' for name, parameter in run.network.named_parameters()}
    velocity = {name: state[key].numpy() for name, key in keys.items() if key in state}
    folder = args.save_dir / f'step{step:07d}-ep{epoch:03d}-loss{loss:.3f}.pd'
    save_checkpoint(folder, Checkpoint(run.network.config, classes, tensors_of(run.network), velocity, step, epoch,
                                       args.seed, run.recipe))
    earlier = [path for path in args.save_dir.iterdir() if CHECKPOINT_NAME.fullmatch(path.name)]
    for path in sorted(earlier, key=lambda path: path.stat().st_mtime)[:-CHECKPOINTS_KEPT]:
        shutil.rmtree(path)
    return folder


def targets_of(batch):
    """A batch's truth, on the device."""
    import paddle

    from model.losses import Targets
    to, assigned = paddle.to_tensor, batch.assignment
    return Targets(to(assigned.labels), to(batch.boxes), to(batch.classes), to(batch.masks), to(batch.semantic),
                   to(assigned.positives), to(assigned.objects), [to(rows) for rows in assigned.masked],
                   to(assigned.mask_weights))


def report(*lines):
    """Lines for the user, above the bar."""
    for line in lines:
        tqdm.write(line, file=sys.stderr)


if __name__ == '__main__':
    sys.exit(main())
