"""Layers so narrow that the host trains them wrongly: they are found, named, and torch is watched for the cure."""

import copy
import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import dms_mm
from dms_mm.slimming import narrow
from dms_mm.slimming.narrow import BLOCKS, MENDED, block, narrow_layers

SCRIPT = Path(__file__).parents[1] / 'builders/narrow_host.py'


def is_mended():
    return MENDED is not None and tuple(int(n) for n in torch.__version__.split('.')[:2]) >= MENDED


def checks_of_the_heap():
    """Environment that lets glibc check its heap, or why it can't be had."""
    environment = {'LD_PRELOAD': 'libc_malloc_debug.so.0', 'GLIBC_TUNABLES': 'glibc.malloc.check=3'}
    if sys.platform != 'linux' or platform.machine() not in ('x86_64', 'AMD64'):
        return f'the fault is of oneDNN on x86-64 Linux, this is {sys.platform} on {platform.machine()}'
    said = subprocess.run(['true'], env={**os.environ, **environment}, capture_output=True, text=True).stderr
    return f'no heap checks: {said.strip()}' if said else environment


@pytest.mark.parametrize('capability, isa', [('AVX2', 'AVX2'), ('AVX512', 'AVX512_CORE')])
def test_whether_torch_still_has_the_fault(capability, isa):
    """Fails with the first torch that is mended, so that the warning is taken out for it."""
    checks = checks_of_the_heap()
    if isinstance(checks, str):
        pytest.skip(checks)
    mine = torch.backends.cpu.get_cpu_capability()
    if not torch.backends.mkldnn.is_available() or mine not in list(BLOCKS)[list(BLOCKS).index(capability) :]:
        pytest.skip(f'this torch has no oneDNN, or its CPU ({mine}) no {capability}')
    environment = {**os.environ, **checks, 'ONEDNN_MAX_CPU_ISA': isa, 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, str(SCRIPT), str(BLOCKS[capability])]
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        told, errors = ended.stdout, ended.stderr
    except subprocess.TimeoutExpired as hung:
        told, errors = (hung.stdout or b'').decode(), 'it hung'
    assert 'control' in told, errors
    if is_mended():
        assert 'right' in told, f'torch {torch.__version__} should be mended (MENDED in slimming/narrow.py): {errors}'
    else:
        assert 'right' not in told, (
            f'torch {torch.__version__} has mended the fault for {isa}: set MENDED in dms_mm/slimming/narrow.py to '
            'this release if both instruction sets are mended, and say so in docs/faq.md'
        )


@pytest.mark.parametrize(
    'layer, at_fault',
    [
        (nn.Conv2d(7, 9, 1, 2), True),
        (nn.Conv2d(2, 9, 1, (1, 2), bias=False), True),
        (nn.Conv2d(7, 9, 1, 3, padding='valid'), True),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(7, 9, 1, 2)), True),
        (nn.Conv2d(1, 9, 1, 2), False),
        (nn.Conv2d(8, 9, 1, 2), False),
        (nn.Conv2d(7, 9, 1), False),
        (nn.Conv2d(7, 9, 3, 2), False),
        (nn.Conv2d(7, 9, 1, 2, padding=1), False),
        (nn.Conv2d(6, 6, 1, 2, groups=3), False),
        (nn.Conv1d(7, 9, 1, 2), False),
        (nn.Conv3d(7, 9, 1, 2), False),
        (nn.ConvTranspose2d(7, 9, 1, 2), False),
        (nn.Conv2d(7, 9, 1, 2, dtype=torch.float64), False),
        (nn.Conv2d(7, 9, 1, 2, dtype=torch.bfloat16), False),
        (nn.Conv2d(7, 9, 1, 2, device='meta'), False),
    ],
)
def test_which_layers_are_at_fault(layer, at_fault):
    found = narrow_layers(nn.Sequential(nn.ReLU(), layer), least=8)
    assert found == ({'1': layer.in_channels} if at_fault else {})


