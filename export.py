"""Make a checkpoint ready to hand on: the weights alone, in half precision, an eighth of what training keeps."""
import argparse
import sys

from command_line import given_path, run
from model.checkpoint import CheckpointError, halve, load_checkpoint, save_checkpoint


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        description='Write the weights of a checkpoint in half precision, without what training would need to go on '
                    'exactly. It predicts, evaluates and can be finetuned like any other checkpoint.',
        epilog='example: python export.py --model_path weights/step0010000-ep003-loss5.715.pd --out weights/mine.pd')
    parser.add_argument('--model_path', required=True, help='folder of the checkpoint')
    parser.add_argument('--out', type=given_path, required=True, help='folder to write, which must not exist')
    return parser.parse_args(argv)


def main(argv=None):
    """Write the smaller checkpoint. Returns the exit status."""
    args = parse_arguments(argv)
    try:
        if args.out.exists():
            raise CheckpointError(f'{args.out}: exists; remove it or name another --out')
        save_checkpoint(args.out, halve(load_checkpoint(args.model_path)))
    except CheckpointError as error:
        print(f'export.py: error: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        print(f'export.py: error: {args.out}: cannot be written ({error.strerror})', file=sys.stderr)
        return 2
    size = sum(path.stat().st_size for path in args.out.iterdir())
    print(f'Wrote {args.out}, {size / 1e6:.1f} MB')
    return 0


if __name__ == '__main__':
    run(main)
