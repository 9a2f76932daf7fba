"""What train.py is made of: arguments, setup, step, recipe, optimizer, EMA, precision, log, checkpoints."""
import system  # noqa: F401  which sets up the process before OpenCV and Paddle are imported
