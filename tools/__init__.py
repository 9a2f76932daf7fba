"""Commands for datasets: python -m tools.NAME."""
import system  # noqa: F401  which sets up the process before OpenCV and Paddle are imported