@pytest.mark.parametrize(
    'capability, limit, expected',
    [
        ('AVX2', '', 8),
        ('AVX512', '', 16),
        ('AVX512', 'avx2', 8),
        ('AVX512', 'AVX2_VNNI', 8),
        ('AVX512', 'AVX512_CORE', 16),
        ('AVX2', 'ALL', 8),
        ('AVX512', 'SSE41', 1),
        ('AVX512', 'AVX', 1),
        ('DEFAULT', '', 1),
        ('SVE256', '', 1),
    ],
)
def test_the_block_of_the_cpu(monkeypatch, capability, limit, expected):
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: True)
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: capability)
    monkeypatch.setenv('ONEDNN_MAX_CPU_ISA', limit)
    monkeypatch.setattr(narrow, 'MENDED', (2, 99))
    assert block('2.14.1+cu130') == block('2.98.0a0+git1') == expected
    assert block('2.99.0') == block('3.0.1') == 1
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
    assert block('2.14.1') == 1


class Net(nn.Module):
    """Two convolutions, of which the second is a shortcut by stride, and a block that may go, which holds another."""

    class Block(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.a, self.b = nn.Conv2d(c, c, 1, stride=2), nn.ConvTranspose2d(c, c, 2, stride=2)

        def forward(self, x):
            return (x + self.b(self.a(x).relu())).relu()

    def __init__(self):
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 24, 3, padding=1), self.Block(24)
        self.left, self.short = nn.Conv2d(24, 30, 3, 2, 1), nn.Conv2d(24, 30, 1, 2)
        self.head = nn.Linear(30, 4)

    def forward(self, x):
        x = self.block(self.stem(x).relu())
        return self.head((self.left(x) + self.short(x)).relu().mean((2, 3)))


def messages(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('default')
        call()
    return [str(w.message) for w in caught if '6035' in str(w.message)]


@pytest.fixture
def avx512(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: True)
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: 'AVX512')
    monkeypatch.delenv('ONEDNN_MAX_CPU_ISA', raising=False)


def test_who_makes_a_structure_is_told_the_layer_and_what_helps(avx512, tmp_path):
    plain = Net()
    space = dms_mm.make_searchable(copy.deepcopy(plain), torch.zeros(2, 3, 8, 8))
    (stem,) = [n for n, u in space.units.items() if u.kind == 'channel' and u.size == 24 and 'stem' in n]
    (depth,) = [n for n, u in space.units.items() if u.kind == 'depth']
    assert not messages(space.structure)
    space.set_keep({stem: 5})
    for call in (space.structure, space.slim):
        (told,) = messages(call)
        assert 'block.a (5 input channels), short (5 input channels).' in told
        assert 'contiguous_format' in told and 'min_channels=16' in told and 'left' not in told
    assert not messages(space.report)
    space.structure().save(tmp_path / 'structure.json')
    (told,) = messages(lambda: dms_mm.build_slim(copy.deepcopy(plain), tmp_path / 'structure.json'))
    assert 'block.a (5 input channels), short (5 input channels).' in told
    with torch.device('meta'):
        elsewhere = Net()
    assert not messages(lambda: dms_mm.build_slim(elsewhere, tmp_path / 'structure.json'))
    space.set_keep({depth: 0})
    assert all(
        'narrow 1x1 convolutions with a stride: short (5' in messages(f)[0] for f in (space.structure, space.slim)
    )
    space.set_keep({stem: 16})
    assert not messages(space.slim)


def test_neither_the_proof_nor_a_search_of_wide_layers_warns(avx512):
    def search():
        torch.manual_seed(0)
        space = dms_mm.make_searchable(Net(), torch.zeros(2, 3, 8, 8), min_channels=16)
        dms_mm.Search(space, {'macs': 0.8}, total_steps=4).finalize()

    assert not messages(search)
    assert not messages(lambda: dms_mm.make_searchable(Net(), torch.zeros(2, 3, 8, 8)))


def test_a_search_ends_with_the_warning(avx512):
    space = dms_mm.make_searchable(Net(), torch.zeros(2, 3, 8, 8))
    (told,) = messages(dms_mm.Search(space, {'macs': 0.05}, total_steps=4).finalize)
    assert 'short (' in told
