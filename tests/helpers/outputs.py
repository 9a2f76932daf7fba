"""Made-up raw outputs, whose detections are among the golden numbers, and detections as evaluation takes them."""
import functools

import paddle
import paddle.nn.functional as F

from model.anchors import anchors
from model.boxes import decode
from model.config import preset
from tests.helpers.golden import inputs


def mask_iou_net(masks):
    """The mask-IoU net with golden weights: float32 [n, 1, h, w] → [n, classes]."""
    x = paddle.to_tensor(masks)
    channels = (1, 8, 16, 32, 64, 128, 80)
    for layer in range(6):
        kernel, stride = (1, 1) if layer == 5 else (3, 2)
        name = f'maskiou_net.maskiou_net.{2 * layer}'
        weight = inputs.weight(f'{name}.weight', (channels[layer + 1], channels[layer], kernel, kernel))
        bias = inputs.weight(f'{name}.bias', (channels[layer + 1],))
        x = F.relu(F.conv2d(x, paddle.to_tensor(weight), paddle.to_tensor(bias), stride=stride))
    return x.max((2, 3)).numpy()


@functools.lru_cache
def made_outputs(name):
    """Arguments of `detect` that the golden detections `made_*` come from."""
    config = preset(name)
    cells = anchors(config)
    made = inputs.predictions(len(cells), config.prototype_size)
    boxes = decode(paddle.to_tensor(made['loc']), paddle.to_tensor(cells)).numpy()
    return dict(boxes=boxes, scores=made['conf'], coefficients=made['mask'], prototypes=made['proto'],
                size=(301, 427), mask_iou=mask_iou_net if config.rescore_masks else None)


def unfiltered(predictor, *images):
    """The `Detections` in images with any score and mask, as evaluation takes them: a list."""
    outputs = predictor.forward([predictor.preprocess(image) for image in images])
    return [predictor.rescore(predictor.postprocess(one, image.shape[:2])).upsample()
            for one, image in zip(outputs, images, strict=True)]
