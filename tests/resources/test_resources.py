"""Resources beyond MACs and parameters: what they are made of is right, and a search meets them like the others."""

import copy
import math

import pytest
import torch
from torch import nn

import dms_mm
from builders.small import searchable, train
from builders.structures import harden_randomly
from dms_mm.resources import Products, Resource, ResourceModel


class SlowestStage(Resource):
    """A pipeline goes as fast as its slowest stage: a smooth maximum (the 16-norm) of the stages' MACs."""

    def __init__(self, context, stages=('stem', 'layer1', 'down', 'layer2'), power=16.0):
        super().__init__()
        parts = [[t for name, terms in context.operators() if name.startswith(s) for t in terms] for s in stages]
        self.macs, self.power = Products(parts, context.bank), power

    @property
    def needs_masks(self):
        return self.macs.needs_masks

    def value(self, kept, masks):
        macs = self.macs(kept, masks)
        top = macs.max().detach()
        return top * (macs / top).pow(self.power).sum().pow(1 / self.power)


class Quadratic(Resource):
    """A latency: for each operator a quadratic in its MACs, with a part that no width saves but the block does."""

    integer = False

    def __init__(self, context):
        super().__init__()
        self.macs = Products([terms for _, terms in context.operators()], context.bank)
        # A predictor that is a module of its own: what it knows is as constant as a table.
        self.curve = nn.Linear(1, 1)
        nn.init.constant_(self.curve.weight, 0.3)
        nn.init.constant_(self.curve.bias, 0.5)

    def value(self, kept, masks):
        share = self.macs(kept, masks) / self.macs.full
        return (share * self.curve(share[:, None])[:, 0] + 0.2 * share / (share + 0.01)).sum()


class Fixed(Resource):
    def __init__(self, context):
        super().__init__()

    def value(self, kept, masks):
        return self.constant('all', 3.0)


@pytest.mark.parametrize('rule', ['balanced', 'paper'])
@pytest.mark.parametrize(
    ('resource', 'target'),
    [
        (SlowestStage, {'own': 0.5}),
        (Quadratic, {'own': 0.4}),
        (Quadratic, {'own': 0.9, 'macs': 0.3}),
        (Quadratic, {'own': 9.5}),
    ],
)
def test_a_search_meets_a_resource_that_is_not_bilinear(resource, target, rule, tmp_path):
    space = searchable(resources=dict(own=dict(type=resource)))
    full = space.supernet
    search = dms_mm.Search(space, target, 6, rule=rule)
    train(space, search, 6)
    structure = search.finalize()
    wanted = {k: v * full[k] if v <= 1 else v for k, v in target.items()}
    assert search.targets == wanted
    assert all(structure.resources[k] <= v for k, v in wanted.items())
    assert any(structure.resources[k] >= 0.99 * v for k, v in wanted.items())
    assert structure.resources == space.resources() and structure.supernet == full
    structure.save(tmp_path / 'structure.json')
    assert dms_mm.Structure.load(tmp_path / 'structure.json') == structure
    assert f'own {structure.resources["own"]:,} of' in space.report()


def test_gradients_and_continuous_values_of_a_resource_agree_with_its_counts():
    space = searchable(resources=dict(own=dict(type=Quadratic)))
    resource, bank = space.counters['own'], space.bank
    bank.importance.copy_(torch.rand(len(bank.importance), generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        bank.ratio.fill_(0.25)
    bank.refresh()
    assert float(space.soft_resource('own')) == space.resources()['own']
    (grad,) = torch.autograd.grad(space.soft_resource('own'), bank.ratio)
    gone = tuple(block + '.' for block in space.structure().removed)
    assert gone
    for unit, slope in zip(space.units.values(), grad):
        assert slope == 0 if unit.name.startswith(gone) else slope < 0
    # Where the ratios stand for whole numbers of channels, and all blocks are there, the smooth value is the count.
    with torch.no_grad():
        bank.ratio.copy_(torch.tensor([0.25 if u.kind == 'channel' else 0.0 for u in space.units.values()]))
    bank.refresh()
    assert float(resource.continuous(bank, bank.ratio)) == pytest.approx(space.resources()['own'], rel=1e-12)


def test_a_resource_is_constant_in_float64_and_in_no_checkpoint():
    space = searchable(resources=dict(own=dict(type=Quadratic)))
    resource = space.counters['own']
    assert not list(resource.parameters()) and not resource.state_dict()
    before = space.resources()
    space.to(torch.bfloat16)
    assert all(b.dtype in (torch.float64, torch.long) for b in resource.buffers())
    assert space.resources() == before
    resource.to('meta')
    assert {b.device.type for b in resource.buffers()} == {'meta'}


def test_a_copy_of_a_space_counts_by_itself():
    space = searchable()
    twin = copy.deepcopy(space)
    twin.set_keep({'layer1.0.conv1': 5})
    twin.add_resource('own', dict(type=SlowestStage))
    assert twin.counters.context.bank is twin.bank and twin.counters.context.model is twin.model
    assert 'own' not in space.counters and space.resources() == space.supernet
    assert twin.resources()['macs'] < space.resources()['macs']


def test_a_sum_of_products_is_bilinear_and_groups_add_up_to_it():
    space = searchable()
    context, bank = space.counters.context, space.bank
    operators = [terms for _, terms in context.operators()]
    groups, whole = Products(operators, bank), ResourceModel([t for terms in operators for t in terms], bank)
    harden_randomly(space, 3)
    keep = bank.hard_keep()
    kept = torch.zeros(len(bank.sizes), dtype=torch.float64).index_add(0, bank.segment, keep.double())
    assert float(groups(kept, keep.double()).sum()) == whole.count(keep, bank) == space.resources()['macs']
    assert float(groups.full.sum()) == space.supernet['macs']


def test_wrong_resources_are_named():
    for resources, message in (
        (dict(own=dict(type='Latncy')), r"unknown resource 'Latncy'"),
        (dict(own=dict(type='mcs')), r"unknown resource 'mcs'; did you mean 'macs'\?"),
        (dict(own=dict(type='macs', taable='x')), r"unknown option 'taable' of resource Macs"),
        (dict(macs=dict(type='params')), "resource 'macs' is there always"),
        (
            dict(own=dict(type=SlowestStage, powr=3)),
            r"'powr' of resource SlowestStage; did you mean 'power'\?",
        ),
        (dict(own=dict(type=nn.Identity)), r"resource 'own': Identity is no subclass of Resource"),
    ):
        with pytest.raises(ValueError, match=message):
            searchable(resources=resources)
    space = searchable()
    space.add_resource('rest', dict(type=Fixed))
    with pytest.raises(ValueError, match='nothing that can be removed changes rest, which is 3 for every structure'):
        dms_mm.Search(space, dict(rest=1.0), 5)
    with pytest.raises(ValueError, match=r"unknown resource 'mac'; did you mean 'macs'\?"):
        dms_mm.Search(space, dict(mac=0.5), 5)


def test_targets_are_shares_or_counts_and_a_mistaken_one_is_told_both():
    space = searchable()
    full = space.supernet['macs']
    for value, message in (
        (3, f'taken as a share, above the supernet, and taken as a count below .* a count from [0-9,]+ to {full:,}'),
        (full + 1, f'is above the supernet, which has {full:,}'),
        (101, r'\(101\) is out of reach'),
        ('half', "target macs='half' must be a number"),
        (math.nan, 'must be above 0'),
    ):
        with pytest.raises(ValueError, match=message):
            dms_mm.Search(space, dict(macs=value), 5)
    with pytest.raises(ValueError, match='the target must name resources'):
        dms_mm.Search(space, 0.5, 5)
