"""The cache of a checkpoint as ONNX."""
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.export import to_onnx
from engines.onnx_cache import KEY, MASK_IOU_NET, NETWORK
from engines.selection import open_engine
from model.checkpoint import save_checkpoint
from prediction import Predictor
from tests.helpers.engines import (
    assert_close_detections,
    cache_of,
    copy_of_shipped,
    detections_of,
    needs_onnx,
    paddle_detections,
    small_checkpoint,
)
from tests.helpers.networks import SMALL

pytestmark = needs_onnx


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return copy_of_shipped(tmp_path)


def damage(cache: Path) -> None:
    content = bytearray(cache.read_bytes())
    content[len(content) // 2] ^= 255
    cache.write_bytes(content)


def truncate(cache: Path) -> None:
    cache.write_bytes(cache.read_bytes()[:-1000])


def empty(cache: Path) -> None:
    cache.write_bytes(b'')


def change_compression_method(cache: Path) -> None:
    """In the directory of the zip file, to one that zipfile does not know."""
    content = bytearray(cache.read_bytes())
    content[content.index(b'PK\1\2') + 10] = 1
    cache.write_bytes(content)


def rename_an_entry(cache: Path) -> None:
    cache.write_bytes(cache.read_bytes().replace(b'mask_iou.onnx', b'mask_iov.onnx'))


def exchange(cache: Path) -> None:
    """For the cache of another network."""
    files = to_onnx(small_checkpoint(), 'small')
    with zipfile.ZipFile(cache, 'w') as archive:
        for name, content in zip((KEY, NETWORK, MASK_IOU_NET), (b'its own key', *files)):
            assert content is not None
            archive.writestr(name, content)


@pytest.mark.parametrize('spoil', [damage, truncate, empty, change_compression_method, rename_an_entry, exchange])
def test_a_cache_that_is_damaged_or_of_other_weights_is_made_again(weights: Path,
                                                                   spoil: Callable[[Path], None]) -> None:
    open_engine(weights, 'cpu')
    good = cache_of(weights).stat().st_size
    spoil(cache_of(weights))
    assert_close_detections(detections_of(Predictor.open(weights, 'cpu', score_threshold=0.3)),
                            paddle_detections(weights))
    with zipfile.ZipFile(cache_of(weights)) as archive:
        assert archive.testzip() is None
    assert cache_of(weights).stat().st_size == pytest.approx(good, rel=1e-3)


def test_a_cache_of_an_earlier_version_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / 'weights.pd'
    save_checkpoint(weights, small_checkpoint())
    monkeypatch.setattr('engines.onnx_cache.VERSION', 2)
    monkeypatch.setattr('engines.onnx_network.IMAGES', 'pictures')  # which version 2 called it
    open_engine(weights, 'cpu')
    earlier = cache_of(weights).read_bytes()
    open_engine(weights, 'cpu')
    assert b'pictures' in earlier and cache_of(weights).read_bytes() == earlier  # since the version is the same
    monkeypatch.undo()
    open_engine(weights, 'cpu')
    with zipfile.ZipFile(cache_of(weights)) as archive:
        assert b'pictures' not in archive.read(NETWORK)


def test_other_weights_in_the_same_place_are_noticed(weights: Path) -> None:
    open_engine(weights, 'cpu')
    save_checkpoint(weights, small_checkpoint())
    assert open_engine(weights, 'cpu').config.num_classes == SMALL['num_classes']


def test_a_cache_that_cannot_be_written_is_no_error(weights: Path) -> None:
    cache_of(weights).mkdir()
    assert_close_detections(detections_of(Predictor.open(weights, 'cpu', score_threshold=0.3)),
                            paddle_detections(weights))
    assert list(cache_of(weights).iterdir()) == []
