"""Says what this machine has for prediction and training, and what to do about what is missing.

    python -m tools.doctor
"""
import system  # noqa: F401  the first import, so that Ctrl-C during the others is quiet

# isort: split
import argparse
import ctypes
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from system.arguments import ArgumentParser
from system.command import run
from system.cpu import cores
from system.gpu_errors import last_message
from system.messages import one_line

UNKNOWN = 'unknown'
NVIDIA = 'nvidia-smi: '  # what its lines begin with, unless it finds nothing
GUIDE = 'docs/gpu.md'
SECONDS = 20  # that nvidia-smi may take
LIBRARIES = ('libcudart.so', 'libcublas.so', 'libcudnn.so')  # by the names that Paddle 2.6 opens
TRY = 'a convolution, forward and backward'


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    return ArgumentParser(description='Say what this machine has for prediction and training, and what to do about '
                                      'what is missing. The exit status is 0 if both work here, else 1.'
                          ).parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Print the lines. Returns the exit status."""
    parse_arguments(argv)
    problems: list[str] = []
    works = True
    print(f'Python     {platform.python_version()}, {platform.platform()}')
    print(f'CPU        {guarded(cpu)}')
    paddle, failure = import_paddle()
    print(f'Paddle     {guarded(describe_paddle, paddle) if paddle else failure}')
    if paddle is None:
        works = False
        problems.append(f'Paddle cannot be imported; install requirements.txt for a CPU, or see {GUIDE} for a GPU')
    problems += two_paddles()
    gpus = guarded(nvidia_smi)
    print(f'GPU        {gpus}')
    if paddle and guarded(compiled_with_cuda, paddle) is True:
        print(f'CUDA       {guarded(describe_cuda, paddle)}')
        print(f'Libraries  {guarded(describe_libraries, paddle)}')
        problems += listed(gpu_problems, paddle, gpus)
    elif paddle and gpus.startswith(NVIDIA):
        problems.append(f'this Paddle has no GPU support, and there is a GPU; {GUIDE} says which one to install')
    print(f'Engines    {guarded(describe_engines)}')
    for device in guarded_devices(paddle):
        failure = try_paddle(paddle, device)
        print(f'Try {device:<6} {TRY}: {failure or "works"}')
        if failure:
            works = False
            problems.append(f'{device}: Paddle does not compute there; {GUIDE} says what it needs')
    for problem in problems:
        print(f'To do      {problem}')
    if works and not problems:
        print('To do      nothing: prediction and training work here')
    return 0 if works else 1



def guarded(probe: Callable[..., Any], *arguments: object) -> Any:
    """What a probe returns, or why it fails: no probe may end the command."""
    try:
        return probe(*arguments)
    except Exception as error:
        return f'{UNKNOWN} ({type(error).__name__}: {one_line(last_message(str(error)), 200)})'


def listed(probe: Callable[..., list[str]], *arguments: object) -> list[str]:
    """The list that a probe returns, or one line that says why it fails."""
    found = guarded(probe, *arguments)
    return found if isinstance(found, list) else [f'the GPU cannot be examined: {found}']


def import_paddle() -> tuple[Any, str]:
    """Paddle, or None and why not. A damaged one may raise anything."""
    try:
        import paddle
        return paddle, ''
    except Exception as error:
        return None, f'cannot be imported: {one_line(last_message(str(error)), 300)}'


def cpu(cpuinfo: str | Path = '/proc/cpuinfo') -> str:
    """Model, cores and threads of the CPU."""
    text = Path(cpuinfo).read_text() if os.path.exists(cpuinfo) else ''
    name = re.search(r'^model name\s*:\s*(.+)', text, re.MULTILINE)
    threads = os.environ.get('OMP_NUM_THREADS') or os.environ.get('MKL_NUM_THREADS')
    return (f'{name[1] if name else platform.processor() or platform.machine()}, {cores()} cores for this process, '
            f'{threads} threads set')


def describe_paddle(paddle: Any) -> str:
    """Its version and what it is built for."""
    cuda = compiled_with_cuda(paddle)
    return f'{paddle.__version__}, built for {"a GPU with CUDA " + str(paddle.version.cuda()) if cuda else "the CPU"}'


def compiled_with_cuda(paddle: Any) -> bool:
    return bool(paddle.device.is_compiled_with_cuda())


def two_paddles() -> list[str]:
    """A problem if both of Paddle's distributions are installed, of which one has overwritten the other's files."""
    both = {'paddlepaddle', 'paddlepaddle-gpu'}
    found = {name for name in both if guarded(importlib.metadata.version, name)[:len(UNKNOWN)] != UNKNOWN}
    return ['paddlepaddle and paddlepaddle-gpu are both installed, and share files; pip uninstall both, and install '
            'one again'] if found == both else []


def nvidia_smi() -> str:
    """Name, memory, architecture and driver of each GPU, from NVIDIA's own program."""
    program = shutil.which('nvidia-smi')
    if not program:
        return 'none (there is no nvidia-smi)'
    query = '--query-gpu=name,memory.total,compute_cap,driver_version'
    done = subprocess.run([program, query, '--format=csv,noheader'], capture_output=True, text=True, timeout=SECONDS)
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode or not lines:
        return f'none (nvidia-smi says: {one_line((done.stdout + done.stderr).strip(), 200)})'
    return NVIDIA + '; '.join(one_line(line) for line in lines)


