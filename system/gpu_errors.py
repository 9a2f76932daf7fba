"""What Paddle's errors of a GPU come to in one line, and what to do about each.

Paddle raises those of CUDA and its libraries as `OSError` without an errno, a lack of memory as `MemoryError`, and a
library that is missing as `RuntimeError`. Their texts are pages of C++.
"""
import contextlib
import re
import sys
from collections.abc import Iterator

from system.errors import UserError

LIBRARIES = r'CUDA|CUDNN|CUBLAS|CUSOLVER|CUSPARSE|CUFFT|CURAND|NCCL|GPU'
_MESSAGE = re.compile(r'^\s*(?:[A-Z]\w*Error:\s*)?(?:\((?P<short>[A-Z]\w+)\)|(?P<long>[A-Z]\w+Error):)\s+'
                      r'(?P<text>\S.*)', re.MULTILINE)
_END = re.compile(r'\(at |\[Hint')  # where Paddle's message ends and its explanations begin
_OF_GPU = re.compile(rf'\b({LIBRARIES})\b|lib(cu|nccl|nv)\w*\.so', re.IGNORECASE)
_GUIDE = 'docs/gpu.md says which'
# The first that is found in the message is the remedy of its kind.
_REMEDIES = {
    r'out of memory|ALLOC_FAILED|ResourceExhausted': 'lower --batch_size or --input_size where the command has it, or '
                                                     'end other programs that use the GPU',
    r'shared object|shared library|dynamic library|cannot load': '',  # `_library_remedy`
    r'NCCL': 'look into the logs of the other processes; NCCL_DEBUG=INFO says more',
    r'no kernel image|invalid device function|GPU architecture': 'this Paddle is not built for this GPU; install the '
                                                                 f'one that is, {_GUIDE}',
    r'driver': f'update the NVIDIA driver, or install a Paddle for an earlier CUDA; {_GUIDE}',
    r'no CUDA-capable device|invalid device ordinal': 'nvidia-smi lists the GPUs; --device cpu (train.py: '
                                                      '--use_gpu=false) does without',
}
_OTHER_REMEDY = 'python -m tools.doctor looks for the cause; nvidia-smi tells whether the GPU still answers'


class GpuError(UserError):
    """An error of the GPU, its driver or its libraries."""


def as_gpu_error(error: BaseException) -> GpuError | None:
    """An exception of Paddle as one line with a remedy; None if it is not of a GPU."""
    text = str(error)
    if isinstance(error, GpuError):
        return error
    if isinstance(error, OSError) and error.errno is not None or not _OF_GPU.search(text):
        return None
    if isinstance(error, RuntimeError) and not re.search('PreconditionNotMet|Unsupported GPU|External', text):
        return None  # an error of the program, which may well mention a GPU
    if not isinstance(error, (ImportError, MemoryError, OSError, RuntimeError)):
        return None
    cause = f'{text} out of memory' if isinstance(error, MemoryError) else text
    return GpuError(f'{last_message(text).rstrip(" .")}; {_remedy(cause)}')


def last_message(text: str) -> str:
    """Paddle's own message in a long text, such as 'ExternalError: CUDA error(2), out of memory.'"""
    found = list(_MESSAGE.finditer(text))
    if not found:
        return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), 'an error without a text')
    kind = found[-1]['long'] or f'{found[-1]["short"]}Error'
    return f'{kind}: {_END.split(found[-1]["text"])[0].strip()}'


@contextlib.contextmanager
def adding(advice: str) -> Iterator[None]:
    """A block whose errors of a GPU are `GpuError`s that end with advice."""
    try:
        yield
    except (ImportError, MemoryError, OSError, RuntimeError) as error:
        found = as_gpu_error(error)
        if found is None:
            raise
        raise GpuError(f'{found}. {advice}') from None


def _remedy(text: str) -> str:
    for pattern, remedy in _REMEDIES.items():
        if re.search(pattern, text, re.IGNORECASE):
            return remedy or _library_remedy(text)
    return _OTHER_REMEDY


def _library_remedy(text: str) -> str:
    """Which library is missing, and in which version."""
    name = re.search(r'lib(\w+)\.so|load (\w+) shared', text)
    library = f'lib{name[1] or name[2]}' if name else 'it'
    return f'{wanted_libraries()}; install {library} and put its folder into LD_LIBRARY_PATH (docs/gpu.md)'


def wanted_libraries() -> str:
    """What the Paddle that is imported wants of the system: 'Paddle 2.6.2 wants CUDA 11.8 and cuDNN 8.6.0'."""
    paddle = sys.modules.get('paddle')
    try:
        assert paddle is not None
        return (f'Paddle {paddle.__version__} wants CUDA {paddle.version.cuda()} and cuDNN {paddle.version.cudnn()}')
    except Exception:  # a Paddle that is half imported
        return 'Paddle 2.6.2 wants CUDA 11.8 and cuDNN 8'
