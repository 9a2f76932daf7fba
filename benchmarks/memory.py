"""Memory and open files over many training samples, and over many predictions. Neither is to grow with them.

    python -m benchmarks.memory

Memory is what the process and its workers have to themselves. It is measured over the second half, in which nothing is
new any more. The exit status is 1 if it grows by more than a MB in a thousand.
"""
import argparse
import gc
import itertools
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil

WEIGHTS = Path(__file__).parent.parent / 'weights/shapes.pd'
MEASUREMENTS = 40
MOST = 1.0  # MB in a thousand


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--samples', type=int, default=20_000, help='to train on')
    parser.add_argument('--predictions', type=int, default=5_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = [('training samples', samples, folder, args.samples)]
        runs += [(f'predictions by {engine}', predictions, engine, args.predictions) for engine in ('onnx', 'paddle')]
        grown = [alone(growth, *run) > MOST for run in runs]
    return int(any(grown))


def alone(function, *arguments):
    """What a function returns in a new process. The memory that another one gave back would be used up slowly."""
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        return pool.submit(function, *arguments).result()


def growth(title, begin, argument, number):
    """MB in a thousand by which memory grows in the second half of a generator that yields after each piece of work."""
    work, every, places, megabytes = begin(argument), max(number // MEASUREMENTS, 1), [], []
    files = None
    for i, _ in enumerate(itertools.islice(work, number), 1):
        if i % every == 0 and i >= number // 2:
            places.append(i)
            megabytes.append(memory())
            files = files or handles()
    slope = 1000 * np.polyfit(places, megabytes, 1)[0]
    opened = handles() - files
    work.close()
    gc.collect()
    children = psutil.Process().children(recursive=True)
    print(f'{number} {title}: {megabytes[-1]:.0f} MB, {slope:+.2f} MB in a thousand, {opened:+d} open files, '
          f'{len(children)} processes left behind', flush=True)
    return slope if not children else np.inf


def everyone():
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def memory():
    """MB that the process and its workers share with nobody else."""
    return sum(process.memory_full_info().uss for process in everyone()) / 1e6


def handles():
    return sum(process.num_fds() for process in everyone())


def samples(folder):
    """Yields as often as samples are made, by two workers, of images of 800x600."""
    from data.coco import CocoDataset
    from data.loader import Batches
    from model.config import preset
    from tools.shapes import write_split
    write_split(folder, 'train', 50, width=800, height=600)
    dataset = CocoDataset(Path(folder) / 'annotations/instances_train.json', Path(folder) / 'train')
    batches = Batches(dataset, preset('resnet18dcn_half', num_classes=len(dataset.classes) + 1, input_size=256), 8)
    reading = batches.prefetch(0, 10 ** 9, 2)
    try:
        for batch in reading:
            yield from batch.image_ids
    finally:
        reading.close()


def predictions(engine):
    """Yields after each prediction, for images of fifty sizes by turns: any other might be the largest so far."""
    from prediction import Predictor
    predictor, rng, images = Predictor.open(WEIGHTS, 'cpu', engine), np.random.default_rng(0), []
    for height, width in rng.integers(50, 800, (50, 2)):
        noise = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
        images.append(np.kron(noise, np.ones((8, 8, 1), np.uint8))[:height, :width])
    for image in itertools.cycle(images):
        predictor([image])
        yield


if __name__ == '__main__':
    sys.exit(main())
