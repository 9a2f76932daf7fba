import json
import os
import platform
import subprocess
import sys

import pytest

AMD = 'vendor_id : AuthenticAMD\nflags : fpu sse4_2 {}\n'
AVX512 = 'avx2 fma avx512f avx512dq avx512bw avx512vl avx512cd'


def prepared(tmp_path, described, **environment):
    """The variables that a fresh process ends up with on a processor that is described so."""
    (tmp_path / 'cpuinfo').write_text(described)
    script = ('import system.cpu, os, json, sys; os.environ.clear(); os.environ.update(json.loads(sys.argv[2])); '
              'system.cpu.prepare(sys.argv[1]); print(json.dumps(dict(os.environ)))')
    command = [sys.executable, '-c', script, str(tmp_path / 'cpuinfo'), json.dumps(environment)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize('described, path', [
    (AMD.format('avx2 fma'), '5'), (AMD.format(AVX512), '7'), (AMD.format('avx2 fma avx512f'), '5'),
    (AMD.format('sse3'), None), ('vendor_id : GenuineIntel\nflags : ' + AVX512, None)])
def test_amd_takes_the_fastest_path_that_it_can_run(tmp_path, described, path):
    assert prepared(tmp_path, described).get('MKL_DEBUG_CPU_TYPE') == path


def test_all_cores_are_used_and_shared_by_the_processes_of_a_launcher(tmp_path):
    cores = len(os.sched_getaffinity(0))
    assert prepared(tmp_path, '')['MKL_NUM_THREADS'] == str(cores)
    assert prepared(tmp_path, '', PADDLE_LOCAL_SIZE='2')['MKL_NUM_THREADS'] == str(max(cores // 2, 1))
    assert prepared(tmp_path, '', PADDLE_LOCAL_SIZE='1000')['MKL_NUM_THREADS'] == '1'


@pytest.mark.parametrize('mine', [{'OMP_NUM_THREADS': '3'}, {'MKL_NUM_THREADS': '3'},
                                  {'MKL_NUM_THREADS': '3', 'MKL_DEBUG_CPU_TYPE': '4'}])
def test_what_the_user_set_is_kept(tmp_path, mine):
    found = prepared(tmp_path, AMD.format(AVX512), **mine)
    assert {name: found[name] for name in mine} == mine
    assert ('MKL_NUM_THREADS' in found) == ('MKL_NUM_THREADS' in mine)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='only glibc needs it')
@pytest.mark.parametrize('mine, kept', [({}, True), ({'MALLOC_TRIM_THRESHOLD_': '131072'}, False)])
def test_memory_is_kept_for_the_next_step(mine, kept):
    script = ('import resource; from model import cpu; import numpy as np\n'
              'cpu.keep_memory()\n'
              'for _ in range(3):\n'
              '    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n'
              '    np.ones(2 ** 24)\n'
              '    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n'
              'print(faults)')
    # One fault for each page of 4 KiB, or 2 MiB where those are on, if the system hands them out anew.
    faults = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True,
                            env={**os.environ, **mine}).stdout
    assert (int(faults) < 2 ** 27 // 2 ** 21 // 2) is kept
