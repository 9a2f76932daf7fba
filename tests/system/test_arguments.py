import argparse
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from system import arguments

ACCEPTED = [
    ('nonempty', ' ', ' '), ('nonempty_path', 'a/b', Path('a/b')), ('nonempty_path', ' ', Path(' ')),
    ('fraction', '0', 0), ('fraction', '1', 1), ('fraction', '.5', 0.5), ('fraction', '1e-3', 0.001),
    ('decay', '0', 0), ('decay', '0.9999', 0.9999),
    ('nonnegative_float', '0', 0), ('nonnegative_float', '2.5', 2.5),
    ('positive_float', '1e-300', 1e-300), ('positive_float', '7', 7),
    ('positive_int', '1', 1), ('positive_int', '1000000000', 10 ** 9),
    ('nonnegative_int', '0', 0), ('nonnegative_int', '12', 12),
    ('int_in_range', '2', 2), ('int_in_range', '7', 7),
    ('boolean', 'true', True), ('boolean', 'True', True), ('boolean', '1', True),
    ('boolean', 'FALSE', False), ('boolean', '0', False),
]
REFUSED = [
    ('nonempty', '', 'is empty; leave the flag out, or name something'),
    ('nonempty_path', '', 'is empty; name one'),
    ('fraction', '-0.1', '-0.1 is not from 0 to 1'), ('fraction', '1.01', '1.01 is not from 0 to 1'),
    ('fraction', 'nan', 'nan is not from 0 to 1'), ('fraction', 'half', "'half' is not a number"),
    ('fraction', '', "'' is not a number"),
    ('decay', '1', '1 is not less than 1'), ('decay', '2', '2 is not from 0 to 1'),
    ('nonnegative_float', '-1', '-1 is not a number from 0'),
    ('nonnegative_float', 'inf', 'inf is not a number from 0'),
    ('positive_float', '0', '0 is not a number above 0'), ('positive_float', '-1', '-1 is not a number above 0'),
    ('positive_float', 'inf', 'inf is not a number above 0'), ('positive_float', 'nan', 'nan is not a number above 0'),
    ('positive_float', '1,5', "'1,5' is not a number"),
    ('positive_int', '0', '0 is not 1 or more'), ('positive_int', '1.5', "'1.5' is not a whole number"),
    ('positive_int', '1000000001', '1000000001 is more than 1000000000'),
    ('positive_int', '9' * 5000, 'is not a whole number'),  # more digits than Python converts
    ('nonnegative_int', '-1', '-1 is not 0 or more'), ('nonnegative_int', 'inf', "'inf' is not a whole number"),
    ('int_in_range', '1', '1 is not 2 or more'), ('int_in_range', '8', '8 is more than 7'),
    ('int_in_range', 'x', "'x' is not a whole number"),
    ('boolean', 'yes', 'yes is not true or false'), ('boolean', '', ' is not true or false'),
]


def type_of(name: str) -> Callable[[str], object]:
    return arguments.int_in_range(2, 7) if name == 'int_in_range' else getattr(arguments, name)


@pytest.mark.parametrize('name, text, value', ACCEPTED)
def test_an_allowed_value_is_converted(name, text, value):
    converted = type_of(name)(text)
    kinds = {'boolean': bool, 'nonempty': str}.get(name, (int, float, Path))
    assert converted == value and isinstance(converted, kinds)


@pytest.mark.parametrize('name, text, message', REFUSED)
def test_another_value_is_refused_and_the_message_says_what_is_allowed(name, text, message, capsys):
    parser = argparse.ArgumentParser(prog='program')
    parser.add_argument('--flag', type=type_of(name))
    with pytest.raises(SystemExit) as end:
        parser.parse_args([f'--flag={text}'])
    assert end.value.code == 2
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert last_line.startswith('program: error: argument --flag: ') and last_line.endswith(message)


@pytest.mark.parametrize('value', [[], ['value'], ['--other', 'value']])
def test_a_renamed_flag_is_refused_with_its_new_name_and_help_does_not_list_it(value, capsys):
    parser = argparse.ArgumentParser(prog='program')
    parser.add_argument('--other')
    parser.add_argument('--old', action=arguments.Renamed, const='--new')
    assert '--old' not in parser.format_help() and parser.parse_args([]).other is None
    with pytest.raises(SystemExit) as end:
        parser.parse_args(['--old', *value])
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == 'program: error: --old is now --new'


def test_every_type_is_tested():
    types = {name for name, value in vars(arguments).items()
             if inspect.isfunction(value) and value.__module__ == arguments.__name__ and not name.startswith('_')}
    assert types == {name for name, *_ in ACCEPTED} == {name for name, *_ in REFUSED}
