"""Image → `Detections`."""
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.images import read_image
from engines.engine import Engine
from engines.selection import open_engine
from model import postprocess
from model.postprocess import EVALUATION_SCORE_THRESHOLD, Detections, LowResolutionDetections


@dataclass(frozen=True)
class Thresholds:
    """What counts as an object. See `model.postprocess.postprocess` and `model.nms`.

    Attributes:
        score_threshold: 0 to 1; an anchor takes part if its best class scores more.
        iou_threshold: 0 to 1; overlapping a better box by more suppresses a box.
        top_k: how many of the best boxes of a class take part in Fast NMS.
        max_detections: the most objects of an image.
        cross_class: an object suppresses lesser ones of any class, not only of its own.
    """
    score_threshold: float = EVALUATION_SCORE_THRESHOLD
    iou_threshold: float = 0.5
    top_k: int = 200
    max_detections: int | None = 100
    cross_class: bool = False


class Predictor:
    """A trained network, ready for images of any size.

    Args:
        engine: what computes the network.
        **thresholds: fields of `Thresholds`.
    Attributes:
        config: the network's `Config`.
        classes: the `Classes` that it tells apart; `classes.names[i]` is the name of class i.
    """

    def __init__(self, engine: Engine, **thresholds: Any) -> None:
        self.thresholds = Thresholds(**thresholds)
        self._engine = engine
        self.config, self.classes = engine.config, engine.classes

    @classmethod
    def open(cls, path: str | Path, device: str | None = None, engine: str | None = None, precision: str = 'fp32',
             **thresholds: Any) -> 'Predictor':
        """A predictor from a file.

        Args:
            path: a checkpoint's folder, or an .onnx file that export.py wrote.
            device: 'cpu', 'gpu' or 'gpu:1'; by default a GPU if there is one.
            engine: 'onnx' or 'paddle'; by default the faster one.
            precision: 'fp32'; 'bf16', of a CPU that has it; or 'amp', half precision of a GPU where that is safe.
            **thresholds: fields of `Thresholds`.
        Raises:
            UserError: the weights cannot be used, or there is no such device, engine or precision.
        """
        Thresholds(**thresholds)  # a misspelt one is an error before anything is loaded
        return cls(open_engine(path, device, engine, precision), **thresholds)

    def predict(self, image: str | Path | np.ndarray) -> Detections:
        """The objects in one image.

        Args:
            image: a file, or uint8 [h, w, 3], BGR.
        Raises:
            ImageError: the file cannot be read.
        """
        return self([image if isinstance(image, np.ndarray) else read_image(image)])[0]

    def __call__(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """The objects in images that go through the network together.

        Args:
            images: uint8 [h, w, 3] each, BGR, of any sizes.
        Returns:
            `Detections` of each: objects that score more than the threshold and have at least one mask pixel.
        """
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise ValueError(f'an image is uint8 [h, w, 3], BGR, not {image.dtype} {list(image.shape)}')
        outputs = self.forward([self.preprocess(image) for image in images])
        found = [self.postprocess(one, image.shape[:2]) for one, image in zip(outputs, images, strict=True)]
        return [visible(self.rescore(one).upsample(), self.thresholds.score_threshold) for one in found]

    # The stages of this, for pipelines. Only forward and rescore use the engine, and are for one thread alone.

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """An image at the network's input size, float32 [size, size, 3], BGR, 0 to 255."""
        size = (self.config.input_size, self.config.input_size)
        return cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)

    def forward(self, inputs: Sequence[np.ndarray]) -> list[tuple[np.ndarray, ...]]:
        """Raw outputs for preprocessed images, as of `Engine.predict`."""
        return self._engine.predict(np.stack(inputs), self.thresholds.score_threshold)

    def postprocess(self, outputs: tuple[np.ndarray, ...], size: tuple[int, ...]) -> LowResolutionDetections:
        """Fast NMS and mask assembly, for an image of size (height, width)."""
        height, width = size
        boxes, scores, coefficients, prototypes = outputs
        return postprocess.postprocess(boxes, scores, coefficients, prototypes, (height, width),
                                       **dataclasses.asdict(self.thresholds))

    def rescore(self, found: LowResolutionDetections, masks: np.ndarray | None = None) -> LowResolutionDetections:
        """Mask scores by the mask-IoU net, if the network has one (YOLACT++, section 3.5).

        Args:
            found: detections.
            masks: `found.pasted_masks()`, where another thread has computed it already.
        """
        if not self.config.rescore_masks or not len(found.masks):
            return found
        return found.rescored(self._engine.mask_iou(found.pasted_masks() if masks is None else masks))


def visible(detections: Detections, score_threshold: float) -> Detections:
    """Those that score more than a threshold and have a mask pixel.

    Fast NMS keeps a box for several classes, with any score, if its best class scores enough.
    """
    pixels = np.array([mask.any() for mask in detections.masks], bool)
    return detections.select((detections.box_scores > score_threshold) & pixels)
