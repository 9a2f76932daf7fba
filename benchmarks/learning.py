"""Mask AP that the recipe own_data reaches on a dataset within a budget of CPU minutes, in one thread.

    python -m benchmarks.learning FOLDER --minutes 30 --seeds 0 1 2

FOLDER holds train/, val/ and perhaps test/, and annotations/ with train.json, val.json and perhaps test.json in COCO's
format. The command of docs/own_data.md trains on train; the last checkpoint is evaluated by pycocotools on the images
of val and test together. The clock is that of the process, so other load on the machine does not matter.
"""
import os

os.environ.update(dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS'), '1'))  # before any library starts threads

import argparse  # noqa: E402
import contextlib  # noqa: E402
import io  # noqa: E402
import json  # noqa: E402
import shlex  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from pycocotools.coco import COCO  # noqa: E402
from pycocotools.cocoeval import COCOeval  # noqa: E402

import train  # noqa: E402
import training.run  # noqa: E402
from data.coco import CocoDataset  # noqa: E402
from evaluation.results import to_coco  # noqa: E402
from prediction import Predictor  # noqa: E402
from prediction.pipeline import predict_dataset, split_into_batches  # noqa: E402
from system.arguments import nonnegative_int, positive_float  # noqa: E402

SCORE_THRESHOLD = 0.001  # as the peers are evaluated
TEST_IDS = 10 ** 9  # is added to the ids of test images, which may be those of val


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--minutes', type=positive_float, default=30, help='of CPU time (default: %(default)s)')
    parser.add_argument('--seeds', type=nonnegative_int, nargs='+', default=[0], help='(default: 0)')
    parser.add_argument('--scratch', action='store_true', help='start from random weights (default: the bundled ones)')
    parser.add_argument('--out', type=Path, help='folder for checkpoints and results (default: a temporary one)')
    parser.add_argument('--flags', type=shlex.split, default=[], help='more flags for train.py, as one word')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    training.run.now = time.process_time
    with tempfile.TemporaryDirectory() as temporary:
        out = args.out or Path(temporary)
        ground_truth = merge(args.folder, out)
        rows = [measure(args, seed, ground_truth, out / f'seed{seed}') for seed in args.seeds]
    mean, spread = np.mean(rows, 0), np.ptp(rows, 0)
    print(f'{args.folder.name}, {args.minutes:g} CPU minutes, {len(rows)} seeds: mask AP {mean[0]:.3f} '
          f'(spread {spread[0]:.3f}), AP50 {mean[1]:.3f}, AP75 {mean[2]:.3f}')


def measure(args: argparse.Namespace, seed: int, ground_truth: Path, out: Path) -> tuple[float, float, float]:
    """Train and evaluate with one seed. Returns AP, AP50 and AP75 of masks."""
    began = time.process_time()
    status = train.main([
        '--recipe=own_data', f'--minutes={args.minutes}', f'--seed={seed}', f'--save_dir={out}', '--num_workers=0',
        f'--train_images_path={args.folder / "train"}', f'--train_anno_path={args.folder / "annotations/train.json"}',
        *(['--backbone_weights=none'] if args.scratch else []), *args.flags])
    assert status == 0
    minutes = (time.process_time() - began) / 60
    checkpoint = max(out.glob('step*.pd'))
    dataset = CocoDataset(ground_truth, args.folder)
    predictor = Predictor.open(checkpoint, 'cpu', score_threshold=SCORE_THRESHOLD)
    results: list[dict[str, Any]] = []
    for entries, problems in predict_dataset(predictor, split_into_batches(dataset.images, 1), Describe(dataset)):
        assert not problems, problems
        results += [entry for masks in entries for entry in masks]
    ap, ap50, ap75 = evaluate(ground_truth, results)
    print(f'{args.folder.name}, seed {seed}: {minutes:.1f} CPU minutes, {int(checkpoint.name[4:11])} steps: '
          f'mask AP {ap:.3f}, AP50 {ap50:.3f}, AP75 {ap75:.3f} on {len(dataset)} images', flush=True)
    return ap, ap50, ap75


class Describe:
    """Makes results of masks from the detections of an image."""

    def __init__(self, dataset: CocoDataset) -> None:
        self._classes = dataset.classes

    def __call__(self, image: Any, detections: Any) -> list[dict[str, Any]]:
        return to_coco(detections, image.id, self._classes, 'mask')


def merge(folder: Path, out: Path) -> Path:
    """One annotation file of val and, where it exists, test, whose file names begin with the name of the split."""
    merged: dict[str, list[dict[str, Any]]] = {'images': [], 'annotations': [], 'categories': []}
    for split, shift in (('val', 0), ('test', TEST_IDS)):
        path = folder / f'annotations/{split}.json'
        if not path.exists():
            continue
        content = json.loads(path.read_text())
        merged['categories'] = content['categories']
        merged['images'] += [{**image, 'id': image['id'] + shift, 'file_name': f'{split}/{image["file_name"]}'}
                             for image in content['images']]
        merged['annotations'] += [
            {**annotation, 'id': len(merged['annotations']) + number, 'image_id': annotation['image_id'] + shift}
            for number, annotation in enumerate(content['annotations'], 1)]
    out.mkdir(parents=True, exist_ok=True)
    (out / 'ground_truth.json').write_text(json.dumps(merged))
    return out / 'ground_truth.json'


def evaluate(ground_truth: Path, results: list[dict[str, Any]]) -> tuple[float, float, float]:
    """AP, AP50 and AP75 of masks by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(ground_truth))
        evaluation = COCOeval(coco, coco.loadRes(results), 'segm')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ap, ap50, ap75, *_ = evaluation.stats.tolist()
    return ap, ap50, ap75


if __name__ == '__main__':
    main()
