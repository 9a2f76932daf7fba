"""CPU setup: threads and code path of Paddle's matrix library (MKL), memory allocation, number of workers."""
import ctypes
import os
import platform
from pathlib import Path

# MKL's code paths, by the values of MKL_DEBUG_CPU_TYPE, the fastest first; and the CPU flags that each one needs.
MKL_CODE_PATHS = {'7': {'avx512f', 'avx512dq', 'avx512bw', 'avx512vl', 'avx512cd'}, '5': {'avx2', 'fma'}}

MAX_DEFAULT_WORKERS = 6
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from glibc's malloc.h


def configure(cpuinfo: str | Path = '/proc/cpuinfo') -> None:
    """Use all cores, and on AMD the fast code path of MKL. Call it before Paddle is imported.

    By default Paddle uses one thread, and the MKL inside it takes its slowest code path on CPUs that are not Intel's.
    Both are set by environment variables that are read once, when Paddle is loaded. Variables that the user has set
    are kept. OMP_NUM_THREADS would do as well as MKL_NUM_THREADS, but makes Paddle print a warning.

    Args:
        cpuinfo: file in which Linux describes the CPU.
    """
    if 'OMP_NUM_THREADS' not in os.environ:
        os.environ.setdefault('MKL_NUM_THREADS', str(cores()))
    path = _mkl_code_path(Path(cpuinfo).read_text() if os.path.exists(cpuinfo) else '')
    if path:
        os.environ.setdefault('MKL_DEBUG_CPU_TYPE', path)


def keep_memory() -> None:
    """Make the C library keep freed memory for the next allocation, if it is glibc.

    Networks and images allocate large blocks and free them after each step. By default glibc returns these to the
    system, which clears them and maps them again page by page. If the user has set environment variables of malloc,
    nothing is changed.
    """
    if platform.libc_ver()[0] == 'glibc' and not any(name.startswith(('MALLOC_', 'GLIBC_')) for name in os.environ):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2 ** 31 - 1)


def cores() -> int:
    """Number of CPU cores for this process, its share if Paddle's launcher started several processes here."""
    number = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return max(number // int(os.environ.get('PADDLE_LOCAL_SIZE', 1)), 1)


def default_workers() -> int:
    """Number of worker processes if the user names none."""
    return min(cores(), MAX_DEFAULT_WORKERS)


def _mkl_code_path(cpuinfo: str) -> str | None:
    """The fastest of `MKL_CODE_PATHS` that an AMD CPU can run; None for other CPUs, on which MKL chooses well."""
    if 'AuthenticAMD' in cpuinfo:
        flags = set(cpuinfo.split())
        return next((path for path, needed in MKL_CODE_PATHS.items() if needed <= flags), None)
    return '5' if 'AuthenticAMD' in platform.processor() else None
