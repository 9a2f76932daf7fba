"""Commands on a terminal of a given width."""
import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios


def run_on_terminal(columns, *command, stdout=None):
    """Exit status of a command, and what it drew: lines, and states of a line that was drawn over.

    Args:
        columns: of the terminal.
        command: with its arguments.
        stdout: a file for standard output; the terminal without.
    """
    terminal, other_end = pty.openpty()
    fcntl.ioctl(other_end, termios.TIOCSWINSZ, struct.pack('HHHH', 40, columns, 0, 0))
    process = subprocess.Popen([str(part) for part in command], stdout=stdout or other_end, stderr=other_end,
                               env={name: value for name, value in os.environ.items() if name != 'COLUMNS'})
    os.close(other_end)
    seen = b''
    with contextlib.suppress(OSError):  # when the other end is closed
        while more := os.read(terminal, 1000):
            seen += more
    os.close(terminal)
    return process.wait(timeout=60), [line.rstrip() for line in re.split(r'[\r\n]+', seen.decode()) if line.strip()]
