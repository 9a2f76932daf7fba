"""The one exception that is for the user."""
from system.messages import one_line


class UserError(Exception):
    """What the user can mend. The message is one line: which file or flag, what is wrong with it, what to do about it.

    `system.command.run` prints it and ends the command with status 2. It has a subclass only where somebody catches
    that kind alone, as of an image that is skipped.
    """

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))
