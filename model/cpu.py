"""Sets up the processor for Paddle. Runs when `model` is imported, which must be before `paddle` is."""
import os
import platform


def prepare():
    """Use all cores, and on AMD the fast path of Paddle's matrix library.

    Paddle takes one thread unless told otherwise, and the MKL inside it falls back to its slowest code on
    processors that are not Intel's. Both are told by environment variables that are read once, when Paddle is
    loaded. Variables that the user set are kept. OMP_NUM_THREADS would spread up-sampling over the cores too,
    but Paddle greets it with a warning.
    """
    if 'OMP_NUM_THREADS' not in os.environ:
        os.environ.setdefault('MKL_NUM_THREADS', str(_cores()))
    if _is_amd():
        os.environ.setdefault('MKL_DEBUG_CPU_TYPE', '5')


def _cores():
    """This process's share of the cores, where Paddle's launcher started several processes here."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return max(cores // int(os.environ.get('PADDLE_LOCAL_SIZE', 1)), 1)


def _is_amd():
    if os.path.exists('/proc/cpuinfo'):
        with open('/proc/cpuinfo') as file:
            return 'AuthenticAMD' in file.read()
    return 'AuthenticAMD' in platform.processor()
