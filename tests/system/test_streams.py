"""Standard streams that are closed, in a process of its own."""
import subprocess
import sys

import pytest

from tests.helpers import ROOT

PROGRAM = """
import system
file = open('{path}', 'w')
print('to stdout'); print('to stderr', file=__import__('sys').stderr)
import os; os.write(1, b'raw'); os.write(2, b'raw')
file.write('in the file'); file.close()
"""


@pytest.mark.parametrize('closed', ['>&-', '2>&-', '>&- 2>&-', '<&- >&- 2>&-'])
def test_a_file_does_not_take_the_place_of_a_closed_stream(tmp_path, closed):
    path = tmp_path / 'file'
    (tmp_path / 'program.py').write_text(PROGRAM.format(path=path))
    done = subprocess.run(['sh', '-c', f'"$0" program.py {closed}', sys.executable], cwd=tmp_path,
                          env={'PYTHONPATH': str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert path.read_text() == 'in the file'
    assert ('to stdout' in done.stdout) == ('>&-' not in closed.replace('2>&-', ''))
    assert ('to stderr' in done.stderr) == ('2>&-' not in closed)
