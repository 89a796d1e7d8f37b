"""docs/extend.md: its blocks run, one after the other, in one namespace."""

import re
import sys
from pathlib import Path

import pytest
from mmengine.registry import Registry

from dms_mm import registry

PAGE = Path(__file__).parents[1] / 'docs/extend.md'
MODULE = 'my_parts'


@pytest.fixture
def clean_registries():
    """What an example registers is gone after it; what a host library brings meanwhile is registered once only."""
    yield
    for found in vars(registry).values():
        if isinstance(found, Registry):
            own = [name for name, x in found._module_dict.items() if getattr(x, '__module__', None) == MODULE]
            for name in own:
                del found._module_dict[name]


def test_every_example_of_the_page_runs(clean_registries, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    blocks = [
        (text[: m.start()].count('\n') + 2, m[1]) for m in re.finditer(r'^```python\n(.*?)^```', text, re.M | re.S)
    ]
    assert len(blocks) >= 10
    # A module of its own: what the examples define has a place to be found in by dataclasses and copies.
    module = type(sys)(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)
    for line, block in blocks:
        exec(compile('\n' * (line - 1) + block, str(PAGE), 'exec'), module.__dict__)
