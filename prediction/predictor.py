"""An image → Detections."""
import cv2
import numpy as np

from engines.selection import open_engine
from model.postprocess import detect


class Predictor:
    """A trained network, ready for images of any size.

    Args:
        model_path: a checkpoint's folder, or an .onnx file that export.py wrote.
        device: 'cpu', 'gpu' or 'gpu:1'; by default a GPU if there is one.
        engine: 'onnx' or 'paddle'; by default the faster one.
        precision: 'fp32'; 'bf16', of a CPU that has it; or 'amp', half precision of a GPU where that is safe.
        **thresholds: keywords of `detection.detect`: score_threshold, iou_threshold, top_k, max_detections,
            cross_class.
    Attributes:
        config: the network's `Config`.
        classes: the `Classes` that it tells apart.
    Raises:
        UserError: the weights cannot be used.
        UserError: there is no such device, or it has no such engine or precision.
    """

    def __init__(self, model_path, device=None, engine=None, precision='fp32', **thresholds):
        self._take(open_engine(model_path, device, engine, precision), thresholds)

    @classmethod
    def of(cls, engine, **thresholds):
        """A predictor with an engine that is at hand, such as one of a network in training."""
        self = cls.__new__(cls)
        self._take(engine, thresholds)
        return self

    def _take(self, engine, thresholds):
        self._engine, self._thresholds = engine, thresholds
        self.config, self.classes = engine.config, engine.classes

    def __call__(self, images):
        """
        Args:
            images: list of uint8 [h, w, 3], BGR, of any sizes; they go through the network together.
        Returns:
            list of `Detections`.
        """
        outputs = self.forward([self.prepare(image) for image in images])
        found = [self.detect(one, image.shape[:2]) for one, image in zip(outputs, images, strict=True)]
        return [self.rescore(small, self.to_rescore(small)).full() for small in found]

    # The steps of this, for those who do other things in the meantime. Only forward and rescore use the engine, and
    # are for one thread alone.

    def prepare(self, image):
        """An image at the network's input size, float32 [size, size, 3], BGR, 0 to 255."""
        size = (self.config.input_size, self.config.input_size)
        return cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)

    def forward(self, inputs):
        """What the network says of prepared images: for each a tuple of arrays, to be given to `detect`."""
        return self._engine.predict(np.stack(inputs), self._thresholds.get('score_threshold', 0.05))

    def detect(self, outputs, size):
        """What that makes of an image of size (height, width): `LowResolutionDetections`."""
        return detect(*outputs, size, **self._thresholds)

    def to_rescore(self, small):
        """What `rescore` takes: the masks, float32 [n, 1, ph, pw], or None if the network does not re-score them."""
        return small.on_prototypes() if self.config.rescore_masks and len(small.masks) else None

    def rescore(self, small, masks):
        """`LowResolutionDetections` with masks that are scored for themselves."""
        if masks is None:
            return small
        return small.rescored(self._engine.mask_iou(masks))
