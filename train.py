"""Train YOLACT++ on a COCO-style dataset."""
import system  # noqa: F401  the first import, so that Ctrl-C during the others is quiet

# isort: split
import argparse
import contextlib
import signal
import sys
from typing import TYPE_CHECKING

from data.coco import CocoDataset
from data.loader import Batch, Batches
from evaluation.average_precision import AveragePrecision
from evaluation.evaluate import check_classes, evaluate
from model.checkpoint import META
from prediction import Predictor
from system import command, gpu_errors
from system.arguments import MAX_INT
from system.cpu import default_workers
from system.errors import UserError
from system.interruption import Stopped, StopRequest
from system.messages import pluralize, print_lines
from training.arguments import training_arguments
from training.checkpoints import best_step, save_and_prune, save_best
from training.log import Log, lossy
from training.recipe import progress
from training.resumption import command_to_go_on

if TYPE_CHECKING:
    from training.run import Run
    from training.step import StepResult

MAX_SKIPPED_IN_A_ROW = 10  # steps with a loss that is not finite, before the run is given up
RESUME = 'The last checkpoint is whole: go on with --pattern=1'
MIN_EVALUATION_INTERVAL = 100  # steps, or --save_interval if that is less; an epoch may be shorter


def main(argv: list[str] | None = None) -> int:
    """Train until --steps or a stop request. Returns the exit status."""
    args = training_arguments(argv)
    # This imports Paddle, which takes seconds. Paddle then installs signal handlers, which would replace those of
    # StopRequest if it came later.
    from system.distributed import DistributedError
    from training.setup import open_dataset, start_run
    try:
        with (gpu_errors.adding(RESUME),
              StopRequest('stopping after this step, with a checkpoint; once more stops at once') as stop_request):
            dataset = open_dataset(args.train_anno_path, args.train_images_path, args.allow_outside)
            validation = (open_dataset(args.valid_anno_path, args.valid_images_path, args.allow_outside)
                          if args.eval else None)
            if validation:
                check_classes(validation, dataset.classes)
            if (args.save_dir / META).exists():
                raise UserError(f'{args.save_dir}: is a checkpoint; name a folder to save checkpoints in: --save_dir')
            args.save_dir.mkdir(parents=True, exist_ok=True)
            return train(args, start_run(args, dataset), dataset, validation, stop_request)
    except DistributedError as error:
        raise DistributedError(f'{error}. {RESUME}') from None


def train(args: argparse.Namespace, run: 'Run', dataset: CocoDataset, validation: CocoDataset | None,
          stop_request: StopRequest) -> int:
    """The training loop. Returns the exit status."""
    from training.setup import make_batches, open_log
    from training.step import training_step
    batches, log, evaluated = make_batches(run, dataset), open_log(args, run), run.start
    last_step = MAX_INT if run.recipe.minutes else run.recipe.steps
    run.network.train()
    loaded = batches.prefetch(run.start, last_step, args.num_workers, run.has_mosaics)
    for step, batch in enumerate(log.waiting_for(loaded), run.start + 1):
        result, epoch = training_step(run, batch, step, stop_request), batches.epoch(step)
        done = progress(run.recipe, step, run.seconds)
        log_step(log, run, step, epoch, result, batch, done)
        stops = result.stop_requested or too_many_skipped(log)
        evaluates = bool(validation) and not stops and (done >= 1 or evaluation_is_due(step, evaluated, batches, args))
        saves = stops or done >= 1 or step % args.save_interval == 0
        if saves or evaluates:
            save_and_evaluate(run, validation if evaluates else None, log, step, epoch, saves, stop_request)
        evaluated = step if evaluates else evaluated
        if stops or done >= 1 or evaluates and stops_early(run, batches, log, step, epoch, args.patience):
            break
    log.close()
    if too_many_skipped(log) or log.mean_loss() is None and not result.stop_requested:
        raise UserError(f'the loss was not finite in {pluralize(log.skipped_in_a_row, "step")} in a row; look at the '
                        'images named above, or resume the last checkpoint with a lower --lr')
    if not result.stop_requested:
        return 0
    if run.is_main_process and run.last_checkpoint and done < 1:
        print_lines('to go on:', command_to_go_on(args, run.last_checkpoint))
    return 128 + (stop_request.signal or signal.SIGTERM)


