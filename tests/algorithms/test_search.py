import copy
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch.nn.functional import cross_entropy

import dms_mm
from builders.zoo import build, example
from dms_mm.algorithms.budget import uniform_keep

X = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
Y = torch.arange(16) % 10


def setup(rule='balanced', target=None, steps=20, model=None, **options):
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10) if model is None else model
    space = dms_mm.make_searchable(model, torch.zeros(2, 3, 32, 32), **options.pop('space', {}))
    return space, dms_mm.Search(space, target or {'macs': 0.3}, steps, rule=rule, **options)


def run(space, search, steps, scale=1.0, begin=0):
    optimizer = torch.optim.SGD(space.model.parameters(), lr=0.02)
    space.model.train()
    for i in range(begin, begin + steps):
        index = torch.arange(i, i + 8) % 16
        loss = cross_entropy(space.model(X[index]), Y[index]) + search.resource_loss()
        optimizer.zero_grad()
        (loss * scale).backward()
        for p in space.model.parameters():
            p.grad /= scale
        optimizer.step()
        search.step(grad_scale=scale)


@pytest.mark.parametrize('rule', ['balanced', 'paper'])
@pytest.mark.parametrize('target', [{'macs': 0.3}, {'params': 0.2}, {'macs': 0.5, 'params': 0.1}, {'macs': 2e7}])
def test_target_is_met_from_below_within_one_percent(rule, target):
    space, search = setup(rule, target, steps=6)
    run(space, search, 6)
    structure = search.finalize()
    full = structure.supernet
    wanted = {k: v * full[k] if v <= 1 else v for k, v in target.items()}
    assert all(structure.resources[k] <= v for k, v in wanted.items())
    assert any(structure.resources[k] >= 0.99 * v for k, v in wanted.items())
    assert structure.resources == space.resources()


@pytest.mark.parametrize('share', [0.03, 0.15, 0.6, 0.97])
def test_target_is_met_without_any_training(share):
    space, search = setup(target={'macs': share}, steps=1, model=build('timm/efficientnet_b0'))
    macs = search.finalize().resources['macs']
    assert 0.99 * share * space.supernet['macs'] <= macs <= share * space.supernet['macs']


def test_balanced_rule_follows_the_schedule_and_warms_up_with_full_masks():
    space, search = setup(steps=40)
    run(space, search, 4)
    assert space.bank.mask.eq(1).all() and space.bank.importance.gt(0).any()
    run(space, search, 16)
    done = (search.steps / 40 - 0.1) / 0.4
    value = float(space.counters['macs'].continuous(space.bank, space.bank.ratio.detach()))
    # Ratios were set for the goal of the step before.
    previous = space.supernet['macs'] * 0.3 ** (done - 1 / 40 / 0.4)
    assert value == pytest.approx(previous, rel=1e-3)
    run(space, search, 20)
    depth = [u for u in space.units.values() if u.kind == 'depth']
    assert depth and all(bool(space.bank.hardened[u.index]) for u in depth)
    widths = {round(1 - float(r), 3) for u, r in zip(space.units.values(), space.bank.ratio) if u.kind == 'channel'}
    assert len(widths) > 3, 'the task must tell units apart'


def test_paper_rule_is_gradient_descent_on_task_and_resource():
    space, search = setup('paper', steps=10, warmup=0.0, lr=0.05, weight=2.0)
    run(space, search, 3)
    before, loss = space.bank.ratio.detach().clone(), cross_entropy(space.model(X), Y)
    resource = search.resource_loss()
    (expected,) = torch.autograd.grad(resource, space.bank.ratio, retain_graph=True)
    loss.backward()
    grad = space.bank.grad.clone()
    bank = copy.deepcopy(space.bank)
    search.step()
    bank.update_importance(grad)
    task = bank.chain(grad)
    high = 1 - bank.min_keep / bank.size
    moved = torch.minimum((before - 0.05 * (task + expected)).clamp_min(0), high)
    torch.testing.assert_close(space.bank.ratio.detach(), moved)
    assert float(resource) > 0 and expected.lt(0).any()


def test_soft_resource_is_the_hard_count_with_a_gradient():
    space, _ = setup()
    space.bank.importance.copy_(torch.rand(len(space.bank.importance)))
    with torch.no_grad():
        space.bank.ratio.fill_(0.35)
    space.bank.refresh()
    for name in ('macs', 'params'):
        value = space.soft_resource(name)
        assert float(value) == space.resources()[name]
        (grad,) = torch.autograd.grad(value, space.bank.ratio)
        gone = space.structure().removed
        for unit, slope in zip(space.units.values(), grad):
            inside = any(unit.name.startswith(block) for block in gone)
            assert unit.kind != 'channel' or (slope == 0 if inside else slope < 0)


