"""Pieces of one tensor that go different ways: none of them is ever left without channels."""

import numpy as np
import pytest

from builders.exact import check_exact
from builders.kinds_numbers import KINDS
from dms_mm.mutators.pieces import parted
from dms_mm.tracing import Trace

PIECES = [(name, make) for name, kind, make in KINDS if kind in (5, 22)]
UNITS = {
    'pieces stored': [4, 6, 8],
    'three pieces stored': [2, 4, 6, 8],
    'pieces across layers': [2, 4, 6],
    'partial convolution': [3, 3, 9],
    'pieces chunk': [6, 6],
    'pieces halves': [6, 6],
    'pieces even tensor_split': [6, 6],
    'pieces slices of a width': [4, 6],
    'pieces slices': [6, 8],  # the first four stay
    'pieces tensor_split': [6, 8],
    'emptied piece': [2, 6, 8, 10],
}


@pytest.mark.parametrize('name, make', PIECES, ids=[name for name, _ in PIECES])
def test_masked_and_slim_agree(name, make):
    model, inputs = make()
    space = check_exact(model, inputs)
    assert sorted(u.size for u in space.units.values()) == UNITS.get(name, [6])
    assert bool(space.frozen) == (name not in UNITS or 8 in UNITS[name] and len(UNITS[name]) == 2)
    space.set_keep({u.name: u.min_keep for u in space.units.values()})
    assert all(n for p in space.slim().parameters() for n in p.shape)


@pytest.mark.parametrize('seed', range(60))
def test_whatever_groups_keep_every_line_keeps_something(seed):
    """Random groups and lines: one element of each group at least, and no line is empty; what needs nothing stays."""
    generator = np.random.default_rng(seed)
    trace = Trace()
    ids = trace.elements.new(30)
    cuts = np.sort(generator.choice(np.arange(1, 30), 3, replace=False))
    groups = [((k,), part.tolist()) for k, part in enumerate(np.split(ids, cuts))]
    for k in range(6):
        trace.params[f'p{k}'] = [generator.choice(ids, generator.integers(1, 20))]
    trace.elements.freeze(ids[generator.integers(30, size=1)], 'a test')
    fixed = set(trace.elements.frozen())
    groups = [(key, [r for r in roots if r not in fixed]) for key, roots in groups]
    groups = [(key, roots) for key, roots in groups if roots]
    trace.elements.resolve()
    after = parted(trace, groups)
    for key, roots in groups:
        assert sorted(roots) == sorted(r for other, part in after if other == key for r in part)
    for _ in range(50):
        alive = fixed | {int(generator.choice(roots)) for _, roots in after}
        assert all(alive & set(line.tolist()) for (line,) in trace.params.values())
    whole = [set(roots) for _, roots in groups]
    if all(fixed & set(line) or any(w <= set(line) for w in whole) for (line,) in trace.params.values()):
        assert after == groups
