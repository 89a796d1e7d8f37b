"""C2f layers: what a removed block would copy into the concatenation is folded into the weight that reads it."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import dms_mm
from builders.concatenated import network


@pytest.mark.parametrize('kept', [[True, False, False], [False, True, False], [True, False, True], [False] * 3])
def test_the_copy_of_a_removed_block_goes(kept, tmp_path):
    model, x = network()
    names = set(model.state_dict())
    space = dms_mm.make_searchable(model, x, verify=True)
    space.set_keep({'2.m/depth': torch.tensor(kept), '2.main': 5})
    slim = space.slim()
    torch.testing.assert_close(slim(x), model(x))
    assert slim[2].final.in_channels == 5 * (2 + sum(kept))
    gone = tuple(f'2.m.{k}.' for k in range(3) if not kept[k])
    assert set(slim.state_dict()) == {n for n in names if not n.startswith(gone)}
    with FlopCounterMode(display=False) as counter:
        slim(x)
    assert space.resources()['macs'] == counter.get_total_flops() // 2 // len(x)
    assert space.resources()['params'] == sum(p.numel() for p in slim.parameters())
    space.structure().save(tmp_path / 'structure.json')
    again = dms_mm.build_slim(network()[0], tmp_path / 'structure.json')
    again.load_state_dict(slim.state_dict(), strict=True)
    torch.testing.assert_close(again(x), slim(x))
    anew = space.slim(renumber=True)
    assert {n.split('.')[2] for n in anew.state_dict() if n.startswith('2.m.')} == {str(k) for k in range(sum(kept))}
    torch.testing.assert_close(anew(x), slim(x))


@pytest.mark.parametrize('options', [dict(indexed=True), dict(normed=True)])
def test_the_copy_stays_where_it_cannot_be_folded(options):
    """A forward that counts its blocks, or a norm with other statistics for the copy, keeps both exact."""
    model, x = network(**options)
    space = dms_mm.make_searchable(model, x, verify=True)
    space.set_keep({'2.m/depth': torch.tensor([True, False, False])})
    slim = space.slim()
    torch.testing.assert_close(slim(x), model(x))
    assert slim[2].final.in_channels == 40 and isinstance(slim[2].m[1], nn.Identity)


def test_what_reads_a_block_counts_with_it():
    model, x = network()
    space = dms_mm.make_searchable(model, x)
    full = space.resources()['params']
    space.set_keep({'2.m/depth': 2})
    # With each block go the eight times ten weights of the convolution behind, which shows in the gradient, too.
    block = sum(p.numel() for p in model[2].m[0].parameters()) + 8 * 10
    assert full - space.resources()['params'] == block
    counter, bank = space.counters['params'], space.bank
    bank.hardened[:] = False
    ratio = torch.zeros_like(bank.ratio, requires_grad=True)
    counter.continuous(bank, ratio).backward()
    assert float(ratio.grad[space.units['2.m/depth'].index]) == pytest.approx(-3 * block)
