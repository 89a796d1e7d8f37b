"""Residual blocks found by the trace: which ones, what takes their masks, and that what is left is exact."""

from __future__ import annotations

import copy

import pytest
import timm.layers
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock
from torchvision.ops import StochasticDepth

import dms_mm
from dms_mm.mutators.fold import OutputMask
from dms_mm.registry import BLOCKS
from dms_mm.slimming.verify import verify_equivalence

WIDTH = 8


class Conv(nn.Sequential):
    """A convolution with a norm that is not the identity."""

    def __init__(self, last=None, width=WIDTH):
        super().__init__(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), *([last] if last else []))
        nn.init.uniform_(self[1].weight, 0.5, 1.5)
        nn.init.normal_(self[1].bias)


class Block(nn.Module):
    """``x + tail(body(x))``, or what ``add`` makes of the two."""

    def __init__(self, body=None, tail=None, add=torch.add):
        super().__init__()
        self.body, self.tail, self.add = body or Conv(), tail or nn.Identity(), add

    def forward(self, x):
        return self.add(x, self.tail(self.body(x)))


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def net(*blocks, before=None, size=9):
    """Blocks between two layers, and an input."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, WIDTH, 1), before or nn.Identity(), nn.Sequential(*blocks), nn.Conv2d(WIDTH, 4, 1)]
    model = nn.Sequential(*layers).double().eval()
    return model, torch.randn(2, 3, size, size, dtype=torch.float64)


def space_of(*blocks, **options):
    model, x = net(*blocks, **options)
    space = dms_mm.make_searchable(model, x)
    space.bank.double()
    for seed in range(3):
        verify_equivalence(space, x, seed=seed)
    return space, x


def blocks_of(space):
    return [block for unit in space.units.values() if unit.kind == 'depth' for block in unit.blocks]


def ends_of(unit):
    return [list(carriers) for carriers in unit.carriers]


def hooks_of(space):
    return [
        p for p, m in space.model.named_modules() if any(isinstance(h, OutputMask) for h in m._forward_hooks.values())
    ]


def assert_removable(space, x):
    """Without all of its blocks the masked model and the slim one agree, and the blocks are gone."""
    for unit in space.units.values():
        if unit.kind == 'depth':
            space.set_keep({unit.name: 0})
    slim = space.slim()
    assert all(isinstance(slim.get_submodule(block), nn.Identity) for block in blocks_of(space))
    torch.testing.assert_close(slim(x), space.model(x), rtol=1e-8, atol=1e-10)


class LayerScale(nn.Module):
    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(WIDTH, 1, 1) + 0.5)

    def forward(self, x):
        return x * self.gamma


class Noise(nn.Module):
    """A drop path of one's own, in no library."""

    def forward(self, x):
        if not self.training:
            return x
        keep = torch.rand(x.shape[0], 1, 1, 1, dtype=x.dtype) + 0.3
        return x.div(0.7) * keep.floor_()


TAILS = {
    'nothing': nn.Identity,
    'dropout': lambda: nn.Dropout(0.3),
    'channel dropout': lambda: nn.Dropout2d(0.3),
    'drop path of timm': lambda: timm.layers.DropPath(0.3),
    'drop block of timm': lambda: timm.layers.DropBlock2d(0.3, 3),
    'stochastic depth of torchvision': lambda: StochasticDepth(0.3, 'row'),
    'drop path of ones own': Noise,
    'layer scale': LayerScale,
    'rectifier': nn.ReLU,
    'several': lambda: nn.Sequential(LayerScale(), nn.Dropout(0.2), nn.Sequential(nn.Identity(), Noise())),
    'filter': lambda: timm.layers.BlurPool2d(WIDTH, stride=1),
}  # fmt: skip


