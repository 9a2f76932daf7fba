"""The one exception that is for the user."""
from system.messages import one_line


class UserError(Exception):
    """An error that the user can fix. The message is one line: which file or flag, what is wrong with it, the remedy.

    `system.command.run` prints it and ends the command with status 2. There is a subclass only where one kind is
    caught alone, such as images that are skipped.
    """

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))
