"""The promises of the design over the zoo: equivalence, gradient, counting, one mask on every consumer, state_dict."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import dms_mm
from builders.structures import harden_randomly
from builders.zoo import ZOO, build, example
from dms_mm.mutators.fold import FOLDS, OutputMask
from dms_mm.slimming.verify import outputs_of, relative_difference


def independent_count(model, x):
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    # The counter knows MACs as two operations.
    return {
        'macs': counter.get_total_flops() / 2 / x.shape[0],
        'params': sum(p.numel() for p in model.parameters()),
    }


@pytest.fixture(scope='module', params=list(ZOO))
def searchable(request):
    model = build(request.param)
    plain = copy.deepcopy(model)
    return request.param, plain, dms_mm.make_searchable(model, example())


def test_supernet_is_unchanged_until_a_mask_is(searchable):
    name, plain, space = searchable
    x = example()
    with torch.no_grad():
        torch.testing.assert_close(outputs_of(space.model, x), outputs_of(plain, x), rtol=0, atol=0)
    assert list(space.model.state_dict()) == list(plain.state_dict())
    assert [type(m) for m in space.model.modules()] == [type(m) for m in plain.modules()]
    space.model.load_state_dict(plain.state_dict(), strict=True)


def test_equivalence_and_counting_of_random_structures(searchable):
    name, plain, space = searchable
    space = copy.deepcopy(space)
    space.model.double()
    space.bank.double()
    x = example(dtype=torch.float64)
    assert space.resources() == independent_count(plain, example())
    for seed in range(3):
        harden_randomly(space, seed)
        slim = space.slim()
        assert relative_difference(outputs_of(space.model, x), outputs_of(slim, x)) < 1e-8
        assert space.resources() == independent_count(slim, x)
        assert type(slim) is type(plain)
        assert not any(FOLDS in m.__dict__ for m in slim.modules())


def test_layers_know_their_new_sizes(searchable):
    _, _, space = searchable
    space = copy.deepcopy(space)
    harden_randomly(space, 5)
    for module in space.slim().modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.shape[:2] == (module.out_channels, module.in_channels // module.groups)
        elif isinstance(module, nn.Linear):
            assert module.weight.shape == (module.out_features, module.in_features)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.running_mean.shape == (module.num_features,)


def test_slim_model_trains_and_removed_units_are_really_gone(searchable):
    name, plain, space = searchable
    space = copy.deepcopy(space)
    harden_randomly(space, 7)
    slim = space.slim().train()
    out = outputs = slim(example(batch=4))
    while not isinstance(out, torch.Tensor):
        out = out[0]
    (out.square().mean()).backward()
    assert all(p.grad is not None for p in slim.parameters() if p.requires_grad) or 'googlenet' in name, outputs
    assert sum(p.numel() for p in slim.parameters()) < 0.95 * sum(p.numel() for p in plain.parameters())


def reference_gradients(space, plain, masks, x):
    """d(loss)/d(mask) with masks multiplied into activations, which is how the paper states it."""
    leaves = [m.clone().requires_grad_() for m in masks]
    plan, bank = space.plan, space.bank
    segment = bank.segment.numpy()
    modules = dict(plain.named_modules())
    handles = []

    def channel_mask(owner):
        full = torch.cat([*leaves, torch.ones(1, dtype=leaves[0].dtype)])
        return full[torch.from_numpy(np.where(owner < 0, len(segment), owner))]

    for name, dim in plan.trace.consumers:
        owners = plan.owners.get(name)
        if owners is None or owners[dim] is None:
            continue
        module = modules[name.rpartition('.')[0]]
        assert isinstance(module, (nn.Conv2d, nn.Linear)) and name.endswith('weight') and dim == 1
        assert owners[dim].shape[1] == 1, 'convolutional networks have no compound channels'
        owner = np.tile(owners[dim][:, 0], getattr(module, 'groups', 1))

        def pre(module, args, owner=owner):
            mask = channel_mask(owner)
            x = args[0]
            return (x * (mask[:, None, None] if isinstance(module, nn.Conv2d) else mask), *args[1:])

        handles.append(module.register_forward_pre_hook(pre))
    for unit in space.units.values():
        if unit.kind == 'depth':
            for k, (block, branches) in enumerate(zip(unit.blocks, unit.carriers)):
                for branch in branches:
                    index = (unit.index, k)
                    handles.append(
                        modules[f'{block}.{branch}'].register_forward_hook(
                            lambda m, a, out, index=index: out * leaves[index[0]][index[1]]
                        )
                    )
    out = plain(x)
    loss = torch.stack([o.square().mean() for o in ([out] if isinstance(out, torch.Tensor) else out)]).sum()
    loss.backward()
    for handle in handles:
        handle.remove()
    return [torch.zeros_like(m) if m.grad is None else m.grad for m in leaves], loss


def test_folded_mask_gradients_equal_masked_activations(searchable):
    name, plain, space = searchable
    space, plain = copy.deepcopy(space), copy.deepcopy(plain).double()
    space.model.double()
    space.bank.double()
    generator = torch.Generator().manual_seed(3)
    space.bank.mask.copy_(0.2 + 0.8 * torch.rand(len(space.bank.mask), generator=generator, dtype=torch.float64))
    x = example(dtype=torch.float64)
    expected, reference = reference_gradients(space, plain, [m.detach() for m in space.bank.leaves], x)
    out = space.model(x)
    loss = torch.stack([o.square().mean() for o in ([out] if isinstance(out, torch.Tensor) else out)]).sum()
    loss.backward()
    torch.testing.assert_close(loss, reference, rtol=1e-10, atol=0)
    got, want = space.bank.take_grad(), torch.cat(expected)
    assert float((got - want).abs().max()) <= 1e-8 * float(want.abs().max())
    assert (got != 0).float().mean() > 0.2, 'masks must see the loss'


def test_every_consumer_of_a_unit_shows_the_same_mask(searchable):
    _, _, space = searchable
    space = copy.deepcopy(space)
    space.bank.importance.copy_(torch.rand(len(space.bank.importance)))
    with torch.no_grad():
        space.bank.ratio.fill_(0.4)
    space.bank.refresh()
    plan = space.plan
    seen = 0
    modules = dict(space.model.named_modules())
    for name, dim in plan.trace.consumers:
        owners = plan.owners.get(name)
        if owners is None or owners[dim] is None:
            continue
        fold = modules[name.rpartition('.')[0]].__dict__[FOLDS][name.rpartition('.')[2]]
        for d, units, index in fold.pieces:
            if d == dim:
                owner = torch.from_numpy(owners[dim][:, 0])
                expected = torch.where(owner >= 0, space.bank.mask[owner.clamp_min(0)], torch.ones(()))
                torch.testing.assert_close(fold.dim_mask(units, index).detach(), expected)
                seen += 1
    assert seen >= len([u for u in space.units.values() if u.kind == 'channel'])


def test_detach_takes_every_mask_off(searchable):
    _, plain, space = searchable
    space = copy.deepcopy(space)
    harden_randomly(space, 1)
    model = space.detach()
    torch.testing.assert_close(outputs_of(model, example()), outputs_of(plain, example()), rtol=0, atol=0)
    assert not any(isinstance(h, OutputMask) for m in model.modules() for h in m._forward_hooks.values())


def test_depth_units_are_found_in_three_libraries():
    found = {}
    for name in ('torchvision/resnet18', 'timm/efficientnet_b0', 'mmpretrain/resnet50_8xb32_in1k'):
        space = dms_mm.make_searchable(build(name), example())
        found[name] = sum(u.size for u in space.units.values() if u.kind == 'depth')
    # ResNet-18: both blocks of the first stage, one of each other; B0: 9 shortcuts; ResNet-50: 2 + 3 + 5 + 2.
    assert found == {
        'torchvision/resnet18': 5, 'timm/efficientnet_b0': 9, 'mmpretrain/resnet50_8xb32_in1k': 12
    }  # fmt: skip
