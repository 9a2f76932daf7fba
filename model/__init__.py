"""The network and its arithmetic. Knows no files of a dataset and no command line."""
import system  # noqa: F401  which sets up the process before OpenCV and Paddle are imported
