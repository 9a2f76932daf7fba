"""python -m tools.doctor, as it is here, and with a GPU that is made up."""
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.helpers import run
from tools import doctor

SMI = 'NVIDIA GeForce RTX 3060, 12288 MiB, 8.6, 560.35.03'


def fake_paddle(capability=(8, 6), gpus=1, archs=(75, 80, 86), error=None):
    """A Paddle that is built for a GPU."""
    def fail(*_):
        if error:
            raise error
    cuda = SimpleNamespace(device_count=lambda: gpus, get_device_name=lambda i: 'RTX',
                           get_device_capability=lambda i: capability)
    return SimpleNamespace(
        __version__='3.3.0', device=SimpleNamespace(is_compiled_with_cuda=lambda: True, cuda=cuda, set_device=fail),
        version=SimpleNamespace(cuda=lambda: '12.6', cudnn=lambda: '9.5', cuda_archs=lambda: list(archs)))


@pytest.fixture
def machine(monkeypatch):
    """Make up Paddle, the lines of nvidia-smi, and the libraries."""
    def make_up(paddle, smi=SMI, libraries=True, tries=None):
        monkeypatch.setattr(doctor, 'import_paddle', lambda: (paddle, ''))
        monkeypatch.setattr(doctor, 'nvidia_smi', lambda: f'nvidia-smi: {smi}' if smi else 'none')
        monkeypatch.setattr(doctor, 'can_be_opened', lambda library: libraries)
        monkeypatch.setattr(doctor, 'brings_libraries', list)
        monkeypatch.setattr(doctor, 'try_paddle', tries or (lambda *_: ''))
    return make_up


def said(capsys) -> tuple[int, list[str]]:
    """The exit status, and what there is to do."""
    status = doctor.main([])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 18
    return status, [line.removeprefix('To do      ') for line in lines if line.startswith('To do')]


def test_a_cpu_that_works_has_nothing_to_do():
    done = run(sys.executable, '-m', 'tools.doctor')
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and 6 <= len(lines) <= 12, done.stdout + done.stderr
    assert lines[-2] == 'Try cpu    a convolution, forward and backward: works' or 'gpu' in done.stdout
    assert any(line.startswith('Engines    onnxruntime') or 'no onnxruntime' in line for line in lines)


def test_a_gpu_that_works(machine, capsys):
    machine(fake_paddle())
    assert said(capsys) == (0, ['nothing: prediction and training work here'])


@pytest.mark.parametrize('capability, archs, runs', [
    ((8, 9), (80, 86), True), ((9, 0), (75, 80, 86), False), ((12, 0), (75, 80, 86, 90), False), ((7, 0), (75,), False),
    ((8, 0), (80, 86), True), ((9, 0), (), True)])
def test_a_gpu_of_another_architecture_than_the_wheel(machine, capsys, capability, archs, runs):
    machine(fake_paddle(capability, archs=archs))
    _, todo = said(capsys)
    name = f'sm_{capability[0]}{capability[1]}'
    assert todo == ['nothing: prediction and training work here'] if runs else [
        f'gpu:0 is {name}, for which this Paddle is not built; docs/gpu.md says which one is']


def test_libraries_that_are_missing_are_named(machine, capsys):
    machine(fake_paddle(), libraries=False)
    _, todo = said(capsys)
    assert [line.partition(' ')[0] for line in todo] == ['libcudart.so', 'libcublas.so', 'libcudnn.so']
    assert 'CUDA 12.6' in todo[2] and 'LD_LIBRARY_PATH' in todo[2]


def test_a_gpu_that_only_nvidia_smi_finds(machine, capsys):
    machine(fake_paddle(gpus=0))
    assert said(capsys)[1] == ['Paddle finds no GPU, and nvidia-smi does; update the driver, and look at '
                               'CUDA_VISIBLE_DEVICES']


def test_a_gpu_that_does_not_compute_is_an_error(machine, capsys):
    machine(fake_paddle(error=OSError('(External) CUDA error(999), unknown error.\n  [Hint: none] (at /paddle)')),
            tries=doctor.try_paddle)
    status = doctor.main([])
    out = capsys.readouterr().out
    assert status == 1 and 'backward: ExternalError: CUDA error(999), unknown error.\n' in out
    assert 'gpu: Paddle does not compute there' in out


def test_a_gpu_without_a_paddle_for_it(machine, capsys):
    paddle = fake_paddle()
    paddle.device.is_compiled_with_cuda = lambda: False
    machine(paddle)
    assert said(capsys)[1] == ['this Paddle has no GPU support, and there is a GPU; docs/gpu.md says which one to '
                               'install']


def test_no_probe_ends_it(monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError('(PreconditionNotMet) Cannot load\n[Hint')
    for probe in ('cpu', 'describe_paddle', 'nvidia_smi', 'describe_cuda', 'describe_libraries', 'describe_engines',
                  'gpu_problems', 'compiled_with_cuda'):
        monkeypatch.setattr(doctor, probe, fail)
    assert doctor.main([]) == 0
    assert capsys.readouterr().out.count('unknown (RuntimeError: PreconditionNotMetError: Cannot load)') >= 4


def test_without_paddle_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(doctor, 'import_paddle', lambda: (None, 'cannot be imported: libcuda.so.1'))
    status, todo = said(capsys)
    assert status == 1 and 'Paddle cannot be imported' in todo[0]


@pytest.mark.parametrize('status, out, found', [(0, f'{SMI}\n', f'nvidia-smi: {SMI}'), (9, 'no devices', 'none (')])
def test_nvidia_smi(monkeypatch, status, out, found):
    monkeypatch.setattr(doctor.shutil, 'which', lambda name: name)
    monkeypatch.setattr(doctor.subprocess, 'run', lambda command, **_: subprocess.CompletedProcess(command, status, out,
                                                                                                   ''))
    assert doctor.nvidia_smi().startswith(found)
