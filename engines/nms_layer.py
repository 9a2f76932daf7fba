"""Fast NMS as a layer, for networks that are exported with it. `model.nms` is what the scripts here use."""
import paddle
from paddle import Tensor, nn


class FastNMS(nn.Layer):
    """Fast NMS in each class by itself, of any number of images, as `nms.fast_nms` does it for one.

    Args:
        anchors, classes, mask_dim: how many there are, background apart.
        score_threshold: 0 to 1; an anchor takes part if its best class scores more.
        iou_threshold: 0 to 1; overlapping a better box by more drops a box.
        top_k: how many of the best boxes of a class take part.
        max_detections: how many of the best to return, over all classes.
    """

    def __init__(self, anchors: int, classes: int, mask_dim: int, score_threshold: float = 0.05,
                 iou_threshold: float = 0.5, top_k: int = 200, max_detections: int = 100) -> None:
        super().__init__()
        self.anchors, self.classes, self.mask_dim = anchors, classes, mask_dim
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.top_k = min(top_k, anchors)
        self.max_detections = min(max_detections, classes * self.top_k)

    def forward(self, boxes: Tensor, scores: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """
        Args:
            boxes, scores, coefficients: of n images, as of `Yolact.predict`.
        Returns:
            Of n times max_detections: boxes float32 [n, d, 4], classes int64 [n, d] from 0, without background, scores
            float32 [n, d], and coefficients float32 [n, d, mask_dim]; best first, and 0 where there is nothing more.
        """
        scores = scores[:, :, 1:]
        likely = (scores.max(-1, keepdim=True) > self.score_threshold).astype('float32')
        best, anchors = paddle.topk((scores * likely).transpose([0, 2, 1]), self.top_k)  # [n, classes, top_k]
        anchors = anchors.reshape([-1, self.classes * self.top_k])
        ranked = self._rows(boxes, anchors, 4).reshape([-1, self.classes, self.top_k, 4])
        kept = (best * (1 - self._dropped(ranked))).reshape([-1, self.classes * self.top_k])
        scores, places = paddle.topk(kept, self.max_detections)
        anchors = paddle.take_along_axis(anchors, places, 1)
        classes, there = places // self.top_k, (scores > 0).astype('float32')
        return (self._rows(boxes, anchors, 4) * there.unsqueeze(-1), classes * there.astype('int64'), scores,
                self._rows(coefficients, anchors, self.mask_dim) * there.unsqueeze(-1))

    def _dropped(self, boxes: Tensor) -> Tensor:
        """1 for boxes [..., k, 4] that overlap one before them too much, else 0: float32 [..., k]."""
        low, high = boxes[..., :2], boxes[..., 2:]
        shared = (paddle.minimum(high.unsqueeze(-3), high.unsqueeze(-2))
                  - paddle.maximum(low.unsqueeze(-3), low.unsqueeze(-2))).clip(0).prod(-1)
        areas = (high - low).prod(-1)
        union = areas.unsqueeze(-1) + areas.unsqueeze(-2) - shared
        before = paddle.triu(paddle.ones([self.top_k, self.top_k]), 1)
        return ((shared > self.iou_threshold * union).astype('float32') * before).max(-2)

    def _rows(self, values: Tensor, rows: Tensor, width: int) -> Tensor:
        """Some rows of each image: [n, anchors, width] and int64 [n, d] to [n, d, width]."""
        image = (rows[:, :1] * 0 + 1).cumsum(0) - 1
        chosen = values.reshape([-1, width]).gather((rows + image * self.anchors).flatten())
        return chosen.reshape([-1, rows.shape[1], width])
