"""The commands of the guides, as they stand there."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

STEPS = 4  # in the place of a thousand


def commands(text):
    """The lines of the blocks of a guide that are commands."""
    for block in re.findall(r'^```\n(.+?)^```', text, re.DOTALL | re.MULTILINE):
        yield from re.sub(r'\\\n *', ' ', block).splitlines()


@pytest.fixture
def place(tmp_path):
    """A folder that looks like the project's, in which nothing of it is changed."""
    for name in ('data', 'model', 'training', 'images', 'weights', *(path.name for path in ROOT.glob('*.py'))):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.slow
def test_the_guide_for_own_data_goes_from_images_to_an_exported_network(place, tmp_path):
    pytest.importorskip('onnxruntime')  # the guide exports
    environment = {**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'}
    lines = list(commands((ROOT / 'docs/own_data.md').read_text()))
    assert len(lines) == 11
    for line in lines:
        line = re.sub(r'--steps=\d+', f'--steps={STEPS} --num_workers=1', line)
        done = subprocess.run(line, shell=True, cwd=place, env=environment, capture_output=True, text=True)
        wanted = (0, 1) if 'check' in line.split()[3:4] else (0,)  # a few images are few objects of each class
        assert done.returncode in wanted, f'{line}\n{done.stdout}{done.stderr}'
        assert 'Traceback' not in done.stderr, line
    mine = place / 'mine'
    images = len(list((ROOT / 'images/test').glob('*.jpg')))
    assert len(list(mine.glob('*.json'))) == images
    assert len(list((mine / 'drawn').iterdir())) == images
    for name in ('check/samples.png', 'check/anchors.png', 'check/augmented.png', 'weights/curves.png', 'mine.onnx'):
        assert (mine / name).stat().st_size > 10_000, name


GUIDES = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').glob('*.md')])
OTHERS = {'--nproc_per_node', '--backend', '--devices', '--nnodes', '--master', '--help', '--fix'}  # of other programs


def helps():
    """What all programs say of their flags."""
    scripts = [[str(path)] for path in ROOT.glob('*.py') if path.name != 'command_line.py']
    modules = [['-m', f'{path.parent.name}.{path.stem}'] for folder in ('data', 'benchmarks')
               for path in sorted((ROOT / folder).glob('*.py')) if '__main__' in path.read_text()]
    more = [['-m', 'visualization.drawing', 'samples'], ['-m', 'data.coco', 'check']]
    processes = [subprocess.Popen([sys.executable, *which, '--help'], cwd=ROOT, stdout=subprocess.PIPE, text=True)
                 for which in scripts + modules + more]
    return [process.communicate()[0] for process in processes]


def test_every_flag_and_file_in_the_guides_is_there():
    known = set(re.findall(r'--\w+', ' '.join(helps()))) | OTHERS
    assert len(known) > 60
    for path in GUIDES:
        text = path.read_text()
        assert set(re.findall(r'(?<![\w-])--[a-z]\w+', text)) <= known, path
        for name in re.findall(r'`((?:tests|benchmarks|model|data|docs|training)/\w+\.\w+)`', text):
            assert (ROOT / name).exists(), f'{path}: {name}'
        for name in re.findall(r'python -m ((?:data|benchmarks)\.\w+)', text):
            assert (ROOT / f'{name.replace(".", "/")}.py').exists(), f'{path}: {name}'
        for name in re.findall(r'\]\((?!http)([\w/.]+\.\w+)', text):
            assert (path.parent / name).exists(), f'{path}: {name}'


def test_both_languages_have_the_same_commands_and_figures():
    english, chinese = ((ROOT / name).read_text() for name in ('README.md', 'README_cn.md'))

    def plain(text):
        return {re.sub(r' *(#|→|<).*', '', line) for line in commands(text)}
    assert plain(chinese) <= plain(english)

    def figures(text):
        return [sorted(re.findall(r'\d+(?:[.,]\d+)*', line)) for line in text.splitlines()
                if line.startswith('|') and len(re.findall(r'\d+(?:[.,]\d+)*', line)) > 3]
    assert figures(chinese) == figures(english)
