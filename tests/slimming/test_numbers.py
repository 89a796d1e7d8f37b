"""Numbers that a forward makes from a width: undone where that is exact, else what they depend on stays."""

import pytest
import torch

import dms_mm
from builders.exact import check_exact
from builders.kinds_numbers import KINDS, NUMBERS
from dms_mm.slimming.powers import FACTORS

OF_WIDTHS = [(name, make) for name, kind, make in KINDS if kind in (1, 2, 3)]
# What a number only multiplies, and nothing between it and a layer's weights minds.
FACTOR = {
    'tensor', 'as_tensor', 'new_tensor', 'full', 'item', 'quarter twice', 'quarter on both', 'factor', 'factor_',
    'divisor of all', 'divided_', 'factor and shift', 'dropout of evaluation',
}  # fmt: skip
SINGLE = {'number new_tensor'}  # traced in float32, and no more exact than that


@pytest.mark.parametrize('name, make', OF_WIDTHS, ids=[name for name, _ in OF_WIDTHS])
def test_masked_and_slim_agree(name, make):
    model, inputs = make()
    space = check_exact(model, inputs, bound=1e-6 if name in SINGLE else 1e-9)
    if name.startswith('scores'):
        assert {u.kind for u in space.units.values()} >= {'head_dim'} and not space.frozen
    elif name.startswith('number'):
        kept = name.removeprefix('number ') in FACTOR
        assert set(space.units) == ({'free', 'stem'} if kept else {'free'})


@pytest.mark.parametrize('name', ['add', 'clamp', 'tensor added', 'eps', 'masked_fill', 'mean by tensor'])
def test_what_is_frozen_names_the_number(name):
    model, inputs = next(make for other, make in OF_WIDTHS if other == f'number {name}')()
    space = dms_mm.make_searchable(model, inputs)
    (note,) = space.frozen
    assert 'gets' in note and 'instead of' in note and NUMBERS[name] is model.function


def test_every_factor_is_an_argument_of_its_operator():
    for name, factors in FACTORS.items():
        schemas = [getattr(getattr(torch.ops.aten, name), o)._schema for o in getattr(torch.ops.aten, name).overloads()]
        for number, (tensors, _) in factors.items():
            assert any({number, *tensors} <= {a.name for a in schema.arguments} for schema in schemas), (name, number)
