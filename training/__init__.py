"""What train.py is made of: recipe, log, checkpoints, EMA, precision."""
import system  # noqa: F401  which sets up the CPU before Paddle is imported
