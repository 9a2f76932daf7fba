"""Errors of Paddle on a GPU, as Paddle 2.6 and 3 word them, and a program that raises one of them within a script.

    FAIL=NAME FAIL_AFTER=GLOB python -m tests.helpers.paddle_errors SCRIPT FLAG...
"""
import glob
import os
import runpy
import sys

STACK = """

--------------------------------------
C++ Traceback (most recent call last):
--------------------------------------
0   paddle::pybind::eager_api_conv2d(_object*, _object*, _object*)
1   phi::DeviceContext::Alloc(phi::TensorBase*, phi::DataType, unsigned long, bool, bool) const

----------------------
Error Message Summary:
----------------------
"""
ERRORS = {
    'cuda_2.6': OSError(f'{STACK}ExternalError: CUDA error(700), an illegal memory access was encountered. \n  [Hint: '
                        "'cudaErrorIllegalAddress'. The device encountered a load or store instruction on an invalid "
                        'memory address. ] (at /paddle/paddle/phi/backends/gpu/cuda/cuda_info.cc:259)\n'),
    'cuda_3': OSError("(External) CUDA error(2), out of memory. \n  [Hint: 'cudaErrorMemoryAllocation'. The API call "
                      'failed because it was unable to allocate enough memory to perform the requested operation. ] '
                      '(at /paddle/paddle/phi/backends/gpu/cuda/cuda_info.cc:259)\n'),
    'arch': OSError('(External) CUDA error(209), no kernel image is available for execution on the device. \n  [Hint: '
                    "'cudaErrorNoKernelImageForDevice'. ] (at /paddle/paddle/phi/backends/gpu/cuda/cuda_info.cc:345)"),
    'memory': MemoryError(f'{STACK}ResourceExhaustedError: \n\nOut of memory error on GPU 0. Cannot allocate '
                          '3.125000GB memory on GPU 0, 7.500000GB memory has been allocated and available memory is '
                          'only 117.750000MB.\n\nPlease check whether there is any other process using GPU 0.\n1. If '
                          'yes, please stop them, or start PaddlePaddle on another GPU.\n2. If no, please decrease the '
                          'batch size of your model. \n (at ../paddle/fluid/memory/allocation/cuda_allocator.cc:86)\n'),
    'cudnn': RuntimeError('(PreconditionNotMet) Cannot load cudnn shared library. Cannot invoke method '
                          'cudnnGetVersion.\n  [Hint: cudnn_dso_handle should not be null.] (at '
                          '/paddle/paddle/phi/backends/dynload/cudnn.cc:64)\n'),
    'nccl': OSError("(External) NCCL error(1), unhandled cuda error (run with NCCL_DEBUG=INFO for details). \n  [Hint: "
                    "'ncclUnhandledCudaError'. ] (at /paddle/paddle/phi/core/distributed/nccl_comm_context.cc:86)\n"),
}


def main() -> None:
    """Run a script in which every convolution fails, once there are files of the pattern."""
    import system  # noqa: F401  sets Paddle up

    # isort: split
    import paddle
    forward = paddle.nn.Conv2D.forward

    def failing(self, x):
        if not os.environ.get('FAIL_AFTER') or glob.glob(os.environ['FAIL_AFTER']):
            raise ERRORS[os.environ['FAIL']]
        return forward(self, x)
    paddle.nn.Conv2D.forward = failing
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name='__main__')


if __name__ == '__main__':
    main()
