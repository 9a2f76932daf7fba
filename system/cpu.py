"""Sets up the processor for Paddle."""
import ctypes
import os
import platform
from pathlib import Path

# Code paths of the MKL inside Paddle, by the numbers it knows them by, and what a processor must have for each.
PATHS = {'7': {'avx512f', 'avx512dq', 'avx512bw', 'avx512vl', 'avx512cd'}, '5': {'avx2', 'fma'}}

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def prepare(cpuinfo='/proc/cpuinfo'):
    """Use all cores, and on AMD the fast path of Paddle's matrix library. To be called before Paddle is imported.

    Paddle takes one thread unless told otherwise, and the MKL inside it falls back to its slowest code on
    processors that are not Intel's. Both are told by environment variables that are read once, when Paddle is
    loaded. Variables that the user set are kept. OMP_NUM_THREADS would do too, and no better, but Paddle greets it
    with a warning.

    Args:
        cpuinfo: file in which Linux describes the processor.
    """
    if 'OMP_NUM_THREADS' not in os.environ:
        os.environ.setdefault('MKL_NUM_THREADS', str(cores()))
    path = _path(Path(cpuinfo).read_text() if os.path.exists(cpuinfo) else '')
    if path:
        os.environ.setdefault('MKL_DEBUG_CPU_TYPE', path)


def keep_memory():
    """Have the C library keep the memory that is given back to it, where that is glibc.

    Networks and images take memory in large pieces and give it back after each step, and left to itself glibc hands
    them to the system, which empties them and hands them out again page by page. What the
    user set by environment variables is kept.
    """
    if platform.libc_ver()[0] == 'glibc' and not any(name.startswith(('MALLOC_', 'GLIBC_')) for name in os.environ):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2 ** 31 - 1)


def cores():
    """This process's share of the cores, where Paddle's launcher started several processes here."""
    number = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return max(number // int(os.environ.get('PADDLE_LOCAL_SIZE', 1)), 1)


def default_workers():
    """How many worker processes suit this machine."""
    return min(cores(), 6)


def _path(described):
    """The best of `PATHS` for an AMD processor, None for others, which need no help."""
    if 'AuthenticAMD' in described:
        return next((path for path, needs in PATHS.items() if needs <= set(described.split())), None)
    return '5' if 'AuthenticAMD' in platform.processor() else None
