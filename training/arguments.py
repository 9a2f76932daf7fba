"""The flags of train.py."""
import argparse
import os

from model.config import PRESETS
from system.arguments import boolean, decay, fraction, nonempty_path, nonnegative_int, positive, positive_int
from training.recipe import AUGMENTATIONS, BOX_LOSSES, CONF_LOSSES, SCHEDULES

CONVERTED = './pretrained_resnet50dcn'


def training_arguments(argv=None):
    """The flags of train.py, from the command line unless they are given."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Train YOLACT++ on a COCO-style dataset. Classes come from the annotations.',
        epilog='examples:\n'
               '  from scratch, on COCO under ../COCO:\n'
               '    python train.py --pattern=0 --conf_loss=ce_loss\n'
               '  finetune converted weights:\n'
               '    python train.py --pattern=1 --model_path=./pretrained_resnet50dcn --initial_step=800000 '
               '--steps=830000\n'
               '  go on from a checkpoint of an earlier run:\n'
               '    python train.py --pattern=1 --model_path=weights/step0010000-ep003-loss5.715.pd')
    _run_flags(parser.add_argument_group('run'))
    _loss_flags(parser.add_argument_group('losses'))
    _network_flags(parser.add_argument_group('network'))
    _data_flags(parser.add_argument_group('data'))
    args = parser.parse_args(argv)
    if args.pattern == 0 and args.model_path:
        parser.error('--pattern=0 starts from scratch and takes no --model_path; to go on from those weights use '
                     '--pattern=1, to start another network from them --backbone_weights')
    if args.pattern == 1 and args.backbone_weights:
        parser.error('--pattern=1 goes on from --model_path and takes no --backbone_weights; use --pattern=0')
    args.model_path = args.model_path or CONVERTED
    return args


def _run_flags(group):
    group.add_argument('--pattern', type=int, choices=(0, 1), default=1,
                       help='0: train from scratch; 1: go on from --model_path (default: %(default)s)')
    group.add_argument('--model_path',
                       help=f'folder of the checkpoint that --pattern=1 goes on from (default: {CONVERTED})')
    group.add_argument('--backbone_weights',
                       help='folder of the weights that --pattern=0 starts from: a backbone, as 1_pytorch2paddle.py '
                            'makes it of ImageNet weights, or a whole checkpoint of the same network, whatever its '
                            'classes, of which all is taken but the layers that tell classes apart (default: none, '
                            'random weights)')
    group.add_argument('--initial_step', type=nonnegative_int,
                       help="step to start at (default: the checkpoint's own, or 0)")
    group.add_argument('--steps', type=positive_int, help="step to stop at (default: the checkpoint's run's; 900000)")
    group.add_argument('--batch_size', type=positive_int,
                       help="images a step, of each process (default: the checkpoint's run's; 8)")
    group.add_argument('--lr', type=positive,
                       help="peak of the learning rate (default: the checkpoint's run's; 1e-3 for 8 images from "
                            'scratch, in proportion for more or fewer; 1e-4 from converted weights)')
    group.add_argument('--lr_schedule', choices=SCHEDULES,
                       help='steps: to a tenth at 35, 75, 87.5 and 93.75%% of --steps (or of 800000 of 8 images, if '
                            'that is less), as published; cosine: to zero along a cosine, good for short runs '
                            "(default: the checkpoint's run's; steps from scratch, constant from converted weights)")
    group.add_argument('--freeze_bn', type=boolean, metavar='{true,false}',
                       help="keep batch normalisation as it is (default: the checkpoint's run's; else true where the "
                            'backbone is trained and --batch_size is under 6, as published)')
    group.add_argument('--ema', type=decay, metavar='DECAY',
                       help='also average the weights over the run, 0.999 or so of the average staying in each step; '
                            "the average is what predicts (default: the checkpoint's run's; 0, no average)")
    group.add_argument('--seed', type=nonnegative_int,
                       help='of the first weights, the order of images and their augmentation (default: the '
                            "checkpoint's run's; 0)")
    group.add_argument('--use_gpu', type=boolean, metavar='{true,false}',
                       help='compute on the GPU or on the CPU (default: a GPU if there is one)')
    group.add_argument('--amp', choices=('O0', 'O1'), default='O0',
                       help='O1: half precision where it is safe, which needs a GPU: bfloat16 if it has that, else '
                            'float16 with scaled gradients (default: %(default)s, single precision)')
    group.add_argument('--num_workers', type=nonnegative_int, default=min(os.cpu_count() or 1, 8),
                       help='processes that load images; 0 loads them between steps (default here: %(default)s)')
    group.add_argument('--save_dir', type=nonempty_path, default='weights',
                       help='folder for checkpoints, of which the newest 15 are kept (default: %(default)s)')
    group.add_argument('--save_interval', type=positive_int, default=1000,
                       help='steps between checkpoints (default: %(default)s)')
    group.add_argument('--log_interval', type=positive_int, default=20,
                       help='steps between lines, where there is no terminal to draw a bar on, and in '
                            '--save_dir/log.jsonl (default: %(default)s)')
    group.add_argument('--visualdl', action='store_true',
                       help='also write the log for VisualDL, into --save_dir/visualdl (default: off)')


def _loss_flags(group):
    group.add_argument('--conf_loss', choices=CONF_LOSSES,
                       help='class loss: ce_loss over all anchors; ohem_loss over those that find objects and the '
                            'hardest background; focal_loss and ghm_c_loss for each class by itself, the hard ones '
                            "first, or all difficulties alike (default: the checkpoint's run's; ohem_loss from "
                            'scratch, ce_loss from converted weights)')
    group.add_argument('--box_loss', choices=BOX_LOSSES,
                       help="(default: the checkpoint's run's; smooth_l1 from scratch, ciou from converted weights)")
    group.add_argument('--pos_threshold', type=fraction,
                       help="an anchor is to find an object from this IoU on (default: the checkpoint's run's; 0.5)")
    group.add_argument('--neg_threshold', type=fraction,
                       help="and is background under this one (default: the checkpoint's run's; 0.4)")
    group.add_argument('--negpos_ratio', type=positive_int,
                       help='background anchors for each that finds an object, in ohem_loss (default: the '
                            "checkpoint's run's; 3)")


def _network_flags(group):
    group.add_argument('--backbone_name', choices=PRESETS,
                       help='resnet50dcn, resnet101dcn: YOLACT++; resnet50, resnet101, darknet53: YOLACT; '
                            "resnet18dcn_half: a small YOLACT++ for laptops (default: the checkpoint's; resnet50dcn "
                            'from scratch)')
    group.add_argument('--num_classes', type=int,
                       help='with background; an error if the annotations disagree (default: what they say)')
    group.add_argument('--input_size', type=int,
                       help="side of the input in pixels, 256 to 1100 (default: the checkpoint's; 550 from scratch)")
    group.add_argument('--mask_dim', type=positive_int,
                       help="number of prototypes (default: the checkpoint's; 32 from scratch)")


def _data_flags(group):
    for split, folder in (('train', 'train2017'), ('valid', 'val2017')):
        group.add_argument(f'--{split}_images_path', default=f'../COCO/{folder}',
                           help='folder of images (default: %(default)s)')
        group.add_argument(f'--{split}_anno_path', default=f'../COCO/annotations/instances_{folder}.json',
                           help='their annotations in COCO format (default: %(default)s)')
    group.add_argument('--augmentation', choices=AUGMENTATIONS,
                       help='how images are varied; full: expanded, cropped, mirrored, other colours, as published; '
                            'light: the last two, which learns faster in short runs from scratch (default: the '
                            "checkpoint's run's; full)")
    group.add_argument('--eval', action='store_true',
                       help='print box and mask AP on the validation images after each epoch, but no more often than '
                            'every 100 steps or --save_interval, and keep the best checkpoint apart (default: off)')
