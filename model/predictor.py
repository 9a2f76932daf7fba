"""A picture → Detections."""
import cv2
import numpy as np
import paddle

from model.checkpoint import CheckpointError, load_checkpoint, restore
from model.cpu import keep_memory
from model.detection import detect
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
        with paddle.no_grad():
            inputs = np.stack([self.prepare(picture) for picture in pictures])
            outputs = [tensor.numpy() for tensor in self._network.predict(paddle.to_tensor(inputs))]
        judge = self._judge if self.config.rescore_masks else None
        return [detect(*output, picture.shape[:2], judge, **self._thresholds)
                for *output, picture in zip(*outputs, pictures)]

    def prepare(self, picture):
        """A picture at the network's input size, float32 [size, size, 3], BGR, 0 to 255."""
        size = (self.config.input_size, self.config.input_size)
        return cv2.resize(picture.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)

    def _judge(self, masks):
        with paddle.no_grad():
            return self._network.maskiou_net(paddle.to_tensor(masks)).numpy()


class DeviceError(ValueError):
    """A device that is not there. The message is one line for the user."""


def choose_device(device=None):
    """Have Paddle work on a device from now on.

    Args:
        device: 'cpu', 'gpu' or 'gpu:1'; None takes a GPU if there is one.
    Raises:
        DeviceError: there is no such device.
    """
    gpus = paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    if device is None:
        device = 'gpu' if gpus else 'cpu'
    kind, _, number = device.partition(':')
    if kind not in ('cpu', 'gpu') or (number and not number.isdigit()):
        raise DeviceError(f"device {device!r} is not 'cpu', 'gpu' or 'gpu:0'")
    if kind == 'gpu' and not paddle.device.is_compiled_with_cuda():
        raise DeviceError('this Paddle has no GPU support; install requirements-gpu.txt, or use the cpu')
    if kind == 'gpu' and int(number or 0) >= gpus:
        raise DeviceError(f'{device}: there are {gpus} GPUs here, counted from 0')
    paddle.device.set_device(device)
    if kind == 'cpu':
        keep_memory()
