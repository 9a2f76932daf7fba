"""The commands of the guides, as they are written there."""
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT, run

STEPS = 4  # instead of a thousand
PACKAGES = [path.name for path in sorted(ROOT.iterdir()) if any(path.glob('*.py')) and path.name[0] != '.']
COMMAND_FOLDERS = ('tools', 'benchmarks')  # of modules that may be commands; those in data only name their successors


def commands(text: str) -> Iterator[str]:
    """The lines of a guide's code blocks that are for a shell."""
    for language, block in re.findall(r'^```(\w*)\n(.+?)^```', text, re.DOTALL | re.MULTILINE):
        if language in ('', 'bash', 'sh'):
            yield from re.sub(r'\\\n *', ' ', block).splitlines()


@pytest.fixture
def checkout(tmp_path):
    """A folder with links to everything in the repository that the guide uses, so that nothing there is changed."""
    for name in (*PACKAGES, 'images', 'weights', *(path.name for path in ROOT.glob('*.py'))):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.slow
def test_the_guide_for_own_data_goes_from_images_to_an_exported_network(checkout):
    pytest.importorskip('onnxruntime')  # the guide exports
    environment = {**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'}
    lines = list(commands((ROOT / 'docs/own_data.md').read_text()))
    assert len(lines) == 11
    for line in lines:
        line = re.sub(r'--minutes=\d+', f'--steps={STEPS} --num_workers=1', line)
        process = run('bash', '-c', line, cwd=checkout, env=environment)
        allowed = (0, 1) if 'tools.check' in line else (0,)  # there are few objects of each class
        assert process.returncode in allowed, f'{line}\n{process.stdout}{process.stderr}'
        assert 'Traceback' not in process.stderr, line
    mine = checkout / 'mine'
    images = len(list((ROOT / 'images/test').glob('*.jpg')))
    assert len(list(mine.glob('*.json'))) == images
    assert len(list((mine / 'drawn').iterdir())) == images
    for name in ('check/samples.png', 'check/anchors.png', 'check/augmented.png', 'weights/curves.png', 'mine.onnx'):
        assert (mine / name).stat().st_size > 10_000, name


GUIDES = sorted({*ROOT.glob('*.md'), *(ROOT / 'docs').glob('*.md')} - {ROOT / 'CHANGELOG.md'})  # that is on the past
FLAGS_OF_OTHER_PROGRAMS = {'--nproc_per_node', '--backend', '--devices', '--nnodes', '--master', '--help', '--fix'}


def module_exists(name: str) -> bool:
    """Whether `python -m NAME` has something to run."""
    path = ROOT / name.replace('.', '/')
    return path.with_suffix('.py').exists() or (path / '__main__.py').exists()


def help_of(programs: list[list[str]]) -> list[str]:
    """The help texts of programs, each of which is a list of arguments to Python."""
    processes = [subprocess.Popen([sys.executable, *program, '--help'], cwd=ROOT, stdout=subprocess.PIPE, text=True)
                 for program in programs]
    return [process.communicate()[0] for process in processes]


def all_help() -> list[str]:
    """The help texts of all scripts, of all modules that can be run, and of their subcommands."""
    scripts = [[str(path)] for path in ROOT.glob('*.py')]
    modules = [['-m', f'{folder}.{path.stem}'] for folder in COMMAND_FOLDERS
               for path in sorted((ROOT / folder).glob('*.py')) if "__name__ == '__main__'" in path.read_text()]
    modules.append(['-m', 'tests.hostile'])
    programs = scripts + modules
    texts = help_of(programs)
    assert len(texts) > 12 and all(texts), [program for program, text in zip(programs, texts) if not text]
    subcommands = [[*program, name] for program, text in zip(programs, texts)
                   for names in re.findall(r'\{([\w,]+)\} \.\.\.', text) for name in names.split(',')]
    return texts + help_of(subcommands)


def test_every_flag_and_file_in_the_guides_is_there():
    known = set(re.findall(r'--\w+', ' '.join(all_help()))) | FLAGS_OF_OTHER_PROGRAMS
    assert len(known) > 60
    for path in GUIDES:
        text = path.read_text()
        assert set(re.findall(r'(?<![\w-])--[a-z]\w+', text)) <= known, path
        for name in re.findall(rf'`((?:{"|".join(PACKAGES)}|tests|docs)/[\w/]+\.\w+)`', text):
            assert (ROOT / name).exists(), f'{path}: {name}'
        for name in re.findall(rf'python -m ((?:{"|".join(PACKAGES)})\.[a-z]\w+)', text):
            assert module_exists(name), f'{path}: {name}'
        for name in re.findall(r'\]\((?!http)([\w/.]+\.\w+)', text):
            assert (path.parent / name).exists(), f'{path}: {name}'


def test_both_languages_have_the_same_commands_and_numbers():
    english, chinese = ((ROOT / name).read_text() for name in ('README.md', 'README_cn.md'))

    def without_comments(text: str) -> set[str]:
        return {re.sub(r' *(#|→|<).*', '', line) for line in commands(text)}
    assert without_comments(chinese) <= without_comments(english)

    def numbers(text: str) -> list[list[str]]:
        return [sorted(re.findall(r'\d+(?:[.,]\d+)*', line)) for line in text.splitlines()
                if line.startswith('|') and len(re.findall(r'\d+(?:[.,]\d+)*', line)) > 3]
    assert numbers(chinese) == numbers(english)
