"""Paddle's errors of a GPU in one line."""
import pytest

from system import distributed
from system.distributed import DistributedError
from system.gpu_errors import GpuError, adding, as_gpu_error
from tests.helpers.paddle_errors import ERRORS


def test_the_remedy_of_a_gpu_that_the_wheel_is_not_built_for_is_another_wheel():
    assert str(as_gpu_error(ERRORS['arch'])) == (
        'ExternalError: CUDA error(209), no kernel image is available for execution on the device; this Paddle is not '
        'built for this GPU; install the one that is, docs/gpu.md says which')


def test_a_missing_library_is_named_with_its_version(monkeypatch):
    import paddle
    monkeypatch.setattr(paddle, '__version__', '2.6.2')
    monkeypatch.setattr(paddle.version, 'cuda', lambda: '11.8')
    monkeypatch.setattr(paddle.version, 'cudnn', lambda: '8.6.0')
    assert str(as_gpu_error(ERRORS['cudnn'])).endswith(
        '; Paddle 2.6.2 wants CUDA 11.8 and cuDNN 8.6.0; install libcudnn and put its folder into LD_LIBRARY_PATH '
        '(docs/gpu.md)')


@pytest.mark.parametrize('error', [
    OSError(2, 'No such file', '/usr/lib/libcudnn.so'), OSError('of no file'), MemoryError(),
    RuntimeError('no GPU here'), MemoryError('(ResourceExhausted) Fail to alloc memory of 40 size, error code is 12.'),
    ValueError('CUDA error(2)')])
def test_other_errors_are_not_of_a_gpu(error):
    assert as_gpu_error(error) is None
    with pytest.raises(type(error)), adding('advice'):
        raise error


def test_an_error_of_the_own_gpu_is_not_the_end_of_another_process(monkeypatch):
    monkeypatch.setattr(distributed, 'peer_lost', lambda timeout=0: False)
    for name in ('cuda_2.6', 'cuda_3', 'nccl'):
        with pytest.raises(GpuError), distributed._distributed_errors():
            raise ERRORS[name]
    monkeypatch.setattr(distributed, 'peer_lost', lambda timeout=0: True)
    with pytest.raises(GpuError, match='CUDA error'), distributed._distributed_errors():
        raise ERRORS['cuda_3']
    with pytest.raises(DistributedError), distributed._distributed_errors():
        raise ERRORS['nccl']
