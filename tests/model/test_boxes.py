import numpy as np
import paddle

from model.boxes import ciou, decode, encode


def random_boxes(n, seed):
    corners = np.random.default_rng(seed).uniform(0, 1, (n, 2, 2))
    return paddle.to_tensor(np.concatenate([corners.min(1), corners.max(1) + 0.01], 1), 'float32')


def test_decode_by_hand():
    anchors = paddle.to_tensor([[0.5, 0.4, 0.2, 0.1]])
    offsets = paddle.to_tensor([[1.0, -2.0, 5 * np.log(2), 0.0]], 'float32')
    # The centre moves by 0.1 of the size an offset, the size grows by e to 0.2 of the offset.
    np.testing.assert_allclose(decode(offsets, anchors).numpy(), [[0.52 - 0.2, 0.38 - 0.05, 0.52 + 0.2, 0.38 + 0.05]],
                               rtol=1e-5)


def test_decode_undoes_encode():
    boxes, anchors = random_boxes(50, 0), paddle.rand([50, 4]) + 0.1
    np.testing.assert_allclose(decode(encode(boxes, anchors), anchors).numpy(), boxes.numpy(), atol=1e-5)


def test_ciou_of_a_box_with_itself_is_1():
    boxes = random_boxes(20, 1)
    np.testing.assert_allclose(ciou(boxes, boxes).numpy(), 1, atol=1e-5)


def test_ciou_by_its_definition():
    boxes, targets = random_boxes(30, 2), random_boxes(30, 3)
    a, b = boxes.numpy().astype(np.float64), targets.numpy().astype(np.float64)
    shared = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None).prod(1)
    size_a, size_b = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    iou = shared / (size_a.prod(1) + size_b.prod(1) - shared)
    diagonal = ((np.maximum(a[:, 2:], b[:, 2:]) - np.minimum(a[:, :2], b[:, :2])) ** 2).sum(1)
    distance = (((a[:, :2] + a[:, 2:]) / 2 - (b[:, :2] + b[:, 2:]) / 2) ** 2).sum(1)
    v = 4 / np.pi ** 2 * (np.arctan2(*size_b.T) - np.arctan2(*size_a.T)) ** 2
    np.testing.assert_allclose(ciou(boxes, targets).numpy(), iou - distance / diagonal - v * v / (1 - iou + v),
                               atol=1e-5)


def test_ciou_pulls_a_box_towards_one_it_does_not_touch():
    box = paddle.to_tensor([[0.1, 0.1, 0.2, 0.2]], stop_gradient=False)
    ciou(box, paddle.to_tensor([[0.7, 0.7, 0.8, 0.8]])).sum().backward()
    x0, y0, x1, y1 = box.grad.numpy()[0]
    assert x0 + x1 > 0.1 and y0 + y1 > 0.1


def test_a_wild_prediction_is_bounded_and_so_is_its_gradient():
    anchors = paddle.to_tensor([[0.5, 0.5, 0.2, 0.1]])
    offsets = paddle.to_tensor([[0.0, 0.0, 1e4, 1e4]], stop_gradient=False)
    boxes = decode(offsets, anchors)
    np.testing.assert_allclose(boxes.numpy(), [[0.5 - 6.25, 0.5 - 3.125, 0.5 + 6.25, 0.5 + 3.125]], rtol=1e-5)
    (1 - ciou(boxes, paddle.to_tensor([[0.4, 0.4, 0.6, 0.6]]))).sum().backward()
    assert np.isfinite(offsets.grad.numpy()).all()
