"""Seconds to compute COCO's metrics for a synthetic dataset of the size of val2017, here and with pycocotools.

    python -m benchmarks.average_precision
"""
import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.coco import CocoDataset
from evaluation.evaluate import evaluate_results
from system.arguments import nonnegative_int, positive_int
from system.cpu import default_workers

HEIGHT, WIDTH, CLASSES = 480, 640, 80
OBJECTS_PER_IMAGE, DETECTIONS_PER_IMAGE = 7.2, 100

Results = list[dict[str, Any]]  # of COCO's results format


def main() -> None:
    """Print how long each takes, and the largest difference between their metrics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=positive_int, default=5000, help='(default: %(default)s)')
    parser.add_argument('--num_workers', type=nonnegative_int, default=default_workers(),
                        help='(default here: %(default)s)')
    args = parser.parse_args()
    images = args.images
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'annotations.json'
        ground_truth, boxes, masks = make_up(images, np.random.default_rng(0))
        path.write_text(json.dumps(ground_truth))
        print(f'{images} images, {len(ground_truth["annotations"])} objects, {len(boxes)} detections')
        dataset = CocoDataset(path, folder)
        began = time.perf_counter()
        metrics = evaluate_results(dataset, boxes, masks, workers=args.num_workers)
        ours = time.perf_counter() - began
        began = time.perf_counter()
        theirs = [by_pycocotools(path, boxes, 'bbox'), by_pycocotools(path, masks, 'segm')]
        seconds = time.perf_counter() - began
    assert metrics.box is not None and metrics.mask is not None
    difference = np.abs(np.subtract([list(metrics.box.values()), list(metrics.mask.values())], theirs)).max()
    print(f'boxes and masks: {ours:.1f} s here, {seconds:.1f} s by pycocotools: {seconds / ours:.1f} times; '
          f'metrics within {difference:.0e}; box AP {metrics.box["AP"]:.3f}, mask AP {metrics.mask["AP"]:.3f}')


def make_up(images: int, rng: np.random.Generator,
            detections: int = DETECTIONS_PER_IMAGE) -> tuple[dict[str, Any], Results, Results]:
    """The content of a COCO annotation file, and results of boxes and of masks. A tenth of them are true positives."""
    outlines = [outline(rng) for _ in range(2000)]
    annotations: list[dict[str, Any]] = []
    boxes: Results = []
    masks: Results = []
    for image_id in range(1, images + 1):
        objects = [(rng.integers(len(outlines)), int(rng.integers(1, CLASSES + 1)))
                   for _ in range(rng.poisson(OBJECTS_PER_IMAGE))]
        for number, label in objects:
            rle, box = outlines[number]
            annotations.append({'id': len(annotations) + 1, 'image_id': image_id, 'category_id': label, 'bbox': box,
                                'iscrowd': 0, 'area': float(mask_api.area(rle)), 'segmentation': as_text(rle)})
        usual = list({label for _, label in objects}) or [1]
        for _ in range(detections):
            if objects and rng.random() < 0.1:
                number, label = objects[rng.integers(len(objects))]
            else:
                number, label = rng.integers(len(outlines)), int(rng.choice(usual))
            rle, box = outlines[number]
            entry = {'image_id': image_id, 'category_id': label, 'score': float(rng.random())}
            boxes.append({**entry, 'bbox': box})
            masks.append({**entry, 'segmentation': as_text(rle)})
    ground_truth = {
        'images': [{'id': id, 'file_name': f'{id}.jpg', 'height': HEIGHT, 'width': WIDTH}
                   for id in range(1, images + 1)],
        'categories': [{'id': id, 'name': f'class {id}'} for id in range(1, CLASSES + 1)],
        'annotations': annotations}
    return ground_truth, boxes, masks


def outline(rng: np.random.Generator) -> tuple[Any, list[float]]:
    """The RLE of a random polygon with 30 corners, and its box, x y width height."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, 30))
    radius = rng.uniform(0.7, 1, 30) * np.exp(rng.uniform(np.log(8), np.log(200)))
    corners = np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None] + rng.random(2) * (WIDTH, HEIGHT)
    rle, = mask_api.frPyObjects([corners.clip(0, (WIDTH, HEIGHT)).ravel().tolist()], HEIGHT, WIDTH)
    if not mask_api.area(rle):
        return outline(rng)
    return rle, [round(side, 1) for side in mask_api.toBbox(rle).tolist()]


def as_text(rle: Any) -> dict[str, Any]:
    """A compressed RLE as JSON holds it."""
    return {**rle, 'counts': rle['counts'].decode('ascii')}


def by_pycocotools(path: Path, results: Results, kind: Literal['bbox', 'segm']) -> np.ndarray:
    """The twelve metrics, as pycocotools computes them."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(str(path))
        evaluation = COCOeval(ground_truth, ground_truth.loadRes([dict(entry) for entry in results]), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


if __name__ == '__main__':
    main()
