import re

from tests.helpers import ROOT


def test_the_system_package_imports_nothing_else_of_the_repository():
    others = {path.stem for path in ROOT.iterdir() if path.is_dir() or path.suffix == '.py'} - {'system'}
    assert {'model', 'data', 'train'} <= others
    for path in (ROOT / 'system').glob('*.py'):
        imported = set(re.findall(r'^\s*(?:from|import) (\w+)', path.read_text(), re.MULTILINE))
        assert not imported & others, path