@pytest.mark.parametrize('name', ['macs', 'params'])
def test_gradient_of_a_width_is_the_cost_of_its_channels(name):
    space, _ = setup()
    space.bank.importance.copy_(torch.rand(len(space.bank.importance)))
    with torch.no_grad():
        space.bank.ratio.fill_(0.25)
    space.bank.refresh()
    space.set_keep({u.name: u.size for u in space.units.values() if u.kind == 'depth'})
    (grad,) = torch.autograd.grad(space.soft_resource(name), space.bank.ratio)
    for unit in list(space.units.values())[:8]:
        kept = int(space.bank.hard_counts()[unit.index])
        probe = copy.deepcopy(space)
        probe.set_keep({unit.name: kept - 4})
        # Bilinear counts: four channels less are four times the slope, up to a unit's product with itself.
        drop = (space.resources()[name] - probe.resources()[name]) / 4
        assert -float(grad[unit.index]) / unit.size == pytest.approx(drop, rel=0.1)


def test_task_gradient_excludes_the_resource_loss():
    twins = []
    for add in (0, 100):
        space, search = setup(steps=10, warmup=0.0)
        loss = cross_entropy(space.model(X), Y) + add * search.resource_loss()
        loss.backward()
        twins.append(space.bank.take_grad())
    torch.testing.assert_close(*twins, rtol=0, atol=0)


def test_a_scaled_loss_gives_the_same_search_and_overflow_changes_nothing():
    (a, sa), (b, sb) = setup(), setup()
    run(a, sa, 8)
    run(b, sb, 8, scale=1024.0)
    torch.testing.assert_close(a.bank.ratio, b.bank.ratio)
    before = b.bank.ratio.detach().clone()
    b.bank.grad.fill_(float('inf'))
    sb.step()
    torch.testing.assert_close(b.bank.ratio.detach(), before, rtol=0, atol=0)
    assert torch.isfinite(b.bank.importance).all()


def test_resumed_search_ends_in_the_same_structure():
    space, search = setup(steps=20)
    run(space, search, 20)
    whole = search.finalize()
    first, half = setup(steps=20)
    run(first, half, 9)
    saved = copy.deepcopy((first.model.state_dict(), half.state_dict()))
    second, rest = setup(steps=20)
    second.model.load_state_dict(saved[0])
    rest.load_state_dict(saved[1])
    # A runner makes its search anew around the restored bank.
    rest = dms_mm.Search(second, {'macs': 0.3}, 20)
    run(second, rest, 11, begin=9)
    assert rest.finalize() == whole


@pytest.mark.parametrize('score', ['taylor', 'fisher', 'snip', 'index', 'l1'])
def test_every_importance_searches(score):
    space, search = setup(steps=6, score=score, decay=0.0 if score == 'fisher' else 0.99)
    run(space, search, 6)
    structure = search.finalize()
    if score == 'index':
        unit = next(u for u in space.units.values() if u.kind == 'channel')
        assert structure.units[unit.name]['keep'] == f'0-{structure.kept(unit.name) - 1}'
    if score == 'l1':
        # The attribute would show the weight with its mask folded in.
        weight = dict(space.model.named_parameters())['layer1.0.conv1.weight'].detach().abs().sum((1, 2, 3))
        unit = space.units['layer1.0.conv1']
        scores = space.bank.importance[unit.start : unit.start + unit.size]
        torch.testing.assert_close(scores, weight, rtol=1e-5, atol=0)


def test_step_round_to_min_channels_ignore_and_overrides():
    options = dict(
        step=4, min_channels=16, round_to=8, ignore=['layer2.0.conv1'],
        units={'layer3.*.conv1': dict(step=1, round_to=1, min_channels=5), 'layer4.0.conv1': dict(ignore=True)},
    )  # fmt: skip
    space, search = setup(target={'macs': 0.2}, steps=4, space=options)
    assert 'layer2.0.conv1' not in space.units and 'layer4.0.conv1' not in space.units
    assert space.units['layer1.0.conv1'].size == 64 // 4
    assert space.units['layer3.0.conv1'].size == 256 and space.units['layer3.0.conv1'].min_keep == 5
    run(space, search, 4)
    slim = search.finalize() and space.slim()
    assert slim.layer2[0].conv1.out_channels == 128 and slim.layer4[0].conv1.out_channels == 512
    assert slim.conv1.out_channels % 8 == 0 and slim.conv1.out_channels >= 16


def test_uniform_scaling_meets_the_target_with_one_factor():
    space, _ = setup()
    keep = uniform_keep(space, {'macs': 0.25})
    shares = []
    for u in space.units.values():
        part = keep[u.start : u.start + u.size]
        space.set_keep({u.name: part})
        if u.kind == 'channel':
            shares.append(float(part.float().mean()))
        else:
            assert part.all()
    assert max(shares) - min(shares) < 0.03
    assert 0.99 * 0.25 <= space.resources()['macs'] / space.supernet['macs'] <= 0.25