def log_step(log: Log, run: 'Run', step: int, epoch: int, result: 'StepResult', batch: Batch, done: float) -> None:
    """Log what a step came to, and the images that could not be read."""
    log.problems(batch.problems)
    if result.finite:
        log.step(step, epoch, run.optimizer.get_lr(), result.losses, result.gradient_norm, done)
    else:
        log.skip(step, result.losses, batch.image_ids)


def save_and_evaluate(run: 'Run', validation: CocoDataset | None, log: Log, step: int, epoch: int, saves: bool,
                      stop_request: StopRequest) -> None:
    """Save a checkpoint, if `saves`, and evaluate, if there is a validation set, in the main process.

    The other processes wait. In an all-reduce they would not wait that long, and the launcher ends all processes when
    one has ended.
    """
    from system.distributed import TIMEOUT, barrier
    with log.paused():
        if saves and run.is_main_process:
            save(run, log, step, epoch)
        if validation and run.is_main_process:
            evaluate_and_save_best(run, validation, log, step, epoch, stop_request)
        barrier(TIMEOUT)


def too_many_skipped(log: Log) -> bool:
    """Whether to give the run up."""
    return log.skipped_in_a_row == MAX_SKIPPED_IN_A_ROW


def stops_early(run: 'Run', batches: Batches, log: Log, step: int, epoch: int, patience: int) -> bool:
    """Whether the best mask AP is `patience` epochs old, which then is said, and a checkpoint saved; 0 for never."""
    if not patience:
        return False
    import paddle

    from system.distributed import all_reduce
    best = best_step(run)  # only the main process knows one
    over = best is not None and epoch - batches.epoch(best) >= patience
    if over:
        print_lines(f'stopping: the mask AP has not risen for {pluralize(patience, "epoch")}')
        save(run, log, step, epoch)
    return bool(all_reduce(paddle.to_tensor(float(over))))


def evaluation_is_due(step: int, evaluated: int, batches: Batches, args: argparse.Namespace) -> bool:
    """Whether an epoch, and enough steps if epochs are short, have ended since the last evaluation."""
    min_interval = min(MIN_EVALUATION_INTERVAL, args.save_interval)
    return batches.epoch(step) > batches.epoch(evaluated) and step - evaluated >= min_interval


def save(run: 'Run', log: Log, step: int, epoch: int) -> None:
    """Save a checkpoint, unless all steps so far were skipped."""
    loss = log.mean_loss()
    if loss is not None:
        save_and_prune(run, step, epoch, loss)


def evaluate_and_save_best(run: 'Run', validation: CocoDataset, log: Log, step: int, epoch: int,
                           stop_request: StopRequest) -> None:
    """Print and log the AP, and save the checkpoint apart if it is the best of the run."""
    evaluated = validate(run, validation, stop_request)
    if evaluated is None:
        print_lines('the evaluation is interrupted')
        return
    metrics, problems = evaluated
    assert metrics.box and metrics.mask  # those of a predictor; a file of results may lack one
    print_lines(metrics.table())
    log.problems(problems)
    log.write(step, box_ap=metrics.box['AP'], mask_ap=metrics.mask['AP'])
    save_best(run, step, epoch, metrics.mask['AP'])


def validate(run: 'Run', validation: CocoDataset,
             stop_request: StopRequest) -> tuple[AveragePrecision, list[str]] | None:
    """Evaluate the network, or its EMA if there is one, and put it back to training.

    Returns:
        Metrics, and a line for each image that cannot be read; None if a stop is requested meanwhile.
    """
    from engines.paddle_engine import PaddleEngine
    with run.ema.in_place() if run.ema else contextlib.nullcontext():
        predictor = Predictor(PaddleEngine(run.network, validation.classes))
        try:
            with stop_request.immediately():
                return evaluate(predictor, validation, workers=default_workers())
        except Stopped:
            return None
        finally:
            run.network.train()


if __name__ == '__main__':
    with contextlib.redirect_stderr(lossy(sys.stderr)):
        command.run(main)
