"""Milliseconds of eval.py beside the network, for images of 640x480: reading, NMS, masks, RLE and matching.

    python -m benchmarks.evaluate

The network is a stand-in: it sleeps as long as a GPU would need, and returns outputs with 100 detections an image.
"""
import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import paddle
from tqdm import tqdm

from benchmarks.average_precision import HEIGHT, WIDTH, make_up
from data.coco import CocoDataset
from data.images import write_image
from evaluation.average_precision import average_precision
from evaluation.evaluate import ImageEvaluator
from model.anchors import anchors
from model.boxes import decode
from model.config import preset
from model.postprocess import LowResolutionDetections
from prediction.pipeline import predict_dataset, split_into_batches
from prediction.predictor import Predictor, Thresholds
from system.arguments import nonnegative_int, positive_int
from system.cpu import default_workers
from tests.golden.golden_inputs import predictions
from tools.scene import draw_scene

DRAWN_IMAGES = 20  # each of which is read many times
CORES, WORKERS = 8, 6  # of the machine to extrapolate to, and its number of worker processes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=positive_int, default=1000, help='(default: %(default)s)')
    parser.add_argument('--network', type=float, default=15, help='its milliseconds per image (default: %(default)s)')
    parser.add_argument('--num_workers', type=nonnegative_int, default=default_workers(),
                        help='(default here: %(default)s)')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(Path(folder), args.images)
        idle = evaluate(SleepingPredictor(0), dataset, args.num_workers)
        busy = evaluate(SleepingPredictor(args.network / 1000), dataset, args.num_workers)
    print(f'{args.images} images, {args.num_workers} processes beside the main one; per image:')
    print(f'{idle["wall"]:6.2f} ms without a network, which is {1000 / idle["wall"]:.0f} images a second')
    print(f'{busy["wall"]:6.2f} ms with a network of {args.network:g} ms, '
          f'which is {args.network / busy["wall"]:.0%} of it')
    print(f'{idle["main"]:6.2f} ms of a core in the main thread, {idle["others"]:.2f} ms in other threads and '
          f'processes, {idle["last"]:.2f} ms after the last image')
    # The main thread alternates with the network; other threads, and work after the last image, share the other cores.
    each = max(args.network + idle['main'], idle['others'] / WORKERS) + idle['last'] / WORKERS
    print(f'{each:6.2f} ms on {CORES} cores, of which the network is {args.network / each:.0%}')


def make_dataset(folder: Path, images: int) -> CocoDataset:
    """Drawn images, each listed many times, with synthetic ground truth."""
    for number in range(DRAWN_IMAGES):
        drawn = draw_scene(number, WIDTH, HEIGHT).image
        write_image(folder / f'{number}.jpg', drawn)
    ground_truth, *_ = make_up(images, np.random.default_rng(0), detections=0)
    for image in ground_truth['images']:
        image['file_name'] = f'{image["id"] % DRAWN_IMAGES}.jpg'
    path = folder / 'annotations.json'
    path.write_text(json.dumps(ground_truth))
    return CocoDataset(path, folder)


class SleepingPredictor(Predictor):
    """A predictor whose network sleeps for some seconds an image, and returns the same outputs for each."""

    def __init__(self, seconds: float) -> None:
        self.config, self.thresholds, self._seconds = preset('resnet50dcn'), Thresholds(), seconds
        cells = anchors(self.config)
        made = predictions(len(cells), self.config.prototype_size)
        likely = np.flatnonzero((made['conf'][:, 1:] > 0.05).any(1))
        boxes = decode(*map(paddle.to_tensor, (made['loc'], cells))).numpy()
        self._outputs = boxes[likely], made['conf'][likely], made['mask'][likely], made['proto']

    def forward(self, inputs: Sequence[np.ndarray]) -> list[tuple[np.ndarray, ...]]:
        np.stack(inputs)
        time.sleep(self._seconds * len(inputs))
        return [self._outputs] * len(inputs)

    def rescore(self, found: LowResolutionDetections, masks: np.ndarray | None = None) -> LowResolutionDetections:
        return found.rescored(np.ones((len(found.masks), self.config.num_classes - 1), np.float32))


def evaluate(predictor: Predictor, dataset: CocoDataset, workers: int) -> dict[str, float]:
    """Milliseconds per image: wall time; and CPU time of the main thread, of others, and after the last image."""
    began, main, used = time.perf_counter(), time.thread_time(), cpu_time()
    batches = split_into_batches(dataset.images, 1)
    evaluated = [batch for batch, _ in tqdm(
        predict_dataset(predictor, batches, ImageEvaluator(dataset), workers), total=len(batches))]
    main, others, used = time.thread_time() - main, cpu_time() - used, cpu_time()
    assert all(evaluated)  # no image was left out
    average_precision(dataset, [evaluation for batch in evaluated for evaluation, _ in batch], workers)
    seconds = {'wall': time.perf_counter() - began, 'main': main, 'others': others - main,
               'last': cpu_time() - used}
    return {name: 1000 * value / len(dataset) for name, value in seconds.items()}


def cpu_time() -> float:
    """CPU seconds of this process, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


if __name__ == '__main__':
    main()
