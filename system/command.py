"""Running a command: one handler for all errors that the user can fix, and the exit status."""
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TextIO

from system.early_interrupt import raise_again
from system.errors import UserError
from system.gpu_errors import as_gpu_error
from system.messages import one_line

ROOT = Path(__file__).resolve().parent.parent
USER_ERROR, BROKEN_PIPE = 2, 141  # exit statuses
MEMORY_REMEDY = 'close other programs, or lower --batch_size, --num_workers or --input_size'
INTERRUPTED = 'interrupted; files that were written are complete'


def run(main: Callable[[], int]) -> NoReturn:
    """Run a command, and end the process with its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')  # a file's name may hold what the terminal cannot show
    raise_again()
    status = exit_status(main)
    for stream in (sys.stdout, sys.stderr):
        if stream:
            _discard_if_unwritable(stream)
    sys.exit(status)


def exit_status(main: Callable[..., int], *arguments: object) -> int:
    """Run a command's `main`, and print its error, if there is one, as one line on standard error.

    An `OSError` without an errno is not the file system's: Paddle raises CUDA errors so. Others pass.

    Args:
        main: takes the arguments, such as a list of flags, and returns an exit status.
    Returns:
        What `main` returns; 2 for a `UserError`, `OSError`, `MemoryError` or an error of the GPU; 130 for Ctrl-C
        and 128 + its number for other signals; 141 if whoever reads the output, such as `head`, has closed the pipe.
    """
    try:
        status = main(*arguments)
        if sys.stdout:  # it is None where it was closed
            sys.stdout.flush()  # a full disk shows now
        return status
    except UserError as error:
        _print_error(f'{program_name(main)}: error: {error}')
        return USER_ERROR
    except ImportError as error:
        if not isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            return _explain_gpu_error(main, error)
        _print_error(f'{program_name(main)}: {INTERRUPTED}')  # Ctrl-C while Paddle was imported
        return 128 + signal.SIGINT
    except KeyboardInterrupt as stop:
        _print_error(f'{program_name(main)}: {str(stop) or INTERRUPTED}')
        return 128 + getattr(stop, 'signal', signal.SIGINT)
    except BrokenPipeError:
        return BROKEN_PIPE
    except MemoryError as error:
        found = as_gpu_error(error)
        _print_error(f'{program_name(main)}: error: {found or f"out of memory; {MEMORY_REMEDY}"}')
        return USER_ERROR
    except RuntimeError as error:
        return _explain_gpu_error(main, error)
    except OSError as error:
        if error.errno is None:
            return _explain_gpu_error(main, error)
        _print_error(f'{program_name(main)}: error: {_explain(error)}')
        return USER_ERROR


def _explain_gpu_error(main: Callable[..., int], error: Exception) -> int:
    """Print an error of the GPU as one line. Any other is raised again."""
    found = as_gpu_error(error)
    if found is None:
        raise error
    _print_error(f'{program_name(main)}: error: {found}')
    return USER_ERROR


def program_name(main: Callable[..., int]) -> str:
    """train.py for a script's main, tools.check for that of `python -m tools.check`."""
    path = Path(main.__code__.co_filename).resolve()
    if path.parent == ROOT or not path.is_relative_to(ROOT):
        return path.name
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts)


def _print_error(message: str) -> None:
    with contextlib.suppress(OSError):  # a terminal that was closed
        print(message, file=sys.stderr, flush=True)


def _discard_if_unwritable(stream: TextIO) -> None:
    """Drop what a stream still holds if it cannot be written. Python would fail over it once more when it exits."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _explain(error: OSError) -> str:
    file = f'{one_line(error.filename)}: ' if error.filename else ''
    return f'{file}{error.strerror}; check the path, its permissions and the room on the disk'


def renamed(before: str, now: str) -> NoReturn:
    """End a command that has another name now with a line that says which."""
    print(f'{before} is now {now}', file=sys.stderr)
    sys.exit(USER_ERROR)
