"""The smallest networks of kinds of mistakes: in counts, in blocks that may go, in widths, and in operators.

``KINDS`` has an id, the number of the kind, and a function that gives a model and its inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.weight_norm import weight_norm as old_weight_norm

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))


class Apply(nn.Module):
    """A forward given as a function of the module's children and the inputs."""

    def __init__(self, function, **children) -> None:
        super().__init__()
        self.function = function
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, *args):
        return self.function(self, *args)


def conv(a: int, b: int, kernel: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(a, b, kernel, padding=kernel // 2, **options)


def around(*layers, width: int = 8, out: int = 4, before=None) -> tuple[nn.Module, Tensor]:
    """Layers between a rectified stem and a classifier."""
    stem = [conv(3, width), nn.ReLU()] if before is None else before
    return nn.Sequential(*stem, *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, out)), X


# -- 10: counts
class Graph(nn.Module):
    """A graph network: products with a matrix that is an input, before and behind a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        a = a @ a
        return a @ self.two((a @ self.one(a @ x)).relu())


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, p: Tensor, q: Tensor) -> Tensor:
        return self.two(self.one((p @ q) @ p).relu())


def one_to_one():
    return nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)), X[:, :1]


class Residual(nn.Module):
    def __init__(self, width: int = 8, hidden: int = 6, one=None, two=None) -> None:
        super().__init__()
        self.one, self.two = one or conv(width, hidden), two or conv(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(self.one(x).relu())


class OnceForABatch(nn.Module):
    """A gate that is made of three places, whatever the batch: a sample's share is no whole number."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.gate, self.head = nn.Linear(6, 7), nn.Linear(1, 7), nn.Linear(7, 4)
        self.register_buffer('places', torch.rand(3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.up(x) * self.gate(self.places).sum(0))


def tied_blocks():
    """One convolution inside of two removable blocks."""
    shared = conv(8, 6)
    return around(Residual(one=shared), Residual(), Residual(one=shared))


def tied_weight():
    """One weight inside of a removable block and of a layer behind it."""
    block = Residual(two=conv(6, 8, bias=False))
    behind = conv(6, 8, bias=False)
    behind.weight = block.two.weight
    return around(block, Residual(), conv(8, 6), nn.ReLU(), behind)


def tied_weights_of_blocks():
    a, b, c = Residual(), Residual(), Residual()
    b.one.weight = a.one.weight
    c.one.weight = a.one.weight
    c.one.bias = b.one.bias
    return around(a, b, c)


class Again(nn.Module):
    """One block, called four times."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.stem, self.block, self.head = conv(3, 8), block, nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(4):
            x = self.block(x)
        return self.head(x.mean((2, 3)))


def under_two_names():
    block = Residual()
    return around(block, Residual(), block)


def in_every_block():
    """A layer of the model that its blocks call, too, each of them under a name of its own."""
    shared = nn.Linear(8, 8)
    return Apply(
        lambda m, x: m.head(m.blocks(m.embed(m.stem(x).relu()))),
        stem=nn.Linear(6, 8), embed=shared,
        blocks=nn.Sequential(*(Apply(lambda m, x: x + m.two(m.one(x).relu()), one=shared, two=nn.Linear(8, 8))
                               for _ in range(2))),
        head=nn.Linear(8, 4),
    ), TOKENS  # fmt: skip


class Nested(nn.Module):
    """A block of blocks, whose layers are one."""

    def __init__(self, shared: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(Residual(one=shared), Residual(one=shared))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def tied_in_nested():
    shared = conv(8, 6)
    return around(Nested(shared), Nested(shared), Residual())


def tied_bias():
    """A linear layer's bias is used without its weight."""
    return Apply(
        lambda m, x: m.two((F.linear(x, m.other) + m.one.bias).relu()),
        one=nn.Linear(6, 8), other=nn.Parameter(torch.randn(8, 6)), two=nn.Linear(8, 4),
    ), TOKENS  # fmt: skip


# -- 4: blocks behind what is not rectified
class Activated(nn.Module):
    def __init__(self, act) -> None:
        super().__init__()
        self.one, self.two, self.act = conv(8, 6), conv(6, 8), act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.two(self.one(x).relu()))


def torchvision_blocks():
    from torchvision.models.resnet import BasicBlock

    return nn.Sequential(conv(3, 8), BasicBlock(8, 8), BasicBlock(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten()), X


def torchvision_bottlenecks():
    from torchvision.models.resnet import Bottleneck

    return around(Bottleneck(8, 2), Bottleneck(8, 2), before=[conv(3, 8), nn.BatchNorm2d(8)])


def timm_blocks():
    from timm.models.resnet import BasicBlock

    return around(BasicBlock(8, 8), BasicBlock(8, 8), before=[conv(3, 8)])


def mmpretrain_blocks():
    from dms_mm.compat import prepare_mmpretrain

    prepare_mmpretrain()
    from mmpretrain.models.backbones.resnet import BasicBlock

    return around(BasicBlock(8, 8), BasicBlock(8, 8), before=[conv(3, 8)])


def activated(act, before=None):
    return lambda: around(Activated(act()), Activated(act()), before=[conv(3, 8), *([before()] if before else [])])


# -- 21: depth
class Sized(nn.Module):
    """Returns its result and the size that it was given."""

    def __init__(self, keyword: bool = False) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor, size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        h, w = size
        y = self.one(x).unflatten(1, (h, w)).roll(1, 1).flatten(1, 2)
        return x + self.two(y.relu()), size


class SizedNet(nn.Module):
    def __init__(self, keyword: bool = False) -> None:
        super().__init__()
        self.keyword = keyword
        self.embed, self.head = nn.Linear(6, 6), nn.Linear(6, 4)
        self.blocks = nn.ModuleList(Sized() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x, size = self.embed(x), (2, 2)
        for block in self.blocks:
            x, size = block(x, size=size) if self.keyword else block(x, size)
        return self.head(x.mean(1))


class OwnSize(Sized):
    """The same, but the size is its own."""

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        return super().forward(x, (2, x.shape[1] // 2))


class OwnSizeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(6, 6), nn.Linear(6, 4)
        self.blocks = nn.ModuleList(OwnSize() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x, (h, w) = block(x)
        return self.head(x.view(-1, h, w, x.shape[-1]).mean((1, 2)))


def one_activation(make=nn.ReLU, before=nn.ReLU):
    def model():
        act = make()
        return around(*(Activated(act) for _ in range(3)), before=[conv(3, 8), before()])

    return model


def one_activation_inside():
    act = nn.ReLU()

    def block(m, x):
        return x + m.two(m.act(m.one(x)))

    return around(*(Apply(block, one=conv(8, 6), act=act, two=conv(6, 8)) for _ in range(3)))


def pre_activated():
    """The shared activation comes first."""
    act = nn.ReLU()

    def block(m, x):
        return x + m.two(m.act(m.norm(m.one(m.act(x)))))

    blocks = (Apply(block, one=conv(8, 6), norm=nn.BatchNorm2d(6), act=act, two=conv(6, 8)) for _ in range(3))
    return around(*blocks, before=[conv(3, 8)])


def ending(function, **children):
    """Blocks whose branch ends in a function of it."""

    def model():
        def block(m, x):
            return function(m, x, m.two(m.one(x).relu()))

        blocks = [
            Apply(block, one=conv(8, 6), two=conv(6, 8), **{k: v() for k, v in children.items()}) for _ in range(3)
        ]
        return around(*blocks)

    return model


def last_branch(function):
    """Blocks with a branch that is channels last."""

    def model():
        def block(m, x):
            return function(m, x)

        blocks = [Apply(block, norm=nn.LayerNorm(8), one=nn.Linear(8, 6), two=nn.Linear(6, 8)) for _ in range(3)]
        return around(*blocks)

    return model


def _permuted(m, x):
    return x + m.two(m.one(m.norm(x.permute(0, 2, 3, 1))).relu()).permute(0, 3, 1, 2)


def _reshaped(m, x):
    b, c, h, w = x.shape
    y = x.flatten(2).transpose(1, 2)
    return x + m.two(m.one(m.norm(y)).relu()).transpose(1, 2).reshape(b, c, h, w)


def _tokens(m, x):
    b, c, h, w = x.shape
    y = x.reshape(b, c, h * w).permute(2, 0, 1)
    return x + m.two(m.one(m.norm(y)).relu()).permute(1, 2, 0).view(b, c, h, w)


def gain(*shape):
    return lambda: nn.Parameter(torch.rand(shape) + 0.5)


class Windowed(nn.Module):
    """A branch in windows, whose places are reshaped back."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.one, self.two = nn.LayerNorm(8), nn.Linear(8, 6), nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        y = self.norm(x).view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        y = self.two(self.one(y).relu()).view(b, h // 2, w // 2, 2, 2, c)
        return x + y.permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)


def windowed():
    return Apply(
        lambda m, x: m.head(m.blocks(m.stem(x).permute(0, 2, 3, 1)).mean((1, 2))),
        stem=conv(3, 8), blocks=nn.Sequential(*(Windowed() for _ in range(3))), head=nn.Linear(8, 4),
    ), X  # fmt: skip


# -- 21: widths
def parts(function, a: int, b: int, width: int = 8):
    """A map of ``width`` channels that goes through a function to a layer of ``a`` channels, and one of ``b``."""

    def model():
        return Apply(
            lambda m, x: m.head(function(m, m.stem(x).relu()).mean((2, 3))),
            stem=conv(3, width), one=conv(a, 6) if a else None, two=conv(b, 6) if b else None, head=nn.Linear(6, 4),
        ), X  # fmt: skip

    return model


def _both(m, one, two):
    return m.one(one) + m.two(two)


def gated(function):
    """Halves that are multiplied with each other."""
    return parts(lambda m, x: m.one(function(x)), 4, 0)


def shuffled(groups: int, width: int = 12, grouped: bool = False):
    def shuffle(m, x):
        b, c, h, w = x.shape
        x = x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)
        return m.one(x)

    def model():
        options, out = (dict(groups=groups), 2 * groups) if grouped else ({}, 6)
        return Apply(
            lambda m, x: m.head(shuffle(m, m.stem(x).relu()).mean((2, 3))),
            stem=conv(3, width), one=conv(width, out, **options), head=nn.Linear(out, 4),
        ), X  # fmt: skip

    return model


def shuffle_units(groups: int):
    """ShuffleNet's units by slices: one half passes, the other goes through layers, then they are shuffled."""

    def unit(m, x):
        n = x.shape[1] // 2
        y = torch.cat([x[:, :n], m.two(m.one(x[:, n:]).relu())], 1)
        b, c, h, w = y.shape
        return y.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)

    return lambda: around(*(Apply(unit, one=conv(6, 6), two=conv(6, 6)) for _ in range(2)), width=12)


# -- 20: layers without a rule
def normed(make, dim: int = 0):
    def model():
        return Apply(
            lambda m, x: m.head(m.two(m.one(m.stem(x).relu()).relu()).mean((2, 3))),
            stem=conv(3, 8), one=make(conv(8, 6), dim=dim), two=make(conv(6, 8), dim=dim), head=nn.Linear(8, 4),
        ), X  # fmt: skip

    return model


def normed_linear(make, dim: int | None = 0):
    def model():
        layers = [make(nn.Linear(a, b), dim=dim) for a, b in ((6, 8), (8, 10), (10, 4))]
        return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]), TOKENS

    return model


def normed_blocks(make):
    """weight_norm at the end of a residual branch."""

    def block():
        return Apply(lambda m, x: x + m.two(m.one(x).relu()), one=make(conv(8, 6)), two=make(conv(6, 8)))

    return lambda: around(block(), block(), block())


def normed_by_hand():
    """The same by hand, at the end of residual branches."""

    def block():
        return Apply(lambda m, x: x + m.two(m.one(x).relu()), one=nn.Linear(6, 8), two=WeightNorm1(8, 6))

    return nn.Sequential(nn.Linear(6, 6), block(), block(), nn.Linear(6, 4)), TOKENS


def normed_grouped(make, transposed: bool = False):
    def model():
        layer = nn.ConvTranspose2d(8, 6, 2, stride=2) if transposed else conv(8, 8, groups=8)
        out = 6 if transposed else 8
        return Apply(
            lambda m, x: m.head(m.two(m.one(m.stem(x).relu()).relu()).mean((2, 3))),
            stem=conv(3, 8), one=make(layer), two=make(conv(out, 8)), head=nn.Linear(8, 4),
        ), X  # fmt: skip

    return model


def normed_1d(make, layers: int = 3):
    """A temporal block: dilated convolutions along time, as in TCN."""
    x = torch.randn(2, 3, 16)

    def model():
        return Apply(
            lambda m, x: m.head(m.body(x).mean(2)),
            body=nn.Sequential(*(
                nn.Sequential(make(nn.Conv1d(a, 8, 3, padding=2 ** k, dilation=2 ** k)), nn.ReLU())
                for k, a in enumerate([3, *[8] * (layers - 1)])
            )),
            head=nn.Linear(8, 4),
        ), x  # fmt: skip

    return model


class WeightNorm1(nn.Module):
    """The gain lives in a parameter of its own: written by hand."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.v, self.g = nn.Parameter(torch.randn(b, a)), nn.Parameter(torch.rand(b, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.v * (self.g / self.v.norm(dim=1, keepdim=True)))


def spatial(function, width: int = 8, rank: int = 2, size: int = 8):
    """Something between two convolutions of ``rank`` dimensions."""
    make = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[rank]

    def model():
        dims = tuple(range(2, 2 + rank))
        return Apply(
            lambda m, x: m.two(function(m, m.one(x).relu())).mean(dims),
            one=make(3, width, 3, padding=1), two=make(width, 4, 3, padding=1),
        ), torch.randn(2, 3, *[size] * rank, generator=torch.Generator().manual_seed(0))  # fmt: skip

    return model


def regions(pool, places: int = 1):
    """Regions of a map, given as boxes; ``places`` channels become one."""

    def model():
        boxes = torch.tensor([[0.0, 0, 0, 6, 6], [1, 1, 2, 7, 7], [1, 0, 0, 4, 5]])
        return Apply(
            lambda m, x, r: m.two(pool(m.one(x).relu(), r)).mean((2, 3)),
            one=conv(3, 8 * places), two=conv(8, 4),
        ), (X, boxes)  # fmt: skip

    return model


def _roi_align(x, boxes):
    from torchvision.ops import roi_align

    return roi_align(x, boxes, 3, 1.0, 2, True)


def _roi_pool(x, boxes):
    from torchvision.ops import roi_pool

    return roi_pool(x, boxes, 3, 1.0)


def _ps_roi_align(x, boxes):
    from torchvision.ops import ps_roi_align

    return ps_roi_align(x, boxes, 2, 1.0, 2)


def _ps_roi_pool(x, boxes):
    from torchvision.ops import ps_roi_pool

    return ps_roi_pool(x, boxes, 2, 1.0)


def mmcv_regions():
    from mmcv.ops import RoIAlign

    return regions(RoIAlign(3, 1.0))()


class Deformed(nn.Module):
    """A deformable convolution of torchvision, its offsets made by a convolution."""

    def __init__(self, groups: int = 1, offset_groups: int = 1, mask: bool = False) -> None:
        super().__init__()
        from torchvision.ops import DeformConv2d

        self.one, self.two, self.head = conv(3, 8), conv(6, 8), nn.Linear(8, 4)
        self.offset = conv(8, 18 * offset_groups)
        self.mask = conv(8, 9 * offset_groups) if mask else None
        self.deform = DeformConv2d(8, 6, 3, padding=1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x).relu()
        mask = self.mask(x).sigmoid() if self.mask is not None else None
        return self.head(self.two(self.deform(x, self.offset(x), mask).relu()).mean((2, 3)))


def mmcv_deformed(modulated: bool = False):
    def model():
        from mmcv.ops import DeformConv2dPack, ModulatedDeformConv2dPack

        make = ModulatedDeformConv2dPack if modulated else DeformConv2dPack
        return nn.Sequential(conv(3, 8), nn.ReLU(), make(8, 6, 3, padding=1), nn.ReLU(), conv(6, 4)), X

    return model


def bags(mode: str):
    def model():
        return Apply(
            lambda m, x: m.two(m.one(m.embed(x)).relu()),
            embed=nn.EmbeddingBag(11, 8, mode=mode), one=nn.Linear(8, 6), two=nn.Linear(6, 4),
        ), torch.arange(12).view(3, 4) % 11  # fmt: skip

    return model


def unpooled():
    def model(m, x):
        y, places = m.pool(m.one(x).relu())
        return m.two(m.unpool(y, places)).mean((2, 3))

    return Apply(
        model, one=conv(3, 8), pool=nn.MaxPool2d(2, return_indices=True), unpool=nn.MaxUnpool2d(2), two=conv(8, 4)
    ), X  # fmt: skip


# -- 22, 23: shares and names
def einsum_maps():
    """Channels of convolutions that meet in a product: no heads."""
    return Apply(
        lambda m, x: m.head(torch.einsum('bchw,bcij->bhwij', m.one(x), m.two(x)).flatten(3).mean((1, 2))),
        one=conv(3, 8), two=conv(3, 8), head=nn.Linear(64, 4),
    ), X  # fmt: skip


def _adjacency():
    return TOKENS, torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(2))


relu, gelu, silu, hardswish = nn.ReLU, nn.GELU, nn.SiLU, nn.Hardswish
both = {'old': old_weight_norm, 'new': parametrizations.weight_norm}

KINDS = [
    ('graph', 10, lambda: (Graph(), _adjacency())),
    ('two inputs', 10, lambda: (TwoInputs(), (TOKENS, TOKENS.transpose(1, 2).contiguous()))),
    ('once for a batch', 10, lambda: (OnceForABatch(), TOKENS)),
    ('one channel to one', 10, one_to_one),
    ('a layer in two blocks', 10, tied_blocks),
    ('a weight in a block and behind it', 10, tied_weight),
    ('weights of several blocks', 10, tied_weights_of_blocks),
    ('a block four times', 10, lambda: (Again(Residual()), X)),
    ('a block under two names', 10, under_two_names),
    ('a layer of the model in its blocks', 10, in_every_block),
    ('a layer in blocks of blocks', 10, tied_in_nested),
    ('a bias without its weight', 10, tied_bias),
    ('torchvision blocks', 4, torchvision_blocks),
    ('torchvision bottlenecks', 4, torchvision_bottlenecks),
    ('timm blocks', 4, timm_blocks),
    ('mmpretrain blocks', 4, mmpretrain_blocks),
    *((f'{act.__name__} of the sum', 4, activated(act)) for act in (relu, gelu, silu, hardswish, nn.ReLU6, nn.ELU)),
    *((f'{a.__name__} of the sum behind {b.__name__}', 4, activated(a, b))
      for a, b in ((relu, relu), (gelu, gelu), (silu, relu), (hardswish, relu), (nn.ReLU6, relu), (relu, nn.ReLU6),
                   (nn.LeakyReLU, relu), (nn.Hardtanh, relu), (nn.Softplus, relu), (nn.PReLU, relu))),
    ('sizes pass', 21, lambda: (SizedNet(), TOKENS[:, :4])),
    ('sizes pass by keyword', 21, lambda: (SizedNet(True), TOKENS[:, :4])),
    ('sizes are made', 21, lambda: (OwnSizeNet(), TOKENS[:, :4])),
    ('one activation', 21, one_activation()),
    ('one activation in place', 21, one_activation(lambda: nn.ReLU(inplace=True))),
    ('one activation inside', 21, one_activation_inside),
    ('one activation before', 21, pre_activated),
    ('gamma on the left', 21, ending(lambda m, x, y: x + m.gamma * y, gamma=gain(8, 1, 1))),
    ('gamma on the right', 21, ending(lambda m, x, y: y * m.gamma + x, gamma=gain(8, 1, 1))),
    ('gamma by shape', 21, ending(lambda m, x, y: x + m.gamma.view(1, -1, 1, 1) * y, gamma=gain(8))),
    ('gamma by index', 21, ending(lambda m, x, y: x + m.gamma[None, :, None, None] * y, gamma=gain(8))),
    ('gamma by expansion', 21, ending(lambda m, x, y: x + m.gamma[:, None, None].expand_as(y) * y, gamma=gain(8))),
    ('gamma of one number', 21, ending(lambda m, x, y: x + m.gamma * y, gamma=gain())),
    ('gamma of one number in a list', 21, ending(lambda m, x, y: x + m.gamma * y, gamma=gain(1))),
    ('gamma by addcmul', 21, ending(lambda m, x, y: torch.addcmul(x, m.gamma, y), gamma=gain(8, 1, 1))),
    ('the exponential of gamma', 21, ending(lambda m, x, y: x + m.gamma.exp() * y, gamma=gain(8, 1, 1))),
    ('gamma behind a functional activation', 21,
     ending(lambda m, x, y: x + m.gamma * torch.tanh(y), gamma=gain(8, 1, 1))),
    ('a number on the left', 21, ending(lambda m, x, y: x + 0.5 * y)),
    ('a difference', 21, ending(lambda m, x, y: x - y)),
    ('a negative sum', 21, ending(lambda m, x, y: -y + x)),
    ('a sum with a factor', 21, ending(lambda m, x, y: torch.add(x, y, alpha=0.5))),
    ('a sum divided by one', 21, ending(lambda m, x, y: (x + y) / 1.0)),
    ('a sum times one', 21, ending(lambda m, x, y: 1.0 * (x + y))),
    ('half of a sum', 21, ending(lambda m, x, y: (x + y) / 2)),
    ('a difference with a factor', 21, ending(lambda m, x, y: torch.sub(x, y, alpha=2))),
    ('in place', 21, ending(lambda m, x, y: y.add_(x))),
    ('into the input', 21, ending(lambda m, x, y: x.clone().add_(y))),
    ('permuted', 21, last_branch(_permuted)),
    ('reshaped', 21, last_branch(_reshaped)),
    ('tokens', 21, last_branch(_tokens)),
    ('windows', 21, windowed),
    ('branch contiguous', 21, ending(lambda m, x, y: x + y.contiguous().reshape(x.shape))),
    ('branch through complex moves', 21,
     ending(lambda m, x, y: x + y.movedim(1, -1).flatten(1, 2).transpose(1, 2).unflatten(2, x.shape[2:]))),
    ('branch by einsum', 21, ending(lambda m, x, y: x + torch.einsum('bchw,c->bchw', y, m.gamma), gamma=gain(8))),
    ('branch by stack', 21, ending(lambda m, x, y: x + torch.stack([y, y], 0).sum(0))),
    ('branch interpolated', 21,
     ending(lambda m, x, y: x + F.interpolate(F.avg_pool2d(y, 2), x.shape[2:], mode='bicubic'))),
    ('branch cut', 21, ending(lambda m, x, y: x + F.pad(y, [1, 1, 1, 1])[:, :, 1:-1, 1:-1])),
    ('halves by slice', 21, parts(lambda m, x: _both(m, x[:, :4], x[:, 4:]), 4, 4)),
    ('halves by a number', 21, parts(lambda m, x: _both(m, x[:, :x.shape[1] // 2], x[:, x.shape[1] // 2:]), 4, 4)),
    ('halves by narrow', 21, parts(lambda m, x: _both(m, x.narrow(1, 0, 4), x.narrow(1, 4, 4)), 4, 4)),
    ('uneven slices', 21, parts(lambda m, x: _both(m, x[:, :3], x[:, 3:]), 3, 5)),
    ('overlapping slices', 21, parts(lambda m, x: _both(m, x[:, :5], x[:, 3:]), 5, 5)),
    ('tensor_split', 21, parts(lambda m, x: _both(m, *x.tensor_split(2, 1)), 4, 4)),
    ('tensor_split uneven', 21, parts(lambda m, x: _both(m, *x.tensor_split(2, 1)), 5, 4, 9)),
    ('tensor_split at', 21, parts(lambda m, x: _both(m, *x.tensor_split([3], 1)), 3, 5)),
    ('chunks uneven', 21, parts(lambda m, x: _both(m, *x.chunk(2, 1)), 5, 4, 9)),
    ('split uneven', 21, parts(lambda m, x: _both(m, *x.split([3, 5], 1)), 3, 5)),
    ('split by size uneven', 21, parts(lambda m, x: _both(m, *x.split(6, 1)), 6, 3, 9)),
    ('unflatten', 21, parts(lambda m, x: _both(m, *x.unflatten(1, (2, 4)).unbind(1)), 4, 4)),
    ('gate by chunk', 21, gated(lambda x: x.chunk(2, 1)[0] * x.chunk(2, 1)[1].sigmoid())),
    ('gate by slice', 21, gated(lambda x: x[:, :4] * x[:, 4:].sigmoid())),
    ('gate by tensor_split', 21, gated(lambda x: torch.mul(*x.tensor_split(2, 1)))),
    ('gate by steps', 21, gated(lambda x: x[:, ::2] * x[:, 1::2].sigmoid())),
    ('shuffle by two', 21, shuffled(2)),
    ('shuffle by three', 21, shuffled(3)),
    ('shuffle by three, grouped', 21, shuffled(3, grouped=True)),
    ('shuffle by four, grouped', 21, shuffled(4, 16, grouped=True)),
    ('shuffle units by two', 21, shuffle_units(2)),
    ('shuffle units by three', 21, shuffle_units(3)),
    *((f'{k} weight_norm', 20, normed(make)) for k, make in both.items()),
    *((f'{k} weight_norm of columns', 20, normed(make, 1)) for k, make in both.items()),
    *((f'{k} weight_norm of a linear', 20, normed_linear(make)) for k, make in both.items()),
    *((f'{k} weight_norm of everything', 20, normed_linear(make, None)) for k, make in both.items()),
    *((f'{k} weight_norm in a residual branch', 20, normed_blocks(make)) for k, make in both.items()),
    *((f'{k} weight_norm of everything in a residual branch', 20, normed_blocks(lambda x, m=make: m(x, dim=None)))
      for k, make in both.items()),
    ('weight_norm by hand in a residual branch', 20, normed_by_hand),
    *((f'{k} weight_norm depthwise', 20, normed_grouped(make)) for k, make in both.items()),
    *((f'{k} weight_norm transposed', 20, normed_grouped(make, True)) for k, make in both.items()),
    *((f'{k} weight_norm along time', 20, normed_1d(make)) for k, make in both.items()),
    ('weight_norm by hand', 20, lambda: (nn.Sequential(WeightNorm1(6, 8), nn.ReLU(), WeightNorm1(8, 4)), TOKENS)),
    ('roi_align', 20, regions(_roi_align)),
    ('roi_pool', 20, regions(_roi_pool)),
    ('ps_roi_align', 20, regions(_ps_roi_align, 4)),
    ('ps_roi_pool', 20, regions(_ps_roi_pool, 4)),
    ('mmcv roi_align', 20, mmcv_regions),
    ('deform_conv2d', 20, lambda: (Deformed(), X)),
    ('deform_conv2d with a mask', 20, lambda: (Deformed(mask=True), X)),
    ('deform_conv2d in offset groups', 20, lambda: (Deformed(offset_groups=2, mask=True), X)),
    ('deform_conv2d in groups', 20, lambda: (Deformed(groups=2), X)),
    ('mmcv deform_conv2d', 20, mmcv_deformed()),
    ('mmcv modulated deform_conv2d', 20, mmcv_deformed(True)),
    *((f'3d resampling, {mode}', 20, spatial(lambda m, x, k=mode: F.interpolate(x, scale_factor=2, mode=k), rank=3,
                                             size=4)) for mode in ('nearest', 'nearest-exact', 'trilinear')),
    *((f'3d padding, {mode}', 20, spatial(lambda m, x, k=mode: F.pad(x, [1] * 6, mode=k), rank=3, size=4))
      for mode in ('constant', 'reflect', 'replicate', 'circular')),
    *((f'3d pooling, {pool.__name__}', 20, spatial(lambda m, x, p=pool: p(x, 2), rank=3, size=4))
      for pool in (F.max_pool3d, F.avg_pool3d, F.adaptive_avg_pool3d, F.adaptive_max_pool3d)),
    *((f'circular padding, {rank}d', 20, spatial(lambda m, x, n=rank: F.pad(x, [1, 1] * n, mode='circular'), rank=rank))
      for rank in (1, 2)),
    ('circular convolution', 20, lambda: (nn.Sequential(
        conv(3, 8, padding_mode='circular'), nn.ReLU(), conv(8, 4, padding_mode='circular')), X)),
    ('reflecting convolution', 20, lambda: (nn.Sequential(
        conv(3, 8, padding_mode='reflect'), nn.ReLU(), conv(8, 4, padding_mode='replicate')), X)),
    ('fractional pooling', 20, spatial(lambda m, x: F.fractional_max_pool2d(
        x, 2, 3, _random_samples=torch.full((2, x.shape[1], 2), 0.4, dtype=x.dtype)))),
    ('lp pooling', 20, spatial(lambda m, x: F.lp_pool2d(x, 2, 2))),
    ('unpooling', 20, unpooled),
    *((f'bags, {mode}', 20, bags(mode)) for mode in ('sum', 'mean', 'max')),
    ('channels in an einsum', 23, einsum_maps),
    # No norms, though their weights have a number for each channel.
    ('depthwise, of one pixel', 19, lambda: around(conv(6, 6, 1, groups=6), width=6)),
    ('depthwise, of one pixel, without its input', 19,
     lambda: around(Apply(lambda m, x: m.scale(x) - x, scale=conv(6, 6, 1, groups=6)), width=6)),
]  # fmt: skip
