"""How a command runs and ends: one handler for everything that a user can mend."""
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from system.errors import UserError
from system.messages import one_line

ROOT = Path(__file__).resolve().parent.parent
BAD_INPUT, BROKEN_PIPE = 2, 141  # exit statuses


def run(main: Callable[[], int]) -> NoReturn:
    """End the process with the exit status of a command."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors='backslashreplace')  # a file may have a name that the terminal cannot show
    sys.exit(exit_status(main))


def exit_status(main: Callable[..., int], *arguments: object) -> int:
    """What a command's `main` returns, or the status of its error, which is told in one line.

    Args:
        main: takes the arguments, such as a list of flags, and returns an exit status.
    Returns:
        2 for a `UserError` or an `OSError`, 130 after Ctrl-C (128 and the number of the signal), 141 where nobody reads the output any more.
    """
    try:
        status = main(*arguments)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f'{program_name(main)}: error: {error}', file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt as stop:
        print(f'{program_name(main)}: {stop}' if str(stop) else
              f'{program_name(main)}: interrupted; files that were written are whole', file=sys.stderr)
        return 128 + getattr(stop, 'signal', signal.SIGINT)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        print(f'{program_name(main)}: error: {_explain(error)}', file=sys.stderr)
        return BAD_INPUT


def program_name(main: Callable[..., int]) -> str:
    """train.py for a script's main, tools.check for that of `python -m tools.check`."""
    path = Path(main.__code__.co_filename).resolve()
    if path.parent == ROOT or not path.is_relative_to(ROOT):
        return path.name
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts)


def _explain(error: OSError) -> str:
    place = f'{one_line(error.filename)}: ' if error.filename else ''
    return f'{place}{error.strerror or one_line(error)}; check the path, its permissions and the room on the disk'
