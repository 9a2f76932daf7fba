"""Predictions on all images of a dataset as results files for COCO's server. A stopped run resumes."""
import hashlib
import json
import shutil
import sys
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from data.annotation_file import ImageRecord
from data.coco import CocoDataset
from evaluation.results import to_coco, write_results
from model.classes import Classes
from model.postprocess import Detections
from prediction.pipeline import predict_dataset, split_into_batches
from prediction.predictor import Predictor
from system.files import check_output, replacing
from system.journal import Journal
from system.progress import progress_bar


class BatchResults(TypedDict):
    """What the journal holds of a batch: entries of both results files, and a line for each image left out."""
    mask: list[dict[str, Any]]
    box: list[dict[str, Any]]
    problems: list[str]


@dataclass(frozen=True)
class Describer:
    """An image's detections as entries of masks and as entries of boxes."""
    classes: Classes

    def __call__(self, image: ImageRecord, detections: Detections) -> tuple[list[dict], list[dict]]:
        return (to_coco(detections, image.id, self.classes, 'mask'), to_coco(detections, image.id, self.classes, 'box'))


def results_files(out: Path) -> dict[str, Path]:
    """The file of each kind of results, 'mask' and 'box'."""
    stem, end = (out.stem[:-8], '_results') if out.stem.endswith('_results') else (out.stem, '')
    return {'mask': out, 'box': out.with_name(f'{stem}_bbox{end}{out.suffix}')}


def check_outputs(out: Path, inputs: Sequence[Path]) -> None:
    """Make sure that the files can be written later, and are none of the inputs. Errors as of `check_output`."""
    for path in results_files(out).values():
        check_output(path, inputs)
        check_output(path.with_suffix('.zip'), inputs)


def fingerprint(settings: object, files: Iterable[Path]) -> str:
    """Changes with whatever changes the predictions.

    Args:
        settings: what JSON can hold: thresholds, batch size, folder of images, engine.
        files: weights and annotations.
    """
    digest = hashlib.sha256(json.dumps(settings).encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def write_submission(predictor: Predictor, dataset: CocoDataset, out: Path, key: str, batch_size: int = 1,
                     workers: int = 0, rank: int = 0, world_size: int = 1) -> list[str]:
    """Predict on this process's share of the images; the main process then writes the files.

    Args:
        predictor: `Predictor` of the dataset's classes.
        dataset: the images.
        out: results file of masks. Beside it the results so far are kept, in a folder that ends in .parts.
        key: `fingerprint`; results with another one are not used.
        batch_size, workers: as of `predict_dataset`.
        rank, world_size: of this process.
    Returns:
        A line for each image that is left out; in the main process.
    """
    from system.distributed import barrier  # imports Paddle, which takes seconds
    batches = split_into_batches(dataset.images, batch_size)
    journal: Journal[BatchResults] = Journal(out.with_name(f'.{out.name}.{key}.parts'))
    finished = journal.finished()
    if finished and rank == 0:
        print(f'Resuming: {sum(len(batches[number]) for number in finished)} of {len(dataset)} images are done',
              file=sys.stderr)
    _predict_share(predictor, dataset, journal, batches, range(rank, len(batches), world_size), finished, workers, rank)
    barrier()
    problems: list[str] = []
    if rank == 0:
        problems = _write_files(out, journal, range(len(batches)))
        journal.remove()
    barrier()  # the launcher ends all processes when one has ended
    return problems


def _predict_share(predictor: Predictor, dataset: CocoDataset, journal: Journal[BatchResults],
                   batches: list[list[ImageRecord]], share: Sequence[int], finished: set[int], workers: int,
                   rank: int) -> None:
    """Predict on the batches of a share that are not finished, with a progress bar in the main process."""
    todo = [number for number in share if number not in finished]
    total, left = (sum(len(batches[number]) for number in numbers) for numbers in (share, todo))
    predictions = predict_dataset(predictor, (batches[number] for number in todo), Describer(dataset.classes), workers)
    writer = journal.open(rank)
    with progress_bar(total, 'images', initial=total - left, shown=rank == 0) as bar:
        for number, (described, problems) in zip(todo, predictions):
            results: BatchResults = {'mask': [entry for masks, _ in described for entry in masks],
                                     'box': [entry for _, boxes in described for entry in boxes], 'problems': problems}
            writer.write(number, results, final=not problems)  # images may be repaired meanwhile
            bar.update(len(described) + len(problems))
    writer.close()


def _write_files(out: Path, journal: Journal[BatchResults], numbers: Sequence[int]) -> list[str]:
    """All results in the order of the images, as JSON and zipped. Returns a line for each image that is left out."""
    files = results_files(out)
    write_results(files['mask'], (entry for results in journal.read(numbers) for entry in results['mask']))
    write_results(files['box'], (entry for results in journal.read(numbers) for entry in results['box']))
    for path in files.values():
        _write_zip(path)
    return [problem for results in journal.read(numbers) for problem in results['problems']]


def _write_zip(path: Path) -> None:
    """A .zip of a file beside it, always of the same bytes."""
    member = zipfile.ZipInfo(path.name)  # dated 1980
    member.compress_type, member.file_size = zipfile.ZIP_DEFLATED, path.stat().st_size
    with replacing(path.with_suffix('.zip'), 'wb') as file, zipfile.ZipFile(file, 'w') as archive:
        with open(path, 'rb') as source, archive.open(member, 'w') as target:
            shutil.copyfileobj(source, target, 1 << 20)
