"""What libraries find in the environment when they are imported."""
import os
import sys

import pytest

from tests.helpers import ROOT, run

CODE = "import system, os, warnings; print(os.environ['GLOG_minloglevel']); warnings.warn('{}')"
NOISE = 'You are using GPU version Paddle, but your CUDA device is not set properly.'


@pytest.mark.parametrize('level, found', [(None, '2'), ('0', '0')])
def test_paddle_is_quiet_where_there_is_no_gpu_unless_the_user_asks_for_its_log(level, found):
    environment = {name: value for name, value in os.environ.items() if name != 'GLOG_minloglevel'}
    environment.update({'GLOG_minloglevel': level} if level else {}, PYTHONPATH=str(ROOT))
    done = run(sys.executable, '-c', CODE.format(NOISE), env=environment)
    assert (done.stdout, done.stderr) == (f'{found}\n', '')
    assert 'something else' in run(sys.executable, '-c', CODE.format('something else'), env=environment).stderr
