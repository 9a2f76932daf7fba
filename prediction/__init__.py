"""From an image to detections, and to files. `from prediction import Predictor` is all that a program needs."""
from prediction.predictor import Predictor

__all__ = ['Predictor']
