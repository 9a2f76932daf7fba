import sys

import pytest
from tqdm import tqdm

from system.messages import one_line, pluralize, print_lines


def test_one_is_singular():
    assert [pluralize(number, 'object') for number in (0, 1, 2)] == ['0 objects', '1 object', '2 objects']
    assert [pluralize(number, 'class') for number in (0, 1, 2)] == ['0 classes', '1 class', '2 classes']


@pytest.mark.parametrize('text, expected', [
    ('plain, ü, 図 and "quotes"', 'plain, ü, 図 and "quotes"'), ('a\nb\r\tc', r'a\nb\r\tc'),
    ('\x1b[2J\x07', r'\x1b[2J\x07'),
    ('\x85\x9b', r'\x85\x9b'), ('\u2028\u2029', r'\u2028\u2029'), ('\udcff', r'\udcff'), (7, '7')])
def test_what_breaks_lines_or_commands_a_terminal_is_escaped(text, expected):
    assert one_line(text) == expected


def test_lines_are_printed_above_a_progress_bar(capsys):
    with tqdm(total=3, file=sys.stderr, mininterval=0) as bar:
        bar.update()
        print_lines('first', 2)
    lines = capsys.readouterr().err.split('\n')
    assert [line.rpartition('\r')[2] for line in lines[:2]] == ['first', '2']
    assert lines[-2].rpartition('\r')[2].startswith(' 33%')
