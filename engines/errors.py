"""The error of an engine that cannot be used."""
from system.errors import UserError


class EngineError(UserError):
    """An engine is not installed, too old, or computes other numbers than Paddle.

    `open_engine` catches it, and falls back to Paddle unless the user asked for that engine.
    """
