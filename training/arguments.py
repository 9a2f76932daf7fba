"""The flags of train.py."""
import argparse
import os

from data.arguments import add_allow_outside, add_augmentation_changes
from data.augmentation import AUGMENTATIONS
from model.config import PRESETS
from model.loss_names import BOX_LOSSES, CLASS_LOSSES
from system.arguments import (
    MAX_BATCH_SIZE,
    MAX_WORKERS,
    ArgumentParser,
    boolean,
    decay,
    fraction,
    int_in_range,
    nonempty,
    nonempty_path,
    nonnegative_float,
    nonnegative_int,
    positive_float,
    positive_int,
)
from training.checkpoints import CHECKPOINTS_KEPT
from training.recipe import LR_SCHEDULES, OPTIMIZERS, RECIPES

DEFAULT_CHECKPOINT = './pretrained_resnet50dcn'
DEFAULT_SAVE_DIR = 'weights'
NO_WEIGHTS = 'none'  # a value of --backbone_weights
PARTS = ('backbone', 'fpn', 'proto_net', 'prediction_layers')  # of the network


def training_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of train.py, from the command line unless they are given."""
    parser = ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Train YOLACT++ on a COCO-style dataset. Classes come from the annotations.',
        epilog='examples:\n'
               '  on your own images, with everything chosen for you (docs/own_data.md):\n'
               '    python train.py --recipe=own_data --minutes=60 --train_images_path=DIR '
               '--train_anno_path=FILE.json\n'
               '  from scratch, on COCO under ../COCO:\n'
               '    python train.py --pattern=0 --conf_loss=ce_loss\n'
               '  fine-tune converted weights:\n'
               '    python train.py --pattern=1 --model_path=./pretrained_resnet50dcn --initial_step=800000 '
               '--steps=830000\n'
               '  resume from a checkpoint of an earlier run:\n'
               '    python train.py --pattern=1 --model_path=weights/step0010000-ep003-loss5.715.pd')
    _add_run_flags(parser)
    _add_loss_flags(parser)
    _add_network_flags(parser)
    _add_data_flags(parser)
    args = parser.parse_args(argv)
    if args.pattern is None:
        args.pattern = 0 if args.recipe == 'own_data' and not args.model_path else 1
    args.recipe = args.recipe or ('finetuning' if args.pattern == 1 else 'published')
    if args.backbone_weights == NO_WEIGHTS and args.recipe != 'own_data':
        args.backbone_weights = None
    if args.pattern == 0 and args.model_path:
        parser.error('--pattern=0 starts from scratch and takes no --model_path; to resume from those weights use '
                     '--pattern=1, to start another network from them --backbone_weights')
    if args.pattern == 1 and args.backbone_weights:
        parser.error('--pattern=1 resumes from --model_path and takes no --backbone_weights; use --pattern=0')
    args.model_path = args.model_path or DEFAULT_CHECKPOINT
    return args


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('run')
    group.add_argument('--pattern', type=int, choices=(0, 1),
                       help='0: train from scratch; 1: resume from --model_path (default: 1; 0 for --recipe=own_data '
                            'without --model_path)')
    group.add_argument('--recipe', choices=RECIPES,
                       help='the defaults of all other flags. published: as YOLACT++ was trained on COCO; finetuning: '
                            'as the original port fine-tuned it; own_data: for your own images: chooses network, '
                            'weights to start from, input size, anchors and losses by dataset, device and budget, and '
                            'prints what it chose (default: published from scratch, finetuning for --pattern=1)')
    group.add_argument('--model_path',
                       help=f'folder of the checkpoint that --pattern=1 resumes from (default: {DEFAULT_CHECKPOINT})')
    group.add_argument('--backbone_weights', type=nonempty,
                       help='folder of the weights that --pattern=0 starts from: an ImageNet backbone converted by '
                            '1_pytorch2paddle.py, or a checkpoint of the same network with any classes, of which the '
                            'class-specific layers are not used; none: random weights (default: none; for '
                            '--recipe=own_data the bundled weights, or COCO weights on a GPU where there are some)')
    group.add_argument('--initial_step', type=nonnegative_int,
                       help="step to start at (default: the checkpoint's own, or 0)")
    budget = group.add_mutually_exclusive_group()
    budget.add_argument('--steps', type=positive_int,
                        help="step to stop at (default: the checkpoint's run's; 900000)")
    budget.add_argument('--epochs', type=positive_float, help='the same in passes over the training images')
    budget.add_argument('--minutes', type=positive_float,
                        help='minutes to stop after, evaluations included; the schedule ends then (default: the '
                             "checkpoint's run's; 30 for --recipe=own_data)")
    group.add_argument('--batch_size', type=int_in_range(1, MAX_BATCH_SIZE),
                       help="images per step and process (default: the checkpoint's run's; 8; 4 for "
                            '--recipe=own_data on a CPU)')
    group.add_argument('--lr', type=positive_float,
                       help="peak of the learning rate (default: the checkpoint's run's; 1e-3 from scratch with 8 "
                            'images per step, in proportion for more or fewer; 1e-4 from converted weights)')
    group.add_argument('--lr_schedule', choices=LR_SCHEDULES,
                       help='steps: divided by 10 at 35, 75, 87.5 and 93.75%% of --steps (or of 800000 steps of 8 '
                            'images, if that is less), as published; cosine: to zero along a cosine, good for short '
                            "runs (default: the checkpoint's run's; steps from scratch, constant from converted "
                            'weights)')
    group.add_argument('--optimizer', choices=OPTIMIZERS,
                       help="sgd: SGD with momentum 0.9, as published; adamw: AdamW, which learns faster in short runs "
                            "(default: the checkpoint's run's; sgd; adamw for --recipe=own_data)")
    group.add_argument('--weight_decay', type=fraction,
                       help="(default: the checkpoint's run's; 5e-4; 0.01 for --recipe=own_data)")
    group.add_argument('--clip_norm', type=nonnegative_float,
                       help='gradients whose norm together is larger are scaled down to it; 0: none are (default: the '
                            "checkpoint's run's; 0; 10 for --recipe=own_data)")
    group.add_argument('--freeze', nargs='+', choices=PARTS, metavar='PART',
                       help=f'parts of the network whose weights stay as they are: {", ".join(PARTS)} (default: none)')
    group.add_argument('--freeze_bn', type=boolean, metavar='{true,false}',
                       help="freeze batch norm's statistics, scale and shift (default: the checkpoint's run's; else "
                            'true where the backbone is pretrained and --batch_size is under 6, as published)')
    group.add_argument('--ema', type=decay, metavar='DECAY',
                       help='also keep an exponential moving average (EMA) of the weights with this decay, such as '
                            "0.999; the EMA is what predicts (default: the checkpoint's run's; 0, no EMA)")
    group.add_argument('--seed', type=nonnegative_int,
                       help='of the initial weights, the order of images and their augmentation (default: the '
                            "checkpoint's run's; 0)")
    group.add_argument('--use_gpu', type=boolean, metavar='{true,false}',
                       help='compute on the GPU or on the CPU (default: a GPU if there is one)')
    group.add_argument('--amp', choices=('O0', 'O1'), default='O0',
                       help='O1: mixed precision, which needs a GPU: bfloat16 if the GPU has it, else float16 with '
                            'loss scaling (default: %(default)s, single precision)')
    group.add_argument('--num_workers', type=int_in_range(0, MAX_WORKERS), default=min(os.cpu_count() or 1, 8),
                       help='worker processes that prefetch batches; 0 loads them between steps (default here: '
                            '%(default)s)')
    group.add_argument('--save_dir', type=nonempty_path, default=DEFAULT_SAVE_DIR,
                       help=f'folder for the log and for checkpoints, of which the newest {CHECKPOINTS_KEPT} are kept; '
                            'a folder for each run (default: %(default)s)')
    group.add_argument('--save_interval', type=positive_int, default=1000,
                       help='steps between checkpoints (default: %(default)s)')
    group.add_argument('--log_interval', type=positive_int, default=20,
                       help='steps between lines in --save_dir/log.jsonl, and on standard error where that is no '
                            'terminal (default: %(default)s)')
    group.add_argument('--visualdl', action='store_true',
                       help='also write the log for VisualDL, into --save_dir/visualdl (default: off)')


def _add_loss_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('losses')
    group.add_argument('--conf_loss', choices=CLASS_LOSSES,
                       help='class loss: ce_loss: cross entropy of all anchors; ohem_loss: cross entropy of the '
                            'positive anchors and the hardest background anchors; focal_loss, ghm_c_loss: binary cross '
                            'entropy of each class, weighted towards hard anchors or evenly over difficulties '
                            "(default: the checkpoint's run's; ohem_loss from scratch, ce_loss from converted weights)")
    group.add_argument('--box_loss', choices=BOX_LOSSES,
                       help="(default: the checkpoint's run's; smooth_l1 from scratch, ciou from converted weights)")
    group.add_argument('--box_weight', type=positive_float,
                       help="weight of the box loss (default: the checkpoint's run's; 1.5; 5 for --recipe=own_data)")
    group.add_argument('--balance_classes', type=boolean, metavar='{true,false}',
                       help='let the anchors of rare classes weigh more in the class loss, by one over the square root '
                            "of the number of objects (default: the checkpoint's run's; false)")
    group.add_argument('--pos_threshold', type=fraction,
                       help="IoU from which an anchor is positive (default: the checkpoint's run's; 0.5)")
    group.add_argument('--neg_threshold', type=fraction,
                       help="IoU below which an anchor is background (default: the checkpoint's run's; 0.4)")
    group.add_argument('--negpos_ratio', type=positive_int,
                       help='background anchors per positive anchor, in ohem_loss (default: the '
                            "checkpoint's run's; 3)")


def _add_network_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('network')
    group.add_argument('--backbone_name', choices=PRESETS,
                       help='resnet50dcn, resnet101dcn: YOLACT++; resnet50, resnet101, darknet53: YOLACT; '
                            "resnet18dcn_half: a small YOLACT++ for laptops (default: the checkpoint's; resnet50dcn "
                            'from scratch)')
    group.add_argument('--num_classes', type=int,
                       help='with background; an error if the annotations disagree (default: of the annotations)')
    group.add_argument('--input_size', type=int,
                       help="side of the input in pixels, 256 to 1100 (default: the checkpoint's; 550 from scratch)")
    group.add_argument('--mask_dim', type=positive_int,
                       help="number of prototypes (default: the checkpoint's; 32 from scratch)")


    group.add_argument('--fit_anchors', type=boolean, metavar='{true,false}',
                       help='fit the sizes and aspect ratios of the anchors to the objects of the training images '
                            '(default: false; true for --recipe=own_data)')
    group.add_argument('--anchor_sizes', type=positive_float, nargs=5, metavar='PIXELS',
                       help="of the five pyramid levels' anchors, for an input of 550 pixels (default: the "
                            "checkpoint's; 24 48 96 192 384 from scratch)")
    group.add_argument('--aspect_ratios', type=positive_float, nargs='+', metavar='RATIO',
                       help="of the anchors, width over height (default: the checkpoint's; 1 0.5 2 from scratch)")


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('data')
    for split, folder in (('train', 'train2017'), ('valid', 'val2017')):
        group.add_argument(f'--{split}_images_path', default=f'../COCO/{folder}',
                           help='folder of images (default: %(default)s)')
        group.add_argument(f'--{split}_anno_path', default=f'../COCO/annotations/instances_{folder}.json',
                           help='their annotations in COCO format (default: %(default)s)')
    add_allow_outside(group)
    group.add_argument('--augmentation', choices=AUGMENTATIONS,
                       help='full: random expansion, crop, flip and colours, as published; light: flip and colours '
                            'only, which learns faster in short runs from scratch; strong: these, with scale jitter, '
                            'mosaic and copy-paste, for long runs on few images (default: the '
                            "checkpoint's run's; full)")
    add_augmentation_changes(group)
    group.add_argument('--patience', type=nonnegative_int, default=0, metavar='EPOCHS',
                       help='with --eval: stop when the mask AP has not risen for so many epochs (default: 0, never)')
    group.add_argument('--eval', action='store_true',
                       help='print box and mask AP on the validation images after each epoch, but no more often than '
                            'every 100 steps or --save_interval, and save the best checkpoint apart (default: off)')
