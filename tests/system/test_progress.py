import io
import sys

import pytest

from system import progress
from system.progress import progress_bar, shorten, show_progress
from tests.helpers import ROOT
from tests.helpers.terminal import run_on_terminal


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_file_gets_lines_without_carriage_returns(monkeypatch, capsys):
    monkeypatch.setattr(progress, 'LINE_INTERVAL', 0)
    assert list(show_progress(range(3), 3, 'images', 'reading')) == [0, 1, 2]
    lines = capsys.readouterr().err.split('\n')
    assert all(line.startswith('reading: ') and '\r' not in line for line in lines[:-1])
    assert lines[-2].split()[:3] == ['reading:', '100%', '3/3']


def test_quick_work_prints_nothing_into_a_file(capsys):
    assert list(show_progress(range(3), 3, 'images')) == [0, 1, 2]
    assert capsys.readouterr().err == ''


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys, 'stderr', terminal := Terminal())
    with progress_bar(8, 'images', initial=2) as bar:
        bar.update()
        bar.refresh()
    assert '3/8' in terminal.getvalue() and '\r' in terminal.getvalue()


@pytest.mark.parametrize('terminal', [io.StringIO, Terminal])
def test_nothing_is_shown_where_nothing_is_to_be(monkeypatch, terminal):
    monkeypatch.setattr(progress, 'LINE_INTERVAL', 0)
    monkeypatch.setattr(sys, 'stderr', stream := terminal())
    with progress_bar(3, 'images', shown=False) as bar:
        bar.update(3)
    assert stream.getvalue() == ''


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from system.progress import progress_bar
with progress_bar(300, 'frames', 'a very long name of a video, such as cameras give them, 2026-01-01.mp4') as bar:
    bar.update(133)
    bar.refresh()
"""


@pytest.mark.parametrize('columns', [60, 80, 150])
def test_a_bar_shows_numbers_at_every_width_whatever_is_counted(tmp_path, columns):
    with open(tmp_path / 'stdout', 'w') as stdout:
        status, lines = run_on_terminal(columns, sys.executable, '-c', SCRIPT, ROOT, stdout=stdout)
    assert status == 0
    line = next(line for line in lines if '133/300' in line)
    assert 'a very' in line and '44%' in line and len(line) < columns


def test_the_middle_of_a_long_text_is_left_out():
    assert [shorten('0123456789', length) for length in (10, 7, 4)] == ['0123456789', '012…789', '01…9']
