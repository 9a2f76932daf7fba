"""What an engine cannot do."""
from system.errors import UserError


class EngineError(UserError):
    """An engine is missing, too old, or computes other numbers than Paddle. Unless asked for, another is used."""
