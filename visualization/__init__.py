"""Drawing: detections on images, training curves, plots."""
import system  # noqa: F401  which sets up the process before OpenCV and Paddle are imported
