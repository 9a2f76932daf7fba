"""From an image to detections, and to files. `from prediction import Predictor` is all that a program needs."""
import system  # noqa: F401  which sets up the process before OpenCV and Paddle are imported
from prediction.predictor import Predictor

__all__ = ['Predictor']
