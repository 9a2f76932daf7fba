"""Fast NMS as a layer, for networks that are exported with it. The scripts here use `model.nms`."""
import paddle
from paddle import Tensor, nn


class FastNMS(nn.Layer):
    """Fast NMS in each class by itself, for a batch of images. `model.nms.fast_nms` is the same for one image.

    Args:
        anchors, classes, mask_dim: the numbers of anchors, of classes without background, and of prototypes.
        score_threshold: 0 to 1; an anchor takes part if its best class scores more.
        iou_threshold: 0 to 1; overlapping a better box by more suppresses a box.
        top_k: how many of the best boxes of a class take part.
        max_detections: how many of the best to return for an image, over all classes.
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
            boxes, scores, coefficients: as of `Yolact.predict`, for n images.
        Returns:
            For d = max_detections: boxes float32 [n, d, 4]; classes int64 [n, d], from 0, without background; scores
            float32 [n, d]; and coefficients float32 [n, d, mask_dim]. Best first; unused rows are 0.
        """
        scores = scores[:, :, 1:]
        likely = (scores.max(-1, keepdim=True) > self.score_threshold).astype('float32')
        best, anchors = paddle.topk((scores * likely).transpose([0, 2, 1]), self.top_k)  # [n, classes, top_k]
        anchors = anchors.reshape([-1, self.classes * self.top_k])
        ranked = self._rows(boxes, anchors, 4).reshape([-1, self.classes, self.top_k, 4])
        kept = (best * (1 - self._suppressed(ranked))).reshape([-1, self.classes * self.top_k])
        scores, index = paddle.topk(kept, self.max_detections)
        anchors = paddle.take_along_axis(anchors, index, 1)
        classes, used = index // self.top_k, (scores > 0).astype('float32')
        return (self._rows(boxes, anchors, 4) * used.unsqueeze(-1), classes * used.astype('int64'), scores,
                self._rows(coefficients, anchors, self.mask_dim) * used.unsqueeze(-1))

    def _suppressed(self, boxes: Tensor) -> Tensor:
        """1 for boxes [..., k, 4], best first, that overlap a better one too much, else 0: float32 [..., k]."""
        low, high = boxes[..., :2], boxes[..., 2:]
        intersection = (paddle.minimum(high.unsqueeze(-3), high.unsqueeze(-2))
                        - paddle.maximum(low.unsqueeze(-3), low.unsqueeze(-2))).clip(0).prod(-1)
        areas = (high - low).prod(-1)
        union = areas.unsqueeze(-1) + areas.unsqueeze(-2) - intersection
        better = paddle.triu(paddle.ones([self.top_k, self.top_k]), 1)
        return ((intersection > self.iou_threshold * union).astype('float32') * better).max(-2)

    def _rows(self, values: Tensor, rows: Tensor, width: int) -> Tensor:
        """Some rows of each image's values: [n, anchors, width] and int64 [n, d] to [n, d, width]."""
        image = (rows[:, :1] * 0 + 1).cumsum(0) - 1
        chosen = values.reshape([-1, width]).gather((rows + image * self.anchors).flatten())
        return chosen.reshape([-1, rows.shape[1], width])
