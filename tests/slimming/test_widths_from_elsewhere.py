"""Widths that a forward takes from elsewhere: from the stream, a child, a parent, a norm's own attribute."""

import pytest

from builders.exact import check_exact
from builders.kinds_numbers import KINDS

ELSEWHERE = [(name, make) for name, kind, make in KINDS if kind in (18, 19)]
HEADS = {'embed/head': 2, 'embed/head_dim': 6}
SINGLE = {'embed': 12, 'q/head_dim': 10, 'v/head_dim': 9}
FUSED = {f'blocks.{k}.qkv/head_dim': 6 for k in (0, 1)}
UNITS = {
    'inlined attention': {**HEADS, 'wide': 16},
    'inlined attention of one head': {'embed/head_dim': 12, 'wide': 16},
    'inlined attention of three projections': {'embed/head_dim': 4},
    'single head': SINGLE,
    'single head by math': SINGLE,
    'non-local': {'stem': 12, 'theta': 8, 'g': 8},
    'literal heads': {'embed': 12, 'q/head_dim': 4, 'v/head_dim': 4},
    'fused projections': {'embed': 12, **FUSED},
    'fused projections as wide as the stream': {'embed': 24, **FUSED},
    'fused projections with rotary positions': {'embed': 24, **{name: 3 for name in FUSED}},
    'functional norm of a child': {'free': 7},
    'functional norm': {'free': 7},
    'directions': {'stem': 12},
    'norm over space': {'free': 7, 'stem': 12},
    'guarded': {'embed': 12, 'inner.a': 10, 'model/depth': 1},
    'transformer': {
        'source/head': 2, 'source/head_dim': 6,
        'transformer.encoder.layers.0.linear1': 16, 'transformer.decoder.layers.0.linear1': 16,
    },
    'width of the transformer': {
        'target/head': 2, 'target/head_dim': 6,
        'transformer.encoder.layers.0.linear1': 16, 'transformer.decoder.layers.0.linear1': 16,
    },
    'encoder': {**HEADS, 'encoder.layers.0.linear1': 16},
    'cell LSTMCell': {'embed': 9, 'cell': 12},
    'cell GRUCell': {'embed': 9, 'cell': 12},
    'cell RNNCell': {'embed': 9, 'cell': 12},
    'size of a child': {'embed': 12, 'child.layer': 12},
}  # fmt: skip


@pytest.mark.parametrize('name, make', ELSEWHERE, ids=[name for name, _ in ELSEWHERE])
def test_masked_and_slim_agree(name, make):
    model, inputs = make()
    space = check_exact(model, inputs)
    assert {u.name: u.size for u in space.units.values()} == UNITS.get(name, {'stem': 12})
    literal = name.startswith('fused') or name in ('literal heads', 'inlined attention of three projections')
    assert bool(space.frozen) == literal  # a number in code freezes heads, and nothing else
