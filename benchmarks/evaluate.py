"""What eval.py costs beside the network: reading, detections, masks, run lengths and judging, of 640x480 images.

    python -m benchmarks.evaluate

The network is made to know its answer, 100 detections an image, after a nap as long as a GPU would need.
"""
import argparse
import json
import resource
import tempfile
import time
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
from prediction.pipeline import predict_dataset, split_into_batches
from prediction.predictor import Predictor, Thresholds
from system.arguments import nonnegative_int, positive_int
from system.cpu import default_workers
from tests.golden.golden_inputs import predictions
from tools.scene import draw_scene

DRAWN = 20  # images, each of which is read many times
CORES, WORKERS = 8, 6  # to work it out for, and as many processes as there would be


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=positive_int, default=1000, help='(default: %(default)s)')
    parser.add_argument('--network', type=float, default=15, help='ms an image (default: %(default)s)')
    parser.add_argument('--num_workers', type=nonnegative_int, default=default_workers(),
                        help='(default here: %(default)s)')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(Path(folder), args.images)
        idle = evaluate(Napping(0), dataset, args.num_workers)
        busy = evaluate(Napping(args.network / 1000), dataset, args.num_workers)
    print(f'{args.images} images, {args.num_workers} processes beside the main one; per image:')
    print(f'{idle["wall"]:6.2f} ms without a network, which is {1000 / idle["wall"]:.0f} images a second')
    print(f'{busy["wall"]:6.2f} ms with a network of {args.network:g} ms, which has {args.network / busy["wall"]:.0%}')
    print(f'{idle["main"]:6.2f} ms of a core in the main thread, {idle["others"]:.2f} ms in other threads and in '
          f'processes, {idle["last"]:.2f} ms after the last image')
    # The main thread takes turns with the network; the others, and all after the last image, share the other cores.
    each = max(args.network + idle['main'], idle['others'] / WORKERS) + idle['last'] / WORKERS
    print(f'{each:6.2f} ms on {CORES} cores, of which the network has {args.network / each:.0%}')


def make_dataset(folder, images):
    """Drawn images, each many times, with made-up objects."""
    for number in range(DRAWN):
        drawn = draw_scene(number, WIDTH, HEIGHT).image
        write_image(folder / f'{number}.jpg', drawn)
    truth, *_ = make_up(images, np.random.default_rng(0), detections=0)
    for image in truth['images']:
        image['file_name'] = f'{image["id"] % DRAWN}.jpg'
    path = folder / 'annotations.json'
    path.write_text(json.dumps(truth))
    return CocoDataset(path, folder)


class Napping(Predictor):
    """A predictor whose network knows its answer."""

    def __init__(self, seconds):
        self.config, self.thresholds, self._seconds = preset('resnet50dcn'), Thresholds(), seconds
        cells = anchors(self.config)
        made = predictions(len(cells), self.config.prototype_size)
        likely = np.flatnonzero((made['conf'][:, 1:] > 0.05).any(1))
        boxes = decode(*map(paddle.to_tensor, (made['loc'], cells))).numpy()
        self._answer = boxes[likely], made['conf'][likely], made['mask'][likely], made['proto']

    def forward(self, inputs):
        np.stack(inputs)
        time.sleep(self._seconds * len(inputs))
        return [self._answer] * len(inputs)

    def rescore(self, small, masks=None):
        masks = small.masks
        return small.rescored(np.ones((len(masks), self.config.num_classes - 1), np.float32))


def evaluate(predictor, dataset, workers):
    """Milliseconds an image: wall; and of a core main, others, and last, which is what follows all images."""
    began, main, used = time.perf_counter(), time.thread_time(), processor_time()
    batches = split_into_batches(dataset.images, 1)
    described = [evaluated for evaluated, _ in tqdm(
        predict_dataset(predictor, batches, ImageEvaluator(dataset), workers), total=len(batches))]
    main, others, used = time.thread_time() - main, processor_time() - used, processor_time()
    assert all(described)  # no image was left out
    average_precision(dataset, [one for evaluated in described for one, _ in evaluated], workers)
    seconds = {'wall': time.perf_counter() - began, 'main': main, 'others': others - main,
               'last': processor_time() - used}
    return {name: 1000 * value / len(dataset) for name, value in seconds.items()}


def processor_time():
    """Seconds of a core that this process has used, and those of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


if __name__ == '__main__':
    main()
