import numpy as np
import paddle

from engines.nms_layer import FastNMS
from model.nms import fast_nms
from tests.helpers.outputs import made_outputs


def test_fast_nms_as_a_layer_keeps_what_fast_nms_keeps() -> None:
    made = made_outputs('resnet50')
    parts = made['boxes'], made['scores'], made['coefficients']
    layer = FastNMS(len(made['boxes']), 80, 32)
    boxes, labels, scores, coefficients = (
        part.numpy() for part in layer(*(paddle.to_tensor(np.stack([part, part[::-1]])) for part in parts)))
    likely = np.flatnonzero((made['scores'][:, 1:] > 0.05).any(1))
    kept, expected_labels, expected_scores = fast_nms(made['boxes'][likely], made['scores'][likely, 1:])
    for image in range(2):
        np.testing.assert_array_equal(labels[image], expected_labels)
        np.testing.assert_array_equal(scores[image], expected_scores)
        np.testing.assert_array_equal(boxes[image], made['boxes'][likely[kept]])
        np.testing.assert_array_equal(coefficients[image], made['coefficients'][likely[kept]])
