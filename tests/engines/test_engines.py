"""Every engine finds the same objects, and the one that is fit is chosen."""
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.engine import Engine
from engines.errors import EngineError
from engines.export import to_onnx
from engines.onnx_engine import OnnxEngine
from engines.paddle_engine import PaddleEngine
from engines.selection import open_engine
from model.checkpoint import Checkpoint, tensors_of
from model.classes import COCO
from model.yolact import Yolact
from prediction import Predictor
from system.errors import UserError
from tests.helpers import ROOT, run
from tests.helpers.engines import (
    IMAGES,
    SHIPPED,
    assert_close_detections,
    cache_of,
    copy_of_shipped,
    detections_of,
    needs_onnx,
    paddle_detections,
)
from tests.helpers.golden import NETWORKS, assert_same_detections, golden, inputs
from tests.helpers.networks import golden_network
from tests.helpers.outputs import unfiltered


@pytest.fixture(scope='module', params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope='module')
def network(name: str) -> Yolact:
    network = golden_network(name)
    network.eval()
    return network


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return copy_of_shipped(tmp_path)


def assert_golden_detections(engine: Engine, name: str) -> None:
    found, = unfiltered(Predictor(engine), inputs.image(480, 640))
    assert_same_detections(found, golden(name), swapped=1 if name == 'darknet53' else 0)


@needs_onnx
def test_golden_detections_through_onnx_runtime(name: str, network: Yolact) -> None:
    engine = OnnxEngine(to_onnx(Checkpoint(network.config, COCO, tensors_of(network)), 'golden', winograd=True),
                        'golden')
    assert_golden_detections(engine, name)
    assert (engine.config, engine.classes) == (network.config, COCO)


def test_golden_detections_through_a_compiled_network(name: str, network: Yolact) -> None:
    assert_golden_detections(PaddleEngine(network, COCO, compiled=True), name)


@pytest.mark.parametrize('engine', [pytest.param('onnx', marks=needs_onnx), 'paddle'])
def test_the_same_image_gives_the_same_bits(engine: str) -> None:
    first, second = (detections_of(Predictor.open(SHIPPED, 'cpu', engine)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        for field in ('classes', 'boxes', 'box_scores', 'mask_scores'):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
        assert all((mask == same).all() for mask, same in zip(one.masks, other.masks, strict=True))


@needs_onnx
def test_bfloat16_finds_nearly_the_same() -> None:
    openvino = pytest.importorskip('openvino')
    if 'BF16' not in openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
        with pytest.raises(UserError, match='this CPU does not compute in bfloat16'):
            open_engine(SHIPPED, 'cpu', precision='bf16')
        return
    single, half = (detections_of(Predictor.open(SHIPPED, 'cpu', precision=precision, score_threshold=0.7))
                    for precision in ('fp32', 'bf16'))
    for ours, theirs in zip(half, single):
        assert abs(len(ours) - len(theirs)) <= 2
        np.testing.assert_allclose(ours.boxes[0], theirs.boxes[0], atol=3)
        assert ours.box_scores[0] == pytest.approx(theirs.box_scores[0], abs=0.02)
    assert any((ours.boxes[0] != theirs.boxes[0]).any() for ours, theirs in zip(half, single))


@needs_onnx
def test_a_checkpoint_is_exported_once_and_needs_no_paddle(weights: Path) -> None:
    code = ('import sys, demo; status = demo.main(sys.argv[1:]); '
            'print("onnx" in sys.modules, "paddle" in sys.modules); sys.exit(status)')
    flags = ['--model_path', weights, '--images', IMAGES[0], '--out', weights.parent / 'out']
    for imported in ('True False', 'False False'):
        done = run(sys.executable, '-c', code, *flags)
        assert (done.returncode, done.stderr) == (0, '')
        assert done.stdout.splitlines()[-1] == imported
    assert_close_detections(detections_of(Predictor.open(weights, 'cpu', score_threshold=0.3)),
                            paddle_detections(weights))


@needs_onnx
def test_a_demo_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """From command to first mask it takes a second or so, and importing Paddle alone would take two."""
    flags = ['--images', str(IMAGES[0]), '--out', str(tmp_path)]
    open_engine(SHIPPED, 'cpu')
    code = 'import sys, demo; demo.main(sys.argv[1:]); print(*sys.modules)'
    modules = subprocess.run([sys.executable, '-c', code, *flags], cwd=ROOT, capture_output=True,
                             text=True).stdout.split()
    assert 'onnxruntime' in modules
    assert not {'paddle', 'torch', 'matplotlib', 'scipy', 'onnx'} & set(modules)


@pytest.fixture
def conversion_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise EngineError('onnx is not installed')
    monkeypatch.setattr('engines.onnx_cache.to_onnx', fail)


@pytest.mark.usefixtures('conversion_fails')
def test_without_onnx_paddle_predicts_unless_the_user_asked_for_onnx(weights: Path) -> None:
    assert isinstance(open_engine(weights, 'cpu'), PaddleEngine)
    for engine, precision in (('onnx', 'fp32'), (None, 'bf16'), ('onnx', 'bf16')):
        with pytest.raises(UserError) as caught:
            open_engine(weights, 'cpu', engine, precision)
        assert str(caught.value) == f'{weights}: cannot be made ready for the CPU: onnx is not installed'
    assert not cache_of(weights).exists()


def test_paddle_is_no_way_around_an_error_of_the_weights(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UserError(f'{weights}: lacks a tensor')
    monkeypatch.setattr('engines.onnx_cache.to_onnx', fail)
    with pytest.raises(UserError, match='weights.pd: lacks a tensor$'):
        open_engine(weights, 'cpu')


def test_engines_and_devices_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    onnx_file = tmp_path / 'x.onnx'
    combinations: list[tuple[Path, str | None, str | None, str]] = [
        (onnx_file, None, 'paddle', 'fp32'), (onnx_file, 'gpu', None, 'fp32'), (SHIPPED, 'gpu', 'onnx', 'fp32'),
        (SHIPPED, 'cpu:0', None, 'fp32'), (SHIPPED, 'cpu', None, 'amp'), (SHIPPED, 'cpu', 'paddle', 'amp'),
        (SHIPPED, 'cpu', 'paddle', 'bf16')]
    for path, device, engine, precision in combinations:
        with pytest.raises(UserError):
            open_engine(path, device, engine, precision)
    with pytest.raises(UserError, match='cannot be read'):
        open_engine(onnx_file)
