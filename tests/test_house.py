"""The layout is held: contracts of imports, which fail for a wrong one, and no private names of other files."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lint_imports(folder, *arguments):
    script = Path(sys.executable).with_name('lint-imports')
    result = subprocess.run([script, '--no-cache', *arguments], cwd=folder, capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr


def test_the_contracts_are_kept():
    code, output = lint_imports(ROOT)
    assert code == 0, output


@pytest.mark.parametrize(
    'contract, place, line',
    [
        ('rooms', 'tracing/elements.py', 'from ..mutables import MutableUnit'),
        ('rooms', 'mutators/fold.py', 'from ..slimming.plan import Plan'),
        ('rooms', 'models/build.py', 'from ..visualization import plot_widths'),
        ('rooms', 'topk/bank.py', 'from ..registry import SELECTORS'),
        ('rooms', 'attic.py', 'import math'),  # a room that no layer names
        ('cycles', 'slimming/plan.py', 'from .settle import settle'),
        ('hosts-below', 'mutators/channels.py', 'import timm'),
        ('hosts-below', 'space.py', 'from .compat import import_mmyolo'),
        ('hosts-above', 'algorithms/budget.py', 'from torchvision import models'),
        ('topk', 'topk/functional.py', 'import numpy as np'),
    ],
)
def test_a_wrong_import_breaks_its_contract(tmp_path, contract, place, line):
    shutil.copytree(ROOT / 'dms_mm', tmp_path / 'dms_mm', ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(ROOT / 'pyproject.toml', tmp_path)
    with open(tmp_path / 'dms_mm' / place, 'a') as file:
        file.write(f'\n{line}\n')
    code, output = lint_imports(tmp_path, '--contract', contract)
    room = place.partition('/')[0].removesuffix('.py')
    assert code == 1 and room in output.rpartition('Broken contracts')[2], output


def test_the_topk_imports_with_torch_alone():
    """In a process that finds nothing but the standard library, torch, and what torch itself needs."""
    code = """
import sys
import torch
import numpy
before = {name.partition('.')[0] for name in sys.modules}

class Nothing:
    def find_spec(self, name, path=None, target=None):
        root = name.partition('.')[0]
        if root != 'dms_mm' and root not in before and root not in sys.stdlib_module_names:
            raise ImportError(f'{name} is not torch')

sys.meta_path.insert(0, Nothing())
import dms_mm.topk
assert [n for n in sys.modules if n.startswith('dms_mm.') and not n.startswith('dms_mm.topk')] == []
mask = dms_mm.differentiable_topk(torch.rand(6), torch.tensor(0.5))
assert mask.shape == (6,)
"""
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_no_file_imports_private_names_of_another():
    found = []
    for path in sorted((ROOT / 'dms_mm').rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text())):
            own = isinstance(node, ast.ImportFrom) and (node.level or (node.module or '').startswith('dms_mm'))
            for alias in node.names if own else ():
                if alias.name.startswith('_') and not alias.name.endswith('__'):
                    found.append(f'{path.relative_to(ROOT)}:{node.lineno}: {alias.name}')
    assert not found
