"""A picture → Detections."""
import cv2
import numpy as np
import paddle

from model.checkpoint import CheckpointError, load_checkpoint, restore
from model.detection import detect
from model.device import choose_device
from model.yolact import Yolact


class Predictor:
    """A trained network, ready for pictures of any size.

    Args:
        model_path: a checkpoint's folder.
        device: 'cpu', 'gpu' or 'gpu:1'; by default a GPU if there is one.
        **thresholds: keywords of `detection.detect`: score_threshold, iou_threshold, top_k, max_detections,
            cross_class.
    Attributes:
        config: the network's `Config`.
        classes: the `Classes` that it tells apart.
    Raises:
        CheckpointError: the checkpoint cannot be used.
        DeviceError: there is no such device.
    """

    def __init__(self, model_path, device=None, **thresholds):
        choose_device(device)
        checkpoint = load_checkpoint(model_path)
        if checkpoint.backbone_only:
            raise CheckpointError(f'{model_path}: only a backbone, to start training from; it finds nothing yet')
        network = Yolact(checkpoint.config)
        restore(network, checkpoint, model_path)
        self.config, self.classes = checkpoint.config, checkpoint.classes
        self._network, self._thresholds = network, thresholds
        network.eval()

    @classmethod
    def of(cls, network, classes, **thresholds):
        """A predictor of a network that is at hand, such as one in training. It is put in eval mode."""
        self = cls.__new__(cls)
        self.config, self.classes = network.config, classes
        self._network, self._thresholds = network, thresholds
        network.eval()
        return self

    def __call__(self, pictures):
        """
        Args:
            pictures: list of uint8 [h, w, 3], BGR, of any sizes; they go through the network together.
        Returns:
            list of `Detections`.
        """
        outputs = self.forward([self.prepare(picture) for picture in pictures])
        found = [self.detect(one, picture.shape[:2]) for one, picture in zip(outputs, pictures, strict=True)]
        return [self.rescore(small, self.to_rescore(small)).full() for small in found]

    # The steps of this, for those who do other things in the meantime. Only forward and rescore use the device, and
    # are for one thread alone.

    def prepare(self, picture):
        """A picture at the network's input size, float32 [size, size, 3], BGR, 0 to 255."""
        size = (self.config.input_size, self.config.input_size)
        return cv2.resize(picture.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)

    def forward(self, inputs):
        """What the network says of prepared pictures: for each a tuple of arrays, to be given to `detect`."""
        with paddle.no_grad():
            outputs = self._network.predict(paddle.to_tensor(np.stack(inputs)))
            likely = (outputs[1][:, :, 1:].max(-1) > self._thresholds.get('score_threshold', 0.05)).numpy()
        return [(*_anchors(parts, rows), prototypes.numpy()) for *parts, prototypes, rows in zip(*outputs, likely)]

    def detect(self, outputs, size):
        """What that makes of a picture of size (height, width): `SmallDetections`."""
        return detect(*outputs, size, **self._thresholds)

    def to_rescore(self, small):
        """What `rescore` takes: the masks, float32 [n, 1, ph, pw], or None if the network does not re-score them."""
        return small.on_prototypes() if self.config.rescore_masks and len(small.masks) else None

    def rescore(self, small, masks):
        """`SmallDetections` with masks that are scored for themselves."""
        if masks is None:
            return small
        with paddle.no_grad():
            return small.rescored(self._network.maskiou_net(paddle.to_tensor(masks)).numpy())


def _anchors(tensors, wanted):
    """What tensors say of some anchors, as arrays. Few are wanted, and all of them would be slow to get from a GPU."""
    rows = paddle.to_tensor(np.flatnonzero(wanted))
    return [(tensor.gather(rows) if len(rows) else tensor[:0]).numpy() for tensor in tensors]
