import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT

CHECK = """
import {module}
import os
assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'
try:
    import openvino_telemetry
except ImportError:
    print('off')
"""


@pytest.mark.parametrize('module', ['system', 'model.config', 'engines.selection', 'prediction', 'data.coco'])
def test_telemetry_is_off_whichever_package_comes_first(module):
    environment = {name: value for name, value in os.environ.items() if name != 'ORT_DISABLE_TELEMETRY'}
    done = subprocess.run([sys.executable, '-c', CHECK.format(module=module)], cwd=ROOT, env=environment,
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, 'off\n'), done.stderr


def test_openvino_works_without_its_telemetry():
    pytest.importorskip('openvino')
    code = 'import system, openvino; print("CPU" in openvino.Core().available_devices)'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == 'True\n', done.stderr
