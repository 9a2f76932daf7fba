"""How good predictions are: metrics, error analysis, results files, the report."""
import system  # noqa: F401  which sets up the process before OpenCV and Paddle are imported
