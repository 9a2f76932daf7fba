"""COCO's metrics of a made-up set the size of val2017: judged an image at a time, and by pycocotools alone.

    python -m benchmarks.average_precision
"""
import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.coco import CocoDataset
from evaluation.evaluate import evaluate_results
from system.arguments import nonnegative_int, positive_int
from system.cpu import default_workers

HEIGHT, WIDTH, CLASSES = 480, 640, 80
OBJECTS_A_IMAGE, DETECTIONS_A_IMAGE = 7.2, 100


def main():
    """Print how long each takes, and how far apart their metrics are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=positive_int, default=5000, help='(default: %(default)s)')
    parser.add_argument('--num_workers', type=nonnegative_int, default=default_workers(),
                        help='(default here: %(default)s)')
    args = parser.parse_args()
    images = args.images
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'annotations.json'
        truth, boxes, masks = make_up(images, np.random.default_rng(0))
        path.write_text(json.dumps(truth))
        print(f'{images} images, {len(truth["annotations"])} objects, {len(boxes)} detections')
        dataset = CocoDataset(path, folder)
        began = time.perf_counter()
        metrics = evaluate_results(dataset, boxes, masks, workers=args.num_workers)
        ours = time.perf_counter() - began
        began = time.perf_counter()
        theirs = [by_pycocotools(path, boxes, 'bbox'), by_pycocotools(path, masks, 'segm')]
        seconds = time.perf_counter() - began
    apart = np.abs(np.subtract([list(metrics.box.values()), list(metrics.mask.values())], theirs)).max()
    print(f'boxes and masks: {ours:.1f} s here, {seconds:.1f} s by pycocotools: {seconds / ours:.1f} times; '
          f'metrics within {apart:.0e}; box AP {metrics.box["AP"]:.3f}, mask AP {metrics.mask["AP"]:.3f}')


def make_up(images, rng, detections=DETECTIONS_A_IMAGE):
    """A COCO annotation file, and results of boxes and of masks: some near an object, most anywhere."""
    outlines = [outline(rng) for _ in range(2000)]
    annotations, boxes, masks = [], [], []
    for image_id in range(1, images + 1):
        there = [(rng.integers(len(outlines)), int(rng.integers(1, CLASSES + 1)))
                 for _ in range(rng.poisson(OBJECTS_A_IMAGE))]
        for number, label in there:
            rle, box = outlines[number]
            annotations.append({'id': len(annotations) + 1, 'image_id': image_id, 'category_id': label, 'bbox': box,
                                'iscrowd': 0, 'area': float(mask_api.area(rle)), 'segmentation': as_text(rle)})
        usual = list({label for _, label in there}) or [1]
        for _ in range(detections):
            if there and rng.random() < 0.1:
                number, label = there[rng.integers(len(there))]
            else:
                number, label = rng.integers(len(outlines)), int(rng.choice(usual))
            rle, box = outlines[number]
            entry = {'image_id': image_id, 'category_id': label, 'score': float(rng.random())}
            boxes.append({**entry, 'bbox': box})
            masks.append({**entry, 'segmentation': as_text(rle)})
    truth = {'images': [{'id': id, 'file_name': f'{id}.jpg', 'height': HEIGHT, 'width': WIDTH}
                        for id in range(1, images + 1)],
             'categories': [{'id': id, 'name': f'class {id}'} for id in range(1, CLASSES + 1)],
             'annotations': annotations}
    return truth, boxes, masks


def outline(rng):
    """The mask of something with 30 corners, and its box."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, 30))
    radius = rng.uniform(0.7, 1, 30) * np.exp(rng.uniform(np.log(8), np.log(200)))
    corners = np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None] + rng.random(2) * (WIDTH, HEIGHT)
    rle, = mask_api.frPyObjects([corners.clip(0, (WIDTH, HEIGHT)).ravel().tolist()], HEIGHT, WIDTH)
    if not mask_api.area(rle):
        return outline(rng)
    return rle, [round(side, 1) for side in mask_api.toBbox(rle).tolist()]


def as_text(rle):
    return {**rle, 'counts': rle['counts'].decode('ascii')}


def by_pycocotools(path, entries, kind):
    """The twelve metrics."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        judge = COCOeval(truth, truth.loadRes([dict(entry) for entry in entries]), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats


if __name__ == '__main__':
    main()
