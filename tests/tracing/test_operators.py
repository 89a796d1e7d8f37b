"""The oracle of operator rules finds nothing wrong, and finds rules that are made wrong on purpose."""

import pytest

from builders.wrong_rules import forgets, turned, unmasked
from dms_mm.registry import OPERATORS
from dms_mm.tracing.check import check_operator, targets

# What people meet, and what must not freeze where it acts along other axes.
NEEDED = (
    '_fft_c2c _fft_c2r _fft_r2c addcdiv addcmul col2im cummax cummin cumsum einsum flip gather grid_sampler_2d '
    'grid_sampler_3d im2col index_add index_copy index_select lerp masked_fill repeat_interleave roll scatter '
    'select_scatter slice_scatter sort topk unfold where'
).split()


@pytest.mark.slow
def test_no_rule_is_wrong():
    verdicts = {name: check_operator(name) for name in targets()}
    assert not {name: v.wrong or 'no sample' for name, v in verdicts.items() if v.status == 'wrong'}
    assert all(v.samples >= 3 and v.trials for v in verdicts.values())
    for name in NEEDED:
        assert verdicts[f'aten::{name}'].status.startswith('exact'), name


@pytest.mark.parametrize(
    'operator',
    'permute cat relu amax mm convolution native_layer_norm index_select im2col scatter cumsum diagonal'.split(),
)
def test_a_rule_that_forgets_is_found(operator, monkeypatch):
    """One of every family: ids that are lost would leave positions that nobody cuts."""
    name = f'aten::{operator}'
    monkeypatch.setitem(OPERATORS.module_dict, name, forgets)
    assert check_operator(name).status == 'wrong'


@pytest.mark.parametrize('operator', 'view cat stack permute index_select'.split())
def test_positions_in_the_wrong_order_are_found(operator, monkeypatch):
    name = f'aten::{operator}'
    monkeypatch.setitem(OPERATORS.module_dict, name, turned(OPERATORS.module_dict[name]))
    assert check_operator(name).status == 'wrong'


@pytest.mark.parametrize('operator', 'mm bmm convolution sum'.split())
def test_dead_positions_that_nothing_masks_are_found(operator, monkeypatch):
    name = f'aten::{operator}'
    monkeypatch.setitem(OPERATORS.module_dict, name, unmasked(OPERATORS.module_dict[name]))
    assert check_operator(name).status == 'wrong'
