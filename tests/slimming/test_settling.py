"""The way from a trace to a settled plan goes over values: none of them is written to, and options hold to the end."""

import numpy as np
import pytest
import torch
from torch import nn

import dms_mm
from dms_mm.mutators.find import UnitOptions, find_units
from dms_mm.slimming.settle import settle
from dms_mm.slimming.ties import live_together
from dms_mm.tracing import Elements
from dms_mm.tracing.both_modes import trace_both_modes

X = torch.zeros(2, 3, 16, 16)


class Stubborn(nn.Module):
    """A size that no attribute holds, one that an attribute holds, and a width beside them."""

    def __init__(self):
        super().__init__()
        self.size = 10
        self.free, self.stem, self.middle = nn.Conv2d(3, 9, 1), nn.Conv2d(9, 12, 3), nn.Conv2d(6, 10, 1)
        self.last, self.out = nn.Conv2d(10, 7, 1), nn.Conv2d(7, 5, 1)

    def forward(self, x):
        a, b = torch.split(self.stem(self.free(x)), (6, 6), 1)
        x = self.middle(a * b)
        return self.out(self.last(x.reshape(len(x), self.size, *x.shape[2:])))


def state_of(trace):
    """What a trace says of its elements, as plain values."""
    elements = trace.elements
    ids = np.arange(len(elements))
    return len(elements), elements.find(ids).tolist(), elements.parts(ids).tolist(), dict(elements.frozen())


def test_neither_trace_nor_units_are_written_to():
    model = Stubborn()
    trace, inputs = trace_both_modes(model, X)
    before = state_of(trace)
    found = find_units(model, trace, UnitOptions())
    assert state_of(trace) == before
    units, first = [vars(u).copy() for u in found.units], state_of(found.trace)
    settled = settle(model, found, inputs)
    assert settled.notes and settled.plan.mends and len(settled.plan.units) < len(found.units)
    assert state_of(trace) == before and state_of(found.trace) == first
    assert all(str(vars(u)) == str(was) for u, was in zip(found.units, units))
    again = settle(model, found, inputs)
    assert again.notes == settled.notes and [u.name for u in again.plan.units] == [u.name for u in settled.plan.units]


@pytest.mark.parametrize(
    'options', [dict(last=dict(ignore=True)), dict(stem=dict(step=2)), {'*': dict(min_channels=4)}]
)
def test_entries_of_units_hold_where_units_are_found_anew(options):
    """Trials freeze the stem; what an entry named before may then match nothing, and is no mistake of the user's."""
    space = dms_mm.make_searchable(Stubborn(), X, units=options, verify=True)
    assert space.frozen and set(space.units) == {'free', 'middle', 'last'} - {
        k for k, v in options.items() if 'ignore' in v
    }
    if '*' in options:
        assert all(u.min_keep == 4 for u in space.units.values())


def test_an_entry_that_never_matched_is_named():
    with pytest.raises(ValueError, match="'stam'.*matches nothing"):
        dms_mm.make_searchable(Stubborn(), X, units={'stam': dict(step=2)})


@pytest.mark.parametrize('seed', range(40))
def test_positions_are_compared_with_a_composition_that_is_not_made(seed):
    generator = np.random.default_rng(seed)
    elements = Elements()
    heads, places, line = elements.new(3), elements.new(4), elements.new(12)
    grid = np.stack(np.meshgrid(heads, places, indexing='ij')).reshape(2, -1)
    if generator.random() < 0.7:
        elements.compose(line, list(grid))
    for ids in (heads, places):
        if generator.random() < 0.4:
            elements.freeze(ids[generator.random(len(ids)) < 0.6], 'a test')
        if generator.random() < 0.4:
            elements.union(ids[0], ids[1:])
    elements.resolve()
    before = len(elements)
    said = live_together(elements, line, tuple(grid))
    assert len(elements) == before and said == elements.same(line, elements.fuse(list(grid)))
