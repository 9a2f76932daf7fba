"""Exporting: other programs compute what Paddle computes, and what fails leaves nothing."""
import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

import export
from data.images import read_image
from engines.errors import EngineError
from engines.export import ExportedLayer, check_onnx, compare_with_paddle, to_onnx
from engines.onnx_engine import OnnxFiles
from engines.selection import open_engine
from model.checkpoint import load_checkpoint, save_checkpoint
from prediction import Predictor
from system.command import exit_status
from tests.helpers import ROOT, run
from tests.helpers.engines import (
    IMAGES,
    SHIPPED,
    assert_close_detections,
    detections_of,
    needs_onnx,
    paddle_detections,
    small_checkpoint,
)


def export_error(capsys: pytest.CaptureFixture[str], *flags: object) -> str:
    """The one line that export.py prints when it exits with 2."""
    assert exit_status(export.main, [str(flag) for flag in flags]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count('\n')) == ('', 1)
    return err.removeprefix('export.py: error: ')


@needs_onnx
def test_an_onnx_file_stands_for_its_checkpoint(tmp_path: Path) -> None:
    assert export.main(['--model_path', str(SHIPPED), '--out', str(tmp_path / 'new/mine.onnx')]) == 0
    assert sorted(path.name for path in (tmp_path / 'new').iterdir()) == ['mine.onnx', 'mine_mask_iou.onnx']
    predictor = Predictor.open(tmp_path / 'new/mine.onnx', score_threshold=0.3)
    assert_close_detections(detections_of(predictor), paddle_detections(SHIPPED))
    assert predictor.classes == Predictor.open(SHIPPED, 'cpu', 'paddle').classes


@needs_onnx
def test_the_program_of_the_docs_finds_what_the_scripts_find(tmp_path: Path) -> None:
    program, = re.findall(r'```python\n(.+?)```', (ROOT / 'docs/deployment.md').read_text(), re.DOTALL)
    (tmp_path / 'program.py').write_text(program)
    assert export.main(['--model_path', str(SHIPPED), '--out', str(tmp_path / 'x.onnx'), '--with_nms']) == 0
    done = run(sys.executable, '-I', 'program.py', 'x.onnx', IMAGES[0], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, '')
    predictor = Predictor.open(SHIPPED, 'cpu')
    found, = predictor([read_image(IMAGES[0])])
    found = found.select((found.box_scores > 0.3) & np.array([mask.any() for mask in found.masks]))
    lines = done.stdout.splitlines()
    assert len(lines) == len(found) > 3
    for i, line in enumerate(lines):
        match = re.fullmatch(r'(\w+) (\S+) (\[.+\]) (\d+)', line)
        assert match
        label, score, box, area = match.groups()
        assert label == predictor.classes.names[found.classes[i]]
        assert float(score) == pytest.approx(found.box_scores[i], abs=1e-4)
        height, width = found.size
        np.testing.assert_allclose(np.clip(json.loads(box), 0, [width, height] * 2), found.boxes[i], atol=0.51)
        assert int(area) == pytest.approx(found.full_mask(i).sum(), rel=0.01, abs=2)


def test_paddle_inference_takes_the_exported_folder(tmp_path: Path) -> None:
    out = tmp_path / 'new'
    assert export.main(['--model_path', str(SHIPPED), '--format', 'paddle', '--out', str(out)]) == 0
    metadata = json.loads((out / 'about.json').read_text())
    assert json.loads(metadata['classes'])['names'][0] == 'ring'
    program, = (path for path in out.glob('network.*') if path.suffix in ('.json', '.pdmodel'))
    config = paddle.inference.Config(str(program), str(out / 'network.pdiparams'))
    for option in ('disable_mkldnn', 'disable_glog_info'):
        getattr(config, option, lambda: None)()
    predictor = paddle.inference.create_predictor(config)
    image = export.read_input(IMAGES[0], 320)[None]
    predictor.get_input_handle('images').copy_from_cpu(image)
    predictor.run()
    found = [predictor.get_output_handle(name).copy_to_cpu()[0] for name in predictor.get_output_names()]
    expected, = open_engine(SHIPPED, 'cpu', 'paddle').predict(image, score_threshold=-1)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.ptp(theirs))


