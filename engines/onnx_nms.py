"""Fast NMS in ONNX, for networks that are exported with it. It is `engines.nms_layer.FastNMS`, operator by operator."""
from typing import NamedTuple

import numpy as np

from engines.onnx_graph import Graph

SCORE_THRESHOLD, IOU_THRESHOLD, TOP_K, MAX_DETECTIONS = 0.05, 0.5, 200, 100  # as of `FastNMS`
FLOAT32, INT64 = 1, 7  # of onnx.TensorProto


class DetectionNames(NamedTuple):
    """Names of tensors, for d detections of each image, best first; unused rows are 0.

    Attributes:
        boxes: float32 [n, d, 4].
        classes: int64 [n, d], from 0, without background.
        scores: float32 [n, d].
        coefficients: float32 [n, d, mask_dim].
    """
    boxes: str
    classes: str
    scores: str
    coefficients: str


def detections_of(anchors: int, classes: int) -> int:
    """How many detections an image has."""
    return min(MAX_DETECTIONS, classes * min(TOP_K, anchors))


def add_fast_nms(graph: Graph, boxes: str, scores: str, coefficients: str, anchors: int,
                 classes: int) -> DetectionNames:
    """Add Fast NMS in each class by itself.

    Args:
        graph: to add to.
        boxes, scores, coefficients: names of tensors as of `Yolact.predict`.
        anchors, classes: their number, without background.
    """
    top_k = min(TOP_K, anchors)
    scores = graph.node('Slice', scores, [1], [classes + 1], [2])
    likely = _as_float(graph, graph.node('Greater', graph.node('ReduceMax', scores, [2]), SCORE_THRESHOLD))
    by_class = graph.node('Transpose', graph.node('Mul', scores, likely), perm=[0, 2, 1])
    best, ranks = graph.nodes(2, 'TopK', by_class, [top_k])  # [n, classes, top_k]
    rows = graph.node('Reshape', ranks, [0, classes * top_k])
    ranked = graph.node('Reshape', _rows(graph, boxes, rows), [0, classes, top_k, 4])
    kept = graph.node('Mul', best, graph.node('Sub', 1.0, _suppressed(graph, ranked, top_k)))
    flat = graph.node('Reshape', kept, [0, classes * top_k])
    scores, index = graph.nodes(2, 'TopK', flat, [detections_of(anchors, classes)])
    rows = graph.node('GatherElements', rows, index, axis=1)
    used = graph.node('Greater', scores, 0.0)
    labels = graph.node('Mul', graph.node('Div', index, [top_k]), graph.node('Cast', used, to=INT64))
    used = graph.node('Unsqueeze', _as_float(graph, used), [2])
    boxes, coefficients = (graph.node('Mul', _rows(graph, values, rows), used) for values in (boxes, coefficients))
    return DetectionNames(boxes, labels, scores, coefficients)


def _suppressed(graph: Graph, boxes: str, top_k: int) -> str:
    """1 for boxes [..., top_k, 4], best first, that overlap a better one too much, else 0: float32 [..., top_k]."""
    low, high = graph.nodes(2, 'Split', boxes, [2, 2], axis=-1)
    sides = graph.node('Sub', graph.node('Min', *_pairs(graph, high, -2)), graph.node('Max', *_pairs(graph, low, -2)))
    intersection = graph.node('ReduceProd', graph.node('Max', sides, 0.0), [-1], keepdims=0)
    areas = graph.node('ReduceProd', graph.node('Sub', high, low), [-1], keepdims=0)
    union = graph.node('Sub', graph.node('Add', *_pairs(graph, areas, -1)), intersection)
    overlap = graph.node('Greater', intersection, graph.node('Mul', union, IOU_THRESHOLD))
    by_better = graph.node('And', overlap, np.triu(np.ones((top_k, top_k), bool), 1))
    return graph.node('ReduceMax', _as_float(graph, by_better), [-2], keepdims=0)


def _pairs(graph: Graph, values: str, axis: int) -> tuple[str, str]:
    """Values once along each of two axes, so that an operator of both takes all pairs."""
    return graph.node('Unsqueeze', values, [axis]), graph.node('Unsqueeze', values, [axis - 1])


def _rows(graph: Graph, values: str, rows: str) -> str:
    """Some rows of each image's values: [n, anchors, k] and int64 [n, d] to [n, d, k]."""
    return graph.node('GatherND', values, graph.node('Unsqueeze', rows, [2]), batch_dims=1)


def _as_float(graph: Graph, values: str) -> str:
    return graph.node('Cast', values, to=FLOAT32)
