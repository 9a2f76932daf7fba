"""What tests of several areas need."""
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / 'tests/golden'  # recorded numbers of the public code


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, from the repository's root, with its output as text.

    Args:
        command: the program and its arguments; anything that is not a str is converted.
        options: of `subprocess.run`, such as cwd, env, input or timeout.
    """
    options = {'cwd': ROOT, 'capture_output': True, 'text': True, **options}
    return subprocess.run([str(word) for word in command], **options)


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds; fail if it does not within some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, 'waited in vain'
        time.sleep(0.02)
