"""Memory and open files over many training samples, and over many predictions. Neither may grow.

    python -m benchmarks.memory

Memory is what the process and its workers share with no other process. It is measured over the second half, when caches
are full. The exit status is 1 if it grows by more than 1 MB per thousand.
"""
import argparse
import gc
import itertools
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil

WEIGHTS = Path(__file__).parent.parent / 'weights/shapes.pd'
MEASUREMENTS = 40
MAX_GROWTH = 1.0  # MB per thousand

Work = Generator[object, None, None]  # yields after each piece of work


def main() -> int:
    """Print the growth of memory. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--samples', type=int, default=20_000, help='training samples to make (default: %(default)s)')
    parser.add_argument('--predictions', type=int, default=5_000, help='(default: %(default)s)')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs: list[tuple[str, Callable[[str], Work], str, int]] = [
            ('training samples', samples, folder, args.samples),
            *((f'predictions with {engine}', predictions, engine, args.predictions) for engine in ('onnx', 'paddle'))]
        grown = [in_new_process(growth, *run) > MAX_GROWTH for run in runs]
    return int(any(grown))


def in_new_process(function: Callable[..., float], *arguments: Any) -> float:
    """What a function returns in a new process, in which no memory is left over from other work."""
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        return pool.submit(function, *arguments).result()


def growth(title: str, begin: Callable[[str], Work], argument: str, number: int) -> float:
    """MB per thousand pieces of work by which memory grows in the second half of them.

    Infinite if processes are left behind. It is printed too.

    Args:
        title: what the work is.
        begin: a generator function of the argument, which yields after each piece of work.
        argument: of `begin`.
        number: of pieces of work.
    """
    work, every = begin(argument), max(number // MEASUREMENTS, 1)
    positions: list[int] = []
    megabytes: list[float] = []
    files: int | None = None
    for i, _ in enumerate(itertools.islice(work, number), 1):
        if i % every == 0 and i >= number // 2:
            positions.append(i)
            megabytes.append(memory())
            files = files or open_files()
    assert files is not None  # as the last piece of work is measured
    slope = 1000 * np.polyfit(positions, megabytes, 1)[0]
    opened = open_files() - files
    work.close()
    gc.collect()
    children = psutil.Process().children(recursive=True)
    print(f'{number} {title}: {megabytes[-1]:.0f} MB, {slope:+.2f} MB per thousand, {opened:+d} open files, '
          f'{len(children)} processes left behind', flush=True)
    return slope if not children else np.inf


def processes() -> list[psutil.Process]:
    """This process and its workers."""
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


def memory() -> float:
    """MB that this process and its workers share with no other process."""
    return sum(process.memory_full_info().uss for process in processes()) / 1e6


def open_files() -> int:
    """Number of open file descriptors of this process and its workers."""
    return sum(process.num_fds() for process in processes())


def samples(folder: str) -> Work:
    """Makes training samples of images of 800x600 in two workers."""
    from data.coco import CocoDataset
    from data.loader import Batches
    from model.config import preset
    from tools.shapes import write_split
    write_split(folder, 'train', 50, width=800, height=600)
    dataset = CocoDataset(Path(folder) / 'annotations/instances_train.json', Path(folder) / 'train')
    batches = Batches(dataset, preset('resnet18dcn_half', num_classes=len(dataset.classes) + 1, input_size=256), 8)
    prefetched = batches.prefetch(0, 10 ** 9, 2)
    assert isinstance(prefetched, Generator)
    try:
        for batch in prefetched:
            yield from batch.image_ids
    finally:
        prefetched.close()


def predictions(engine: str) -> Work:
    """Predicts for images of fifty sizes again and again: with ever new sizes, memory would grow with the largest."""
    from prediction import Predictor
    predictor, rng, images = Predictor.open(WEIGHTS, 'cpu', engine), np.random.default_rng(0), []
    for height, width in rng.integers(50, 800, (50, 2)):
        noise = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
        images.append(np.kron(noise, np.ones((8, 8, 1), np.uint8))[:height, :width])
    for image in itertools.cycle(images):
        yield predictor([image])


if __name__ == '__main__':
    sys.exit(main())
