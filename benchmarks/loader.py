"""Training samples per second and core: images of 800x600 with nine objects, read, augmented and matched.

    python -m benchmarks.loader
    python -m benchmarks.loader --public ../yolact     # beside the public code, which needs PyTorch
    python -m benchmarks.loader --augmentation strong --mosaic 1 --copy_paste 1 --input_size 320
    python -m benchmarks.loader --samples 20000        # and memory and speed of worker processes over so many
"""
import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from benchmarks.public_code import augmentation, open_public_code, public_module
from benchmarks.turns import Contestants, take_turns

if TYPE_CHECKING:
    from data.loader import Batches

IMAGES, OBJECTS, WIDTH, HEIGHT = 40, 9, 800, 600
BATCH = 8
MEASUREMENTS = 10  # of memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--public', help='folder of a checkout of the public code to compare with')
    parser.add_argument('--augmentation', help='another one to time beside the published one, such as strong')
    parser.add_argument('--mosaic', type=float, help='of that (default: its own)')
    parser.add_argument('--copy_paste', type=float, help='of that (default: its own)')
    parser.add_argument('--input_size', type=int, default=550, help='pixels (default: %(default)s)')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--samples', type=int, help='also watch memory over so many samples')
    parser.add_argument('--workers', type=int, default=2, help='processes that make those (default: %(default)s)')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder)
        published: tuple[Any, ...] = folder, args.input_size, 'full', {}
        contestants: Contestants = {'ours': (our_samples, True, *published),
                                    'ours, without matching': (our_samples, False, *published)}
        if args.augmentation:
            other = folder, args.input_size, args.augmentation, vars(args)
            contestants = {f'ours, {args.augmentation}': (our_samples, True, *other),
                           f'ours, {args.augmentation}, without matching': (our_samples, False, *other), **contestants}
        if args.public:
            contestants['public code, without matching'] = public_samples, args.public, folder
        rates = {name: IMAGES / seconds for name, seconds in take_turns(contestants, args.rounds).items()}
        print(f'samples per second on one core, best of {args.rounds} times {IMAGES}')
        for name, rate in rates.items():
            print(f'{rate:7.1f}  {rate / list(rates.values())[-1]:5.2f}  {name}')
        if args.samples:
            watch_memory(our_batches(*published), args.samples, args.workers)


def write_dataset(folder: Path) -> None:
    """Write images of blurred noise, with polygons of thirty corners as objects."""
    rng = np.random.default_rng(0)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(IMAGES):
        image = cv2.resize(rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8), (WIDTH, HEIGHT))
        images.append(dict(id=number, file_name=f'{number}.jpg', width=WIDTH, height=HEIGHT))
        for _ in range(OBJECTS):
            radii = rng.uniform(20, 100, 2)
            angles = np.linspace(0, 2 * np.pi, 30, endpoint=False)
            corners = rng.uniform(radii, (WIDTH, HEIGHT) - radii) + radii * rng.uniform(0.6, 1, (30, 1)) * np.stack(
                [np.cos(angles), np.sin(angles)], 1)
            cv2.fillPoly(image, [corners.astype(int)], rng.integers(0, 256, 3).tolist())
            (x, y), (right, bottom) = corners.min(0), corners.max(0)
            annotations.append(dict(id=len(annotations) + 1, image_id=number, iscrowd=0,
                                    category_id=int(rng.integers(1, 12)), bbox=[x, y, right - x, bottom - y],
                                    area=(right - x) * (bottom - y) / 2, segmentation=[corners.flatten().tolist()]))
        cv2.imwrite(str(folder / f'{number}.jpg'), image)
    categories = [dict(id=number, name=str(number)) for number in range(1, 12)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (folder / 'annotations.json').write_text(json.dumps(content))


def our_batches(folder: Path, input_size: int, name: str, changes: Mapping[str, Any]) -> 'Batches':
    """Batches with the augmentation of a name, and changes of it."""
    from data.augmentation import choose_augmentation
    from data.coco import CocoDataset
    from data.loader import Batches
    from model.config import preset
    dataset = CocoDataset(folder / 'annotations.json', folder)
    config = preset('resnet50dcn', num_classes=len(dataset.classes) + 1, input_size=input_size)
    return Batches(dataset, config, BATCH, augmentation=choose_augmentation(name, changes))


def our_samples(matched: bool, folder: Path, input_size: int, name: str,
                changes: Mapping[str, Any]) -> Callable[[], object]:
    """A callable that makes as many samples as there are images, matched with anchors or not."""
    from system.cpu import keep_memory
    cv2.setNumThreads(0)
    keep_memory()  # as worker processes do
    batches = our_batches(folder, input_size, name, changes)
    if not matched:
        setattr(batches, 'collate', lambda *_: None)  # noqa: B010  since mypy refuses to assign a method
    steps = iter(range(10 ** 9))
    return lambda: [batches[next(steps)] for _ in range(IMAGES // BATCH)]


def public_samples(checkout: str, folder: Path) -> Callable[[], object]:
    """The same for the public code."""
    open_public_code(checkout, 'resnet50dcn')
    import torch
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    dataset = public_module('data.coco').COCODetection(str(folder), str(folder / 'annotations.json'), augmentation())
    return lambda: [dataset[index] for index in range(IMAGES)]


def watch_memory(batches: 'Batches', samples: int, workers: int) -> None:
    """Print the memory of this process and its workers, and samples per second, as batches are made."""
    steps = samples // BATCH
    began, measured = time.perf_counter(), []
    for step, _ in enumerate(batches.prefetch(0, steps, workers), 1):
        if step % (steps // MEASUREMENTS) == 0:
            rate = step * BATCH / (time.perf_counter() - began)
            measured.append((step * BATCH / 1000, megabytes()))
            print(f'{step * BATCH:7d} samples  {rate:6.1f} per second in {workers} processes  '
                  f'{measured[-1][1]:7.1f} MB', flush=True)
    thousands, memory = np.array(measured[1:]).T  # without the first, by which memory is still being filled
    print(f'{np.polyfit(thousands, memory, 1)[0]:.2f} MB more every 1,000 samples')


def megabytes() -> float:
    """Memory of this process and its children, without what they share, in MiB."""
    import psutil
    this = psutil.Process()
    return sum(process.memory_full_info().uss for process in (this, *this.children())) / 2 ** 20


if __name__ == '__main__':
    main()
