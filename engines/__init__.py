"""Engines, which run a trained network: ONNX Runtime, OpenVINO or Paddle."""
import system  # noqa: F401  which sets up the CPU before Paddle is imported