@pytest.mark.parametrize('tail', list(TAILS))
def test_masks_fold_into_the_last_affine_before_what_hands_its_input_on(tail):
    space, x = space_of(Block(tail=TAILS[tail]()), Block(tail=TAILS[tail]()))
    (unit,) = (u for u in space.units.values() if u.kind == 'depth')
    assert unit.blocks == ['2.0', '2.1'] and ends_of(unit) == [['body.1'], ['body.1']]
    assert unit.carriers[1] == {'body.1': ('2.1.body.1.weight', '2.1.body.1.bias')}
    assert not hooks_of(space)
    assert_removable(space, x)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('tail', list(TAILS))
def test_a_folded_mask_is_one_on_the_branch_with_the_same_gradient(tail, training):
    model, x = net(Block(tail=TAILS[tail]()))
    plain = copy.deepcopy(model).train(training)
    space = dms_mm.make_searchable(model, x)
    space.bank.double()
    model.train(training)
    (unit,) = (u for u in space.units.values() if u.kind == 'depth')
    space.bank.mask[unit.start] = 0.3
    mask = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    plain[2][0].tail.register_forward_hook(lambda m, a, out: out * mask)
    torch.manual_seed(1)
    want = plain(x)
    torch.manual_seed(1)
    got = model(x)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
    want.square().sum().backward()
    got.square().sum().backward()
    torch.testing.assert_close(space.bank.take_grad()[unit.start], mask.grad, rtol=1e-8, atol=0)


HOOKED = {
    'an activation': ('tail', lambda: Block(tail=nn.GELU())),
    'a gate': ('tail', lambda: Block(tail=timm.layers.SqueezeExcite(WIDTH))),
    'a norm without gain': ('tail', lambda: Block(tail=nn.BatchNorm2d(WIDTH, affine=False))),
    'weights made of others': ('tail', lambda: Block(tail=Positive(WIDTH, WIDTH, 1))),
    'more than a weight': ('tail', lambda: Block(tail=Adapted(WIDTH, WIDTH, 1))),
}


class Positive(nn.Conv2d):
    """A convolution whose weights are exponentials."""

    def forward(self, x):
        return self._conv_forward(x, self.weight.exp(), self.bias)


class Adapted(nn.Conv2d):
    """A convolution with a correction beside it, which its weight and bias say nothing of."""

    def __init__(self, *args):
        super().__init__(*args)
        self.correction = nn.Parameter(torch.randn(()))

    def forward(self, x):
        return super().forward(x) + self.correction * x.sin()


@pytest.mark.parametrize('kind', list(HOOKED))
def test_the_output_is_multiplied_where_no_parameters_scale_it(kind):
    end, block = HOOKED[kind]
    space, x = space_of(block(), block())
    (unit,) = (u for u in space.units.values() if u.kind == 'depth')
    assert unit.carriers == [{end: ()}, {end: ()}]
    assert hooks_of(space) == ['2.0.tail', '2.1.tail']
    assert_removable(space, x)


class Functional(nn.Module):
    """Layers that are used by their parameters, which may be raw ones."""

    def __init__(self, raw):
        super().__init__()
        self.proj = None if raw else nn.Linear(WIDTH, WIDTH)
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH)) if raw else None
        self.shift = nn.Parameter(torch.randn(WIDTH)) if raw else None

    def forward(self, x):
        y = x.permute(0, 2, 3, 1).tanh()
        if self.weight is not None:
            y = y @ self.weight + self.shift
        else:
            y = nn.functional.linear(y, self.proj.weight, self.proj.bias)
        return x + y.permute(0, 3, 1, 2)


@pytest.mark.parametrize('raw', [False, True])
def test_parameters_take_masks_without_a_module_of_their_own(raw):
    space, x = space_of(Functional(raw), Functional(raw))
    (unit,) = (u for u in space.units.values() if u.kind == 'depth')
    assert ends_of(unit) == [['weight', 'shift'] if raw else ['proj']] * 2 and not hooks_of(space)
    assert_removable(space, x)


