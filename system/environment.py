"""Environment variables and hooks that libraries look at when they are imported."""
import os
import sys
import tempfile
from types import TracebackType

MEMORY_ERRORS = ('failed to map segment', 'cannot allocate memory')  # of the dynamic linker


def prepare() -> None:
    """Give Paddle a home where it can be imported, keep FFmpeg to files and quiet, and word a lack of memory."""
    if not os.path.isdir(os.path.expanduser('~')):
        os.environ['HOME'] = tempfile.gettempdir()
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # ImageError says what is wrong with a video
    # A playlist under a video's name would name addresses.
    os.environ.setdefault('OPENCV_FFMPEG_CAPTURE_OPTIONS', 'protocol_whitelist;file')
    os.environ.setdefault('GLOG_minloglevel', '2')  # Paddle's C++: errors only, not that there is no cuDNN, or a GPU
    sys.excepthook = _report_memory


def _report_memory(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """One line for a lack of memory while modules are imported; anything else as usual."""
    if isinstance(error, MemoryError) or isinstance(error, ImportError) and any(
            text in str(error).lower() for text in MEMORY_ERRORS):
        print(f'{os.path.basename(sys.argv[0])}: error: out of memory while libraries are loaded; close other programs',
              file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)
