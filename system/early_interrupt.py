"""Ctrl-C while a command's modules are imported, which takes up to seconds: the process ends, and says nothing.

Python would print where in which module it was.
"""
import signal
import sys
from os.path import abspath, dirname

ROOT = dirname(dirname(abspath(__file__)))


def end_at_once() -> None:
    """Until `raise_again`, let Ctrl-C end the process, if it is one of this project's commands."""
    is_command = sys.argv[:1] == ['-m'] or dirname(abspath((sys.argv or [''])[0])) == ROOT
    if is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_again() -> None:
    """Let Ctrl-C raise a KeyboardInterrupt, as usual in Python."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