class Parallel(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = Conv(), Conv(nn.Dropout(0.1)), Conv(nn.GELU())

    def forward(self, x):
        return x + (self.a(x) + self.b(x)) - self.c(x)


def test_branches_that_are_added_to_each_other_first():
    space, x = space_of(Parallel(), Parallel())
    (unit,) = (u for u in space.units.values() if u.kind == 'depth')
    assert ends_of(unit) == [['a.1', 'b.1', 'c.2']] * 2 and hooks_of(space) == ['2.0.c.2', '2.1.c.2']
    assert_removable(space, x)


# -- what an activation behind the sum leaves as it is
def after(activation):
    return lambda x, y: activation(x + y)


RECTIFIED = {
    'ReLU': nn.ReLU(),
    'max pooling': nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 1, 1)),
    'mean pooling': nn.Sequential(nn.ReLU(), nn.AvgPool2d(3, 1, 1)),
    'ReLU6': nn.ReLU6(),
    'sigmoid': nn.Sigmoid(),
    'softplus': nn.Softplus(),
    'square root': Apply(lambda x: x.abs().clamp(min=1e-3)),
    'sum': Apply(lambda x: x.relu() + x.sigmoid() * 2 + 0.5),
    'concatenation': Apply(lambda x: torch.cat([x[:, :3].relu(), x[:, 3:].sigmoid()], 1)),
    'resampling': Apply(lambda x: nn.functional.interpolate(x.relu(), (9, 9), mode='bilinear')),
}


@pytest.mark.parametrize('before', list(RECTIFIED))
def test_a_rectified_sum_is_a_block_behind_a_rectified_input(before):
    space, x = space_of(Block(add=after(torch.relu)), Block(add=after(torch.relu)), before=RECTIFIED[before])
    assert blocks_of(space) == ['2.0', '2.1']
    assert_removable(space, x)


@pytest.mark.parametrize('before', ['nothing', 'GELU', 'difference', 'bicubic'])
def test_without_one_only_later_blocks_may_go(before):
    layer = {
        'nothing': nn.Identity(),
        'GELU': nn.GELU(),
        'difference': Apply(lambda x: x.relu() - x.sigmoid()),
        'bicubic': Apply(lambda x: nn.functional.interpolate(x.relu(), (9, 9), mode='bicubic')),
    }[before]
    space, x = space_of(Block(add=after(torch.relu)), Block(add=after(torch.relu)), before=layer)
    assert blocks_of(space) == ['2.1']
    assert_removable(space, x)


@pytest.mark.parametrize(
    ('activation', 'before', 'first'),
    [
        (nn.ReLU6(), nn.ReLU6(), True),
        (nn.ReLU6(), nn.ReLU(), False),
        (nn.ReLU6(), nn.Sigmoid(), True),
        (nn.Hardtanh(), nn.Tanh(), True),
        (nn.Hardtanh(), nn.ReLU6(), False),
        (Apply(lambda x: x.clamp(-2, 3)), nn.Hardtanh(), True),
        (Apply(lambda x: x.clamp(max=0)), nn.ReLU(), False),
    ],
)
def test_a_clamped_sum_is_a_block_behind_an_input_within_its_bounds(activation, before, first):
    space, x = space_of(Block(add=after(activation)), Block(add=after(activation)), before=before)
    assert blocks_of(space) == (['2.0', '2.1'] if first else ['2.1'])
    assert_removable(space, x)


def test_a_block_of_torchvision_behind_a_convolution_stays():
    """It gives ReLU(x) without its branch, not x."""
    space, x = space_of(BasicBlock(WIDTH, WIDTH), BasicBlock(WIDTH, WIDTH))
    assert blocks_of(space) == ['2.1']
    assert_removable(space, x)


def test_the_first_stage_of_a_resnet_is_found_behind_its_pooling():
    torch.manual_seed(0)
    space = dms_mm.make_searchable(torchvision.models.resnet18(), torch.randn(2, 3, 64, 64))
    assert blocks_of(space)[:2] == ['layer1.0', 'layer1.1'] and len(blocks_of(space)) == 5
    assert ends_of(space.units['layer1/depth']) == [['bn2'], ['bn2']]


def test_no_table_of_classes_is_needed():
    assert not BLOCKS.module_dict


# -- what is no block
class Turned(Block):
    def forward(self, x):
        return super().forward(x).transpose(2, 3)


