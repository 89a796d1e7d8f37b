"""The smallest networks of kinds of mistakes: exact, counted exactly, and searched as far as they can be."""

import pytest
import torch
from torch import nn

import dms_mm
from builders.exact import check_exact
from builders.kinds_ops import KINDS, activated, einsum_maps
from builders.small import Net

# Removable blocks; of the others of kinds 4 and 21 nothing is said here.
BLOCKS = {
    'a layer in two blocks': 3,
    'a weight in a block and behind it': 2,
    'weights of several blocks': 3,
    'a block four times': 1,
    'a block under two names': 2,
    'a layer of the model in its blocks': 2,
    'a layer in blocks of blocks': 5,
    'torchvision blocks': 1,
    'torchvision bottlenecks': 1,
    'timm blocks': 1,
    'mmpretrain blocks': 1,
    'ReLU of the sum': 1,
    'ReLU of the sum behind ReLU': 2,
    'ReLU6 of the sum behind ReLU': 1,
    'Hardtanh of the sum behind ReLU': 1,
    **{f'{act} of the sum': 0 for act in ('GELU', 'SiLU', 'Hardswish', 'ELU')},
    **{f'{act} of the sum behind ReLU': 0 for act in ('SiLU', 'Hardswish', 'LeakyReLU', 'Softplus', 'PReLU')},
    'half of a sum': 0,
    'sizes pass': 3,
    'sizes pass by keyword': 3,
    'sizes are made': 0,
    **{f'one activation{where}': 3 for where in ('', ' in place', ' inside', ' before')},
    **{f'{how} weight_norm{of} in a residual branch': 3 for how in ('old', 'new') for of in ('', ' of everything')},
    'weight_norm by hand in a residual branch': 2,
}
ENDINGS = ('gamma', 'a number', 'a difference', 'a negative', 'a sum', 'in place', 'into', 'branch', 'the exponential')
MOVES = ('permuted', 'reshaped', 'tokens', 'windows')
# Searched only in part, and why.
PART = {'one channel to one': 'a single channel stays'}


@pytest.mark.parametrize(('name', 'kind', 'make'), KINDS, ids=[name for name, *_ in KINDS])
def test_kinds(name, kind, make):
    torch.manual_seed(0)
    model, inputs = make()
    space = check_exact(model, inputs)
    blocks = sum(unit.size for unit in space.units.values() if unit.kind == 'depth')
    known = 3 if name.startswith(ENDINGS) or name in MOVES else None
    assert blocks == BLOCKS.get(name, known if known and kind == 21 else blocks)
    if kind == 20 and name not in PART:
        assert space.searchable_share() == space.searchable_share(by='widths') == 1


def test_channels_of_maps_that_meet_in_a_product_are_no_head_dims():
    model, inputs = einsum_maps()
    space = dms_mm.make_searchable(model, inputs)
    assert {unit.kind for unit in space.units.values()} == {'channel'}
    model, inputs = next(make for name, _, make in KINDS if name == 'graph')()
    assert list(dms_mm.make_searchable(model, inputs).units) == ['one']


@pytest.mark.parametrize(
    ('act', 'before', 'blocks'), [(nn.ReLU, None, 1), (nn.ReLU, nn.ReLU, 2), (nn.Identity, None, 2)]
)
def test_a_named_block_goes_where_it_gives_its_input_without_the_branch(act, before, blocks):
    model, inputs = activated(act, before)()
    space = check_exact(model, inputs, blocks={'Activated': 'two'})
    assert sum(unit.size for unit in space.units.values() if unit.kind == 'depth') == blocks
    assert len(space.plan.trace.notes) == 2 - blocks


@pytest.mark.parametrize('act', [nn.GELU, nn.SiLU, nn.Hardswish])
def test_a_named_block_that_gives_something_else_is_refused(act):
    model, inputs = activated(act, nn.ReLU)()
    with pytest.raises(ValueError, match="'Activated' .* can go: block .* does not give its input"):
        dms_mm.make_searchable(model, inputs, blocks={'Activated': 'two'})


def test_what_a_removed_block_passes_on_is_in_the_file(tmp_path):
    make = next(make for name, _, make in KINDS if name == 'sizes pass')
    model, inputs = make()
    space = dms_mm.make_searchable(model, inputs)
    space.set_keep({'blocks/depth': torch.tensor([True, False, True])})
    space.structure().save(tmp_path / 'slim.json')
    fresh, _ = make()
    slim = dms_mm.build_slim(fresh, tmp_path / 'slim.json')
    slim.load_state_dict(space.slim().state_dict())
    assert torch.equal(slim(inputs), space.slim()(inputs))


def test_a_share_by_widths_leaves_out_what_only_goes_with_its_block():
    space = dms_mm.make_searchable(Net(), torch.zeros(2, 3, 16, 16), ignore=['layer1.*', 'stem.*'])
    assert space.searchable_share(by='widths') < space.searchable_share() <= 1
    assert f'by widths alone {space.searchable_share(by="widths"):.1%}' in space.report()
    with pytest.raises(ValueError, match='share by'):
        space.searchable_share(by='depth')


@pytest.mark.parametrize('kernel', [1, 3])
def test_slim_weights_keep_channels_last(kernel):
    model = nn.Sequential(nn.Conv2d(3, 8, kernel), nn.ReLU(), nn.Conv2d(8, 4, kernel))
    model = model.to(memory_format=torch.channels_last)
    space = dms_mm.make_searchable(model, torch.zeros(2, 3, 8, 8))
    space.set_keep({'0': 5})
    weight = space.slim()[2].weight
    assert weight.shape[:2] == (4, 5) and weight.stride()[1] == 1 and weight.stride()[3] == 5
