"""Norms with more to them than a gain, and convolutions with standardised weights: exact when slim, and searchable."""

import pytest
import timm
import torch
from mmcv.cnn.bricks.conv_ws import ConvWS2d
from timm.layers import GroupNormAct, LayerNormAct2d, ScaledStdConv2dSame, StdConv2d
from timm.layers.grn import GlobalResponseNorm
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import dms_mm
from dms_mm.algorithms.search import Search
from dms_mm.mutators.fold import MaskedConvolution


def lively(model, dtype=torch.float64):
    """Zero biases and unit gains would hide mistakes, and so would the rounding of float32."""
    torch.manual_seed(0)
    for p in model.parameters():
        if p.ndim == 1 or not p.any():
            nn.init.uniform_(p, 0.5, 1.5)
    return model.eval().to(dtype)


def in_double(model, x):
    space = dms_mm.make_searchable(model, x, verify=True)
    space.bank.double()
    return space


class Between(nn.Module):
    """A norm between two convolutions, or between two linear layers over the last axis."""

    def __init__(self, norm, last=False):
        super().__init__()
        self.a = nn.Linear(3, 8) if last else nn.Conv2d(3, 8, 3)
        self.norm = norm
        self.b = nn.Linear(8, 4) if last else nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.b(self.norm(self.a(x)))


@pytest.mark.parametrize(
    'norm, last',
    [
        (GlobalResponseNorm(8), True),
        (GlobalResponseNorm(8, channels_last=False), False),
        (GroupNormAct(8, 2, act_layer=nn.Sigmoid), False),
        (GroupNormAct(8, 2), False),
        (LayerNormAct2d(8, act_layer=nn.GELU), False),
    ],
)
def test_norms_with_an_activation_or_a_response_have_live_statistics(norm, last):
    model = lively(Between(norm, last))
    x = torch.randn((2, 7, 7, 3) if last else (2, 3, 7, 7), dtype=torch.float64)
    space = in_double(model, x)
    assert list(space.units) == ['a'] and list(space.plan.trace.norms) == ['norm']
    size = space.units['a'].size
    assert size == (4 if isinstance(norm, nn.GroupNorm) else 8)
    space.set_keep({'a': torch.tensor([True, False, True, True, False, True, False, True])[:size]})
    slim = space.slim()
    assert slim.norm.weight.shape == (6 if size == 4 else 5,)
    torch.testing.assert_close(model(x), slim(x), rtol=1e-8, atol=1e-10)


def test_the_response_of_a_dead_channel_has_a_gradient():
    model = lively(Between(GlobalResponseNorm(8), last=True), torch.float32)
    nn.init.zeros_(model.a.weight)
    nn.init.zeros_(model.a.bias)
    space = dms_mm.make_searchable(model, torch.randn(2, 5, 5, 3))
    space.set_keep({'a': 4})
    model(torch.randn(2, 5, 5, 3)).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('make', [StdConv2d, ScaledStdConv2dSame, ConvWS2d])