def describe_cuda(paddle: Any) -> str:
    """What the wheel wants, and the GPUs that Paddle finds."""
    names = [f'{paddle.device.cuda.get_device_name(i)} (sm_{architecture(paddle, i)})'
             for i in range(paddle.device.cuda.device_count())]
    return (f'the wheel wants CUDA {paddle.version.cuda()} and cuDNN {paddle.version.cudnn()}, is built for '
            f'{" ".join(f"sm_{arch}" for arch in wheel_architectures(paddle)) or UNKNOWN}; Paddle finds '
            f'{", ".join(names) or "no GPU"}')


def architecture(paddle: Any, device: int) -> int:
    """Of a GPU: 86 for sm_86."""
    major, minor = paddle.device.cuda.get_device_capability(device)
    return 10 * int(major) + int(minor)


def wheel_architectures(paddle: Any) -> list[int]:
    """The architectures that the wheel has code for; none where it does not say, as in Paddle 2.6."""
    known = {'2.6.2': '61 70 75 80 86'}  # of the wheel on PyPI
    archs = getattr(paddle.version, 'cuda_archs', None)
    text = str(archs() if callable(archs) else archs or known.get(paddle.__version__, ''))
    return sorted({int(number) for number in re.findall(r'\d{2,3}', text)})


def runs_on(architectures: list[int], gpu: int) -> bool:
    """Whether code for some architectures runs on a GPU: the major number is the same, the minor no higher."""
    return any(arch // 10 == gpu // 10 and arch <= gpu for arch in architectures)


def describe_libraries(paddle: Any) -> str:
    """Whether each library can be opened, and the version of cuDNN that Paddle has found."""
    if brings_libraries():
        return f'from pip ({", ".join(brings_libraries())})'
    return ', '.join(f'{name} {"found" if can_be_opened(name) else "not found"}' for name in LIBRARIES)


def brings_libraries() -> list[str]:
    """NVIDIA's libraries that pip has installed, as Paddle 3 wants them."""
    names = ((distribution.metadata['Name'] or '', distribution.version) for distribution in
             importlib.metadata.distributions())
    return sorted(f'{name} {version}' for name, version in names
                  if re.match(r'nvidia-(cuda-runtime|cudnn)', name.lower()))


def can_be_opened(library: str) -> bool:
    """Whether the dynamic linker finds a library, or CUDA's usual folder has it."""
    for name in (library, f'/usr/local/cuda/lib64/{library}'):
        try:
            ctypes.CDLL(name)
            return True
        except OSError:
            pass
    return False


def gpu_problems(paddle: Any, gpus: str) -> list[str]:
    """What keeps a Paddle with GPU support from computing on the GPU."""
    count = paddle.device.cuda.device_count()
    if not count:
        if gpus.startswith(NVIDIA):
            return ['Paddle finds no GPU, and nvidia-smi does; update the driver, and look at CUDA_VISIBLE_DEVICES']
        return ['there is no GPU, or no driver of it: everything runs on the CPU']
    problems = []
    built = wheel_architectures(paddle)
    for device in range(count):
        if built and not runs_on(built, architecture(paddle, device)):
            problems.append(f'gpu:{device} is sm_{architecture(paddle, device)}, for which this Paddle is not built; '
                            f'{GUIDE} says which one is')
    if not brings_libraries():
        problems += [f'{name} is not found; install it for CUDA {paddle.version.cuda()}, and put its folder into '
                     f'LD_LIBRARY_PATH ({GUIDE})' for name in LIBRARIES if not can_be_opened(name)]
    return problems


def describe_engines() -> str:
    """The engines other than Paddle, and where they compute."""
    return f'{guarded(onnx_runtime)}; {guarded(openvino)}'


def onnx_runtime() -> str:
    try:
        import onnxruntime
    except ImportError:
        return 'no onnxruntime'
    return f'onnxruntime {onnxruntime.__version__} ({", ".join(onnxruntime.get_available_providers())})'


def openvino() -> str:
    try:
        import openvino
    except ImportError:
        return 'no openvino (only --precision bf16 needs it)'
    return f'openvino {openvino.__version__.partition("-")[0]} ({", ".join(openvino.Core().available_devices)})'


def guarded_devices(paddle: Any) -> list[str]:
    """The devices to try Paddle on: a GPU too, if Paddle finds one."""
    if paddle is None:
        return []
    try:
        return ['cpu', 'gpu'] if compiled_with_cuda(paddle) and paddle.device.cuda.device_count() else ['cpu']
    except Exception:
        return ['cpu']


def try_paddle(paddle: Any, device: str) -> str:
    """Take a small step of training on a device. Returns '' if that works, else Paddle's own message."""
    try:
        paddle.device.set_device(device)
        layer = paddle.nn.Conv2D(3, 4, 3)
        layer(paddle.ones([1, 3, 8, 8])).mean().backward()
        finite = bool(paddle.isfinite(layer.weight.grad).all())
        return '' if finite else 'computes what is not a number'
    except Exception as error:
        return one_line(last_message(str(error)), 300)


if __name__ == '__main__':
    run(main)
