import json
import os
import platform
import sys
from pathlib import Path

import pytest

from tests.helpers import run

AMD = 'vendor_id : AuthenticAMD\nflags : fpu sse4_2 {}\n'
AVX512 = 'avx2 fma avx512f avx512dq avx512bw avx512vl avx512cd'


def configured(tmp_path: Path, cpuinfo: str, **environment: str) -> dict[str, str]:
    """The environment variables of a new process on the CPU of a cpuinfo, after it has configured it."""
    (tmp_path / 'cpuinfo').write_text(cpuinfo)
    script = ('import system.cpu, os, json, sys; os.environ.clear(); os.environ.update(json.loads(sys.argv[2])); '
              'system.cpu.configure(sys.argv[1]); print(json.dumps(dict(os.environ)))')
    process = run(sys.executable, '-c', script, tmp_path / 'cpuinfo', json.dumps(environment), check=True)
    return json.loads(process.stdout)


@pytest.mark.parametrize('cpuinfo, path', [
    (AMD.format('avx2 fma'), '5'), (AMD.format(AVX512), '7'), (AMD.format('avx2 fma avx512f'), '5'),
    (AMD.format('sse3'), None), ('vendor_id : GenuineIntel\nflags : ' + AVX512, None)])
def test_amd_takes_the_fastest_code_path_that_it_can_run(tmp_path, cpuinfo, path):
    assert configured(tmp_path, cpuinfo).get('MKL_DEBUG_CPU_TYPE') == path


def test_all_cores_are_used_and_shared_by_the_processes_of_a_launcher(tmp_path):
    cores = len(os.sched_getaffinity(0))
    assert configured(tmp_path, '')['MKL_NUM_THREADS'] == str(cores)
    assert configured(tmp_path, '', PADDLE_LOCAL_SIZE='2')['MKL_NUM_THREADS'] == str(max(cores // 2, 1))
    assert configured(tmp_path, '', PADDLE_LOCAL_SIZE='1000')['MKL_NUM_THREADS'] == '1'


@pytest.mark.parametrize('variables', [{'OMP_NUM_THREADS': '3'}, {'MKL_NUM_THREADS': '3'},
                                       {'MKL_NUM_THREADS': '3', 'MKL_DEBUG_CPU_TYPE': '4'}])
def test_variables_that_the_user_has_set_are_kept(tmp_path, variables):
    found = configured(tmp_path, AMD.format(AVX512), **variables)
    assert {name: found[name] for name in variables} == variables
    assert ('MKL_NUM_THREADS' in found) == ('MKL_NUM_THREADS' in variables)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='only glibc needs it')
@pytest.mark.parametrize('variables, kept', [({}, True), ({'MALLOC_TRIM_THRESHOLD_': '131072'}, False)])
def test_freed_memory_is_kept_for_the_next_step(variables, kept):
    script = ('import resource; from system import cpu; import numpy as np\n'
              'cpu.keep_memory()\n'
              'for _ in range(3):\n'
              '    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n'
              '    np.ones(2 ** 24)\n'
              '    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n'
              'print(faults)')
    # If the system maps the memory anew, there is one page fault for each 4 KiB, or 2 MiB with huge pages.
    faults = run(sys.executable, '-c', script, check=True, env={**os.environ, **variables}).stdout
    assert (int(faults) < 2 ** 27 // 2 ** 21 // 2) is kept
