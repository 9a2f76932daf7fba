"""What computes a trained network: ONNX Runtime, Paddle or OpenVINO."""
import system  # noqa: F401  which sets up the CPU before Paddle is imported
