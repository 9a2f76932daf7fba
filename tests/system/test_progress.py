import io
import sys

import pytest

from system import progress
from system.progress import progress_bar, show_progress


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
