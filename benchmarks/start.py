"""Seconds from the command to the image with masks: all of demo.py, on one image, with each engine by turns.

    python -m benchmarks.start
"""
import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model_path', default=ROOT / 'weights/shapes.pd')
    parser.add_argument('--image', default=ROOT / 'images/test/shapes_2000004.jpg')
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {'onnx': [], 'paddle': []}
    for _ in range(args.rounds + 1):
        for engine, times in seconds.items():
            times.append(demo(args, engine))
    for engine, (first, *others) in seconds.items():
        print(f'{engine:<7}{min(others):5.2f} s; the first time {first:.2f} s')


def demo(args: argparse.Namespace, engine: str) -> float:
    """Run demo.py. Returns the seconds that it takes."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run([sys.executable, ROOT / 'demo.py', '--model_path', args.model_path, '--images', args.image,
                        '--out', folder, '--engine', engine], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


if __name__ == '__main__':
    main()
