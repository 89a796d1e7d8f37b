"""Widths that are cut by a share of them: the parts shrink alike, exactly, as far as a forward goes by the width."""

import numpy as np
import pytest
import torch

import dms_mm
from builders.exact import check_exact
from builders.kinds_halves import CUTS, KINDS
from dms_mm.models.hosts import import_scope
from dms_mm.slimming.verify import verify_equivalence

OTHERS = {
    'shuffle units by two': [2, 8, 8, 8],
    'shuffle units by three': [8, 12],
    'shuffle units by tensor_split': [3, 8, 8],
    'partial convolution by a width': [3],
    'partial convolution by an attribute': [3, 9],
    'a third of seven behind layers': [2, 3, 7, 7],
    'halves of five behind layers': [2, 3, 7, 7],
    'gated': [2, 8, 10, 10],
}


@pytest.mark.parametrize(('name', 'make'), [(n, m) for n, _, m in KINDS], ids=[n for n, *_ in KINDS])
def test_masked_and_slim_agree(name, make):
    model, inputs = make()
    space = check_exact(model, inputs)
    sizes = sorted(u.size for u in space.units.values())
    assert sizes == (sorted([*CUTS[name][3], 7]) if name in CUTS else OTHERS[name])
    assert bool(space.frozen) == (
        name in ('literal first half alone', 'literal halves', 'literal split', 'literal split, uneven')
    )


def test_parts_that_shrink_alike_are_removed_together():
    model, inputs = next(make for name, _, make in KINDS if name == 'thirds')()
    space = dms_mm.make_searchable(model, inputs)
    space.set_keep({'stem': np.array([True, False, True, False])})
    slim = space.slim()
    assert slim.stem.out_channels == 6 and [m.in_channels for m in slim.parts] == [2, 2, 2]
    assert (slim.stem.weight == model.stem.weight[[0, 2, 4, 6, 8, 10]]).all()


def test_stages_that_halve_their_width_are_searched():
    """MMPretrain's CSPNet takes ``x[:, :x.shape[1] // 2]`` and the rest in every stage."""
    import_scope('mmpretrain')
    from mmpretrain.models import CSPResNet

    torch.manual_seed(0)
    inputs = torch.randn(2, 3, 64, 64)
    space = dms_mm.make_searchable(CSPResNet(depth=50), inputs)
    assert not space.frozen and not space.proof.unproved and space.searchable_share(by='widths') > 0.99
    halved = [unit for name, unit in space.units.items() if 'expand_conv' in name]
    assert len(halved) == 4
    space.set_keep({unit.name: unit.size // 3 for unit in halved})
    assert verify_equivalence(space, inputs) < 1e-8