def test_standardised_weights_have_live_statistics(make):
    torch.manual_seed(0)
    model = lively(nn.Sequential(make(3, 8, 3, stride=2), nn.ReLU(), make(8, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 1)))
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    before = model(x)
    space = in_double(model, x)
    assert sorted(space.units) == ['0', '2'] and isinstance(model[2].forward, MaskedConvolution)
    torch.testing.assert_close(model(x), before)
    keep = torch.tensor([True, False, True, True, False, True, False, True])
    space.set_keep({'0': keep, '2': 3})
    slim = space.slim()
    assert type(slim[2]) is make and slim[2].weight.shape[:2] == (3, 5) and 'forward' not in slim[2].__dict__
    torch.testing.assert_close(model(x), slim(x), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(dms_mm.make_searchable(space.detach(), x).model(x), before)


def test_a_soft_mask_on_a_standardised_weight_is_not_normalised_away():
    """A row has no scale before it is standardised: the mask of a channel or a block must come behind it."""
    model = lively(timm.create_model('nf_resnet26', num_classes=5), torch.float32)
    x = torch.randn(2, 3, 48, 48)
    space = dms_mm.make_searchable(model, x)
    assert {u.kind for u in space.units.values()} == {'channel', 'depth'} and space.searchable_share() == 1
    search = Search(space, {'macs': 0.6}, 8, warmup=0.0, ramp=0.5)
    for _ in range(6):
        loss = model(x).square().mean() + search.resource_loss()
        loss.backward()
        gradients = {name: space.bank.leaves[u.index].grad for name, u in space.units.items()}
        assert all(g is not None and g.isfinite().all() and g.any() for g in gradients.values()), gradients
        model.zero_grad()
        search.step()
    soft = torch.cat([space.bank.leaves[u.index].detach() for u in space.units.values()])
    assert ((soft > 0.05) & (soft < 0.95)).any()


@pytest.mark.parametrize('attention', ['eca', 'cbam'])
def test_modules_that_mix_channels_run_on_those_that_live(attention):
    """ECA's convolution along the channels and CBAM's mean and maximum over them see what the slim model sees."""
    model = timm.create_model('resnet10t', block_args=dict(attn_layer=attention), num_classes=5)
    model, x = lively(model), torch.randn(2, 3, 64, 64, dtype=torch.float64)
    before = model(x)
    space = in_double(model, x)
    assert space.searchable_share() > 0.99 and len(space.plan.trace.compact) == 4
    torch.testing.assert_close(model(x), before)
    space.set_keep({n: max(1, u.size // 3) for n, u in space.units.items() if u.kind == 'channel'})
    slim = space.slim()
    torch.testing.assert_close(model(x), slim(x), rtol=1e-8, atol=1e-10)
    with FlopCounterMode(display=False) as counter:
        slim(x)
    assert space.resources()['macs'] == counter.get_total_flops() // 2 // len(x)
    model(x).sum().backward()
    gradients = [space.bank.leaves[u.index].grad for u in space.units.values()]
    assert all(g is None or g.isfinite().all() for g in gradients)
    assert not any('forward' in m.__dict__ for m in space.detach().modules())


class Gained(nn.Module):
    """An RMSNorm whose gain is a function of what it stores, or whose epsilon stands elsewhere."""

    def __init__(self, gain=lambda w: w, eps=1e-6, outside=False):
        super().__init__()
        self.weight, self.eps, self.gain, self.outside = nn.Parameter(torch.ones(8)), eps, gain, outside

    def forward(self, x):
        square = x.square().mean(-1, keepdim=True)
        return x / (square.sqrt() + self.eps if self.outside else (square + self.eps).sqrt()) * self.gain(self.weight)


FUNCTIONS = {
    'abs': torch.abs,
    'relu': torch.relu,
    'leaky relu': nn.functional.leaky_relu,
    'elu': nn.functional.elu,
    'clamp': lambda w: w.clamp(0, 2),
    'a least': lambda w: w.clamp_min(-1),
    'hardtanh': nn.functional.hardtanh,
    'a step': lambda w: w + (w > 2),
}


@pytest.mark.parametrize('name', FUNCTIONS)
def test_a_gain_that_is_a_function_of_what_is_stored_is_exact_or_stays(name):
    """Where it is of any sign, and large, as training may leave it."""
    model = lively(Between(Gained(FUNCTIONS[name]), True))
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    try:
        space = in_double(model, x)
    except ValueError as error:
        assert name not in ('abs', 'relu') and 'nothing to search' in str(error)
        return
    with torch.no_grad():
        model.norm.weight.copy_(torch.linspace(-3, 3, 8))
    space.set_keep({'a': 4})
    with torch.no_grad():
        assert torch.allclose(model(x), space.slim()(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('outside', [False, True])
def test_an_epsilon_outside_of_the_root_is_no_rms_norm(outside):
    """On inputs of unit size both are the same."""
    model = lively(Between(Gained(eps=1e-8, outside=outside), True))
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    if outside:
        with pytest.raises(ValueError, match='nothing to search'):
            in_double(model, x)
    else:
        assert list(in_double(model, x).units) == ['a']
