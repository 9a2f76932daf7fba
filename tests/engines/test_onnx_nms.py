import numpy as np

from engines.onnx_engine import open_session
from engines.onnx_graph import Graph
from engines.onnx_nms import add_fast_nms, detections_of
from model.nms import fast_nms
from tests.helpers.engines import needs_onnx
from tests.helpers.outputs import made_outputs

pytestmark = needs_onnx


def found_by_graph(parts: list[np.ndarray]) -> list[np.ndarray]:
    """Boxes, classes, scores and coefficients in two images, of which the second has the anchors in reverse."""
    graph, names = Graph(), ('boxes', 'scores', 'coefficients')
    for name, part in zip(names, parts):
        graph.input(name, *part.shape)
    anchors, classes = parts[1].shape[0], parts[1].shape[1] - 1
    count, found = detections_of(anchors, classes), add_fast_nms(graph, *names, anchors, classes)
    for name, shape, dtype in (('boxes', (count, 4), 'float32'), ('classes', (count,), 'int64'),
                               ('scores', (count,), 'float32'), ('coefficients', (count, 32), 'float32')):
        graph.output(f'found_{name}', getattr(found, name), *shape, dtype=dtype)
    session = open_session(graph.file('nms', {}))
    return session.run(None, {name: np.stack([part, part[::-1]]) for name, part in zip(names, parts)})


def test_it_keeps_what_fast_nms_keeps() -> None:
    made = made_outputs('resnet50')
    parts = [made[name] for name in ('boxes', 'scores', 'coefficients')]
    boxes, labels, scores, coefficients = found_by_graph(parts)
    likely = np.flatnonzero((made['scores'][:, 1:] > 0.05).any(1))
    kept, expected_labels, expected_scores = fast_nms(made['boxes'][likely], made['scores'][likely, 1:])
    for image in range(2):
        np.testing.assert_array_equal(labels[image], expected_labels)
        np.testing.assert_array_equal(scores[image], expected_scores)
        np.testing.assert_array_equal(boxes[image], made['boxes'][likely[kept]])
        np.testing.assert_array_equal(coefficients[image], made['coefficients'][likely[kept]])


def test_unused_rows_are_zero() -> None:
    rng = np.random.default_rng(0)
    boxes = np.tile(np.float32([[0.1, 0.1, 0.2, 0.2]]), (7, 1))
    scores = np.zeros((7, 3), np.float32)
    scores[[1, 2, 3, 4], [1, 1, 2, 2]] = [0.5, 0.6, 0.04, 0.9]
    parts = [boxes, scores, rng.standard_normal((7, 32), np.float32)]
    boxes, labels, scores, coefficients = (part[0] for part in found_by_graph(parts))
    assert scores.shape == (14,) and (scores[:2] == np.float32([0.9, 0.6])).all()
    np.testing.assert_array_equal(labels[:2], [1, 0])
    np.testing.assert_array_equal(coefficients[:2], parts[2][[4, 2]])
    assert not any(part[2:].any() for part in (boxes, labels, scores, coefficients))