def test_set_keep_takes_counts_masks_and_refuses_the_rest():
    space, _ = setup()
    space.set_keep({'layer1.0.conv1': 3, 'layer2/depth': 0})
    assert int(space.mask('layer1.0.conv1').sum()) == 3
    with pytest.raises(KeyError, match='no unit'):
        space.set_keep({'nope': 1})
    with pytest.raises(ValueError, match='keeps 1 to 64'):
        space.set_keep({'layer1.0.conv1': 0})
    with pytest.raises(ValueError, match='bool of shape'):
        space.set_keep({'layer1.0.conv1': torch.ones(5, dtype=torch.bool)})


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        ({'macs': 1.5}, 'above the supernet'),
        ({'macs': 1e12}, 'above the supernet'),
        ({'macs': 1e-5}, 'out of reach'),
        ({'flops': 0.5}, 'unknown resource'),
        ({'macs': -1}, 'must be above 0'),
        ({}, 'empty'),
    ],
)
def test_wrong_targets_are_named(target, message):
    space, _ = setup()
    with pytest.raises(ValueError, match=message):
        dms_mm.Search(space, target, 10)


def test_wrong_options_are_named():
    model = torchvision.models.resnet18()
    x = torch.zeros(2, 3, 32, 32)
    for options, message in (
        (dict(units={'nope': {}}), "unit 'nope'"),
        (dict(units={'layer1.0.conv1': dict(widht=3)}), "unknown setting 'widht'"),
        (dict(ignore=['nope']), "'nope' in `ignore`"),
        (dict(blocks={'Nope': 'bn'}), "'Nope'"),
        (dict(blocks={'BasicBlock': 'bn9'}), "no submodule 'bn9'"),
    ):
        with pytest.raises(ValueError, match=message):
            dms_mm.make_searchable(copy.deepcopy(model), x, **options)
    with pytest.raises(dms_mm.TraceError, match='could not be traced'):
        dms_mm.make_searchable(model, torch.zeros(2, 4, 32, 32))
    with pytest.raises(ValueError, match='unknown rule'):
        setup('nope')


def test_blocks_of_a_class_without_adapter_by_a_config_entry():
    class Residual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.ReLU())

        def forward(self, x):
            return x + self.body(x)

    def net():
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3),
            Residual(),
            Residual(),
            Residual(),
            torch.nn.Flatten(),
            torch.nn.Linear(8 * 900, 5),
        ).double()

    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    space = dms_mm.make_searchable(net(), x, blocks={'Residual': 'body.1'})
    space.bank.double()
    assert space.units['model/depth'].size == 3
    space.set_keep({'model/depth': [True, False, True], next(iter(space.units)): 5})
    torch.testing.assert_close(space.model(x), space.slim()(x))
    assert isinstance(space.slim()[2], torch.nn.Identity)


def test_verify_passes_and_names_a_unit_at_fault():
    space = dms_mm.make_searchable(build('torchvision/resnet18'), example(), verify=True)
    assert space.units
    from dms_mm.slimming.verify import verify_equivalence

    fold = space.model.layer2[0].conv2.__dict__['_dms_folds']['weight']
    fold.pieces.clear()
    with pytest.raises(RuntimeError, match='layer2.0.conv1'):
        verify_equivalence(space, example())


def test_report_names_operators_without_a_rule():
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 8, 1)
            self.c, self.d = torch.nn.Conv2d(8, 8, 1), torch.nn.Conv2d(8, 4, 1)

        def forward(self, x):
            return self.d(self.c(self.b(torch.linalg.inv(self.a(x)))))

    report = dms_mm.make_searchable(Odd(), torch.zeros(2, 3, 8, 8)).report()
    assert 'operator without a rule: aten::linalg_inv_ex' in report
    assert '  channel  c ' in report and '  channel  b ' in report and '  channel  a ' not in report


@pytest.mark.slow
def test_example_learns(tmp_path, monkeypatch):
    sys.path.insert(0, str(Path(__file__).parents[2] / 'examples'))
    import plain_pytorch

    monkeypatch.chdir(tmp_path)
    structure, accuracy = plain_pytorch.main(['--steps', '120'])
    assert 0.99 * 0.4 <= structure.resources['macs'] / structure.supernet['macs'] <= 0.4
    assert accuracy > 0.8


def test_a_single_sample_is_enough_to_see_auxiliary_heads():
    """Batch norm refuses one value per channel in training mode, where GoogLeNet's auxiliary heads run."""
    one = dms_mm.make_searchable(build('torchvision/googlenet'), example(batch=1))
    two = dms_mm.make_searchable(build('torchvision/googlenet'), example(batch=2))
    assert one.resources() == two.resources() and list(one.units) == list(two.units)
    assert not one.plan.trace.notes


def test_strangled_widths_are_flagged_and_the_default_rule_has_none():
    space, search = setup(target={'macs': 0.1}, steps=10, warmup=0.0, travel=20.0)
    run(space, search, 10)
    structure = search.finalize()
    assert not structure.strangled()
    space, _ = setup()
    space.set_keep({'layer3.1.conv1': 3})
    assert space.structure().strangled() == ['layer3.1.conv1']
    assert '3 / 256  << under 5% of its width' in space.report()