class Window(Block):
    """Rearranges its input, adds to it, and puts it back; ``wrong`` puts it back in another order."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong

    def forward(self, x):
        n, c, h, w = x.shape
        y = x.view(n, c, 3, h // 3, 3, w // 3).permute(0, 2, 4, 1, 3, 5).reshape(n * 9, c, h // 3, w // 3)
        y = y + self.body(y)
        order = (0, 3, 2, 4, 1, 5) if self.wrong else (0, 3, 1, 4, 2, 5)
        return y.view(n, 3, 3, c, h // 3, w // 3).permute(order).reshape(n, c, h, w)


class InPlace(Block):
    """Changes part of its input behind the back of ``x``."""

    def forward(self, x):
        y = self.body(x)
        x = x.clone()
        x[:, :2] *= 2
        return x + y


class InPlaceBefore(Block):
    def forward(self, x):
        shown = x.view(x.shape)
        x[:, :2] *= 2
        return shown + self.body(x)


class Scaled(Block):
    def forward(self, x):
        return (x + self.body(x)) * 1.5


OTHERS = {
    'the other is scaled': lambda: Block(add=lambda x, y: torch.add(y, x, alpha=0.5)),
    'the other is taken away': lambda: Block(add=lambda x, y: y - x),
    'a product': lambda: Block(add=lambda x, y: x * y.sigmoid()),
    'a constant': lambda: Block(add=lambda x, y: x + y + 1),
    'an average': lambda: Block(add=lambda x, y: (x + y) / 2),
    'turned': Turned,
    'put back wrong': lambda: Window(True),
    'in place': InPlace,
    'in place before': InPlaceBefore,
    'multiplied': Scaled,
    'a parameter': lambda: LayerShift(),
}


class LayerShift(nn.Module):
    """No branch: what it adds is no function of the input."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.randn(WIDTH, 1, 1))

    def forward(self, x):
        return x + self.shift


@pytest.mark.parametrize('kind', list(OTHERS))
def test_what_gives_more_than_its_input_is_no_block(kind):
    space, _ = space_of(OTHERS[kind](), Conv())
    assert not blocks_of(space)


@pytest.mark.parametrize('kind', ['in windows', 'factor', 'difference', 'in place'])
def test_what_gives_its_input_in_a_roundabout_way_is_one(kind):
    block = {
        'in windows': lambda: Window(False),
        'factor': lambda: Block(add=lambda x, y: torch.add(x, y, alpha=0.5)),
        'difference': lambda: Block(add=lambda x, y: x - y),
        'in place': lambda: Block(add=lambda x, y: x.add_(y)),
    }[kind]
    space, x = space_of(block(), block())
    assert blocks_of(space) == ['2.0', '2.1'] and not hooks_of(space)
    assert_removable(space, x)


# -- what is shared
def test_a_branch_that_serves_two_blocks_carries_no_mask():
    body = Conv()
    space, _ = space_of(Block(body), Conv(), Block(body))
    assert not blocks_of(space)


def test_a_weight_that_serves_elsewhere_takes_no_mask_but_its_layer_may():
    first, block = Conv(), Block()
    block.body[1] = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
    block.body[1].weight = first[0].weight
    space, x = space_of(first, block)
    assert blocks_of(space) == ['2.1'] and hooks_of(space) == ['2.1.body.1']
    assert_removable(space, x)


class Again(nn.Module):
    """Runs a block twice, the second time behind a convolution."""

    def __init__(self, block):
        super().__init__()
        self.block, self.conv = block, Conv()

    def forward(self, x):
        return self.block(self.conv(self.block(x)))


def test_a_block_that_runs_twice_goes_twice():
    space, x = space_of(Again(Block()))
    assert blocks_of(space) == ['2.0.block'] and not hooks_of(space)
    assert_removable(space, x)


def test_a_block_that_runs_twice_behind_different_inputs_stays():
    space, _ = space_of(Again(Block(add=after(torch.relu))), before=nn.ReLU())
    assert not blocks_of(space)
