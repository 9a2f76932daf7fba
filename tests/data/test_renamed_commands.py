import sys

import pytest

from tests.helpers import run


@pytest.mark.parametrize('arguments, message', [
    (('data.coco', 'check', 'a.json', 'images'), 'python -m data.coco check is now python -m tools.check\n'),
    (('data.labelme', 'images', '--out', 'a.json'), 'python -m data.labelme is now python -m tools.convert\n'),
    (('data.visualize', 'curves', 'log.jsonl'), 'python -m data.visualize is now python -m tools.visualize\n'),
    (('data.shapes', 'shapes'), 'python -m data.shapes is now python -m tools.shapes\n')])
def test_a_renamed_command_ends_with_its_new_name(arguments: tuple[str, ...], message: str) -> None:
    done = run(sys.executable, '-m', *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, '', message)