def test_an_export_that_gives_other_numbers_fails() -> None:
    rng = np.random.default_rng(0)
    boxes, prototypes = expected = [rng.random((2, 5, 4)), rng.random((2, 3, 3, 2))]
    layer = ExportedLayer(nn.Identity(), 'images', np.zeros(0), expected, ('boxes', 'prototypes'))
    compare_with_paddle(expected, layer)
    for wrong in ([boxes + 2e-4, prototypes], [boxes, prototypes * np.nan]):
        with pytest.raises(EngineError, match='gives other (boxes|prototypes) than Paddle'):
            compare_with_paddle(wrong, layer)


@needs_onnx
def test_an_export_that_onnx_runtime_refuses_fails() -> None:
    checkpoint = small_checkpoint()
    network, mask_iou_net = to_onnx(checkpoint, 'small')
    with pytest.raises(EngineError, match='ONNX Runtime refuses the exported network'):
        check_onnx(OnnxFiles(network[:1000], mask_iou_net), checkpoint, 'small')


@needs_onnx
@pytest.mark.parametrize('with_nms', [False, True])
def test_an_onnx_file_that_gives_other_numbers_is_noticed(with_nms: bool) -> None:
    checkpoint = load_checkpoint(SHIPPED)
    files = to_onnx(checkpoint, SHIPPED, with_nms, winograd=True)
    check_onnx(files, checkpoint, SHIPPED, with_nms=with_nms)
    for name in ('proto_net.10.bias', 'maskiou_net.maskiou_net.10.bias'):
        changed = {**checkpoint.tensors, name: checkpoint.tensors[name] + np.float32(0.1)}
        with pytest.raises(EngineError, match='gives other (prototypes|mask_iou) than Paddle'):
            check_onnx(files, dataclasses.replace(checkpoint, tensors=changed), SHIPPED, with_nms=with_nms)


def test_what_cannot_be_exported_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    existing = tmp_path / 'there'
    existing.mkdir()
    for format in ('paddle', 'half'):
        assert export_error(capsys, '--model_path', SHIPPED, '--format', format, '--out', existing).startswith(
            f'{existing}: exists')
    missing, misnamed = tmp_path / 'none', tmp_path / 'x'
    assert export_error(capsys, '--model_path', missing).startswith(f'{missing}: no such checkpoint')
    assert export_error(capsys, '--model_path', SHIPPED, '--out', misnamed).startswith(
        f'{misnamed}: must end in .onnx')


@pytest.mark.parametrize('flags, message', [
    (['--format', 'paddle', '--winograd'], '--winograd goes only with --format onnx'),
    (['--format', 'half', '--with_nms'], '--with_nms goes only with --format onnx and --format paddle'),
    (['--picture', 'x.jpg'], '--picture is now --image')])
def test_flags_that_do_not_go_together_or_have_new_names_are_refused(
        flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match='^2$'):
        export.main(['--model_path', str(SHIPPED), *flags])
    assert capsys.readouterr().err.splitlines()[-1].endswith(f': error: {message}')


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('engines.export.TOLERANCE', 0)
    out = tmp_path / 'new/x'
    assert 'gives other ' in export_error(capsys, '--model_path', SHIPPED, '--format', 'paddle', '--out', out)
    assert list((tmp_path / 'new').iterdir()) == []


@needs_onnx
def test_a_folder_that_takes_no_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'file').touch()
    out = tmp_path / 'file/x.onnx'
    assert export_error(capsys, '--model_path', SHIPPED, '--out', out).startswith(f'{tmp_path / "file"}: File exists')


@needs_onnx
def test_an_export_leaves_nothing_of_an_earlier_one_beside_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / 'one.pd', small_checkpoint())
    other = small_checkpoint(rescore_masks=False)
    save_checkpoint(tmp_path / 'other.pd', other)
    for name in ('one.pd', 'other.pd'):
        assert export.main(['--model_path', str(tmp_path / name), '--out', str(tmp_path / 'x.onnx')]) == 0
    assert sorted(path.name for path in tmp_path.glob('x*')) == ['x.onnx']
    assert open_engine(tmp_path / 'x.onnx').config == other.config
