"""Engines, which run a trained network: ONNX Runtime, OpenVINO or Paddle."""
import system  # noqa: F401  which sets up the process before OpenCV and Paddle are imported
