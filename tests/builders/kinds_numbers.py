"""Networks in which a number or a piece depends on a width, in ways that a trace sees only by looking for them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

MAP = (2, 3, 6, 6)
SEQUENCE = (2, 5, 12)


class Number(nn.Module):
    """``function(x, n)`` of a map and its number of channels, between convolutions; the first of them is free."""

    def __init__(self, function, bias=True):
        super().__init__()
        self.function = function
        self.free, self.stem = nn.Conv2d(3, 7, 1), nn.Conv2d(7, 12, 3, padding=1, bias=bias)
        self.out = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.free(x).tanh())
        return self.out(self.function(x, x.shape[1]))


class Scores(nn.Module):
    """Attention of two heads whose scores are scaled by ``function(scores, d)``."""

    def __init__(self, function, heads=2, width=12):
        super().__init__()
        self.function, self.heads, self.width = function, heads, width
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        d = self.width // self.heads
        q, k, v = (m(x).view(b, n, self.heads, d).transpose(1, 2) for m in (self.q, self.k, self.v))
        scores = self.function(q @ k.transpose(-2, -1), d)
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, -1))


class Between(nn.Module):
    """A sequence model around a part: embedding, part as a residual branch, and a last layer."""

    def __init__(self, part):
        super().__init__()
        self.embed, self.part, self.out = nn.Linear(4, 12), part, nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.out(x + self.part(x))


NUMBERS = {
    'add': lambda x, n: x + 0.1 * n,
    'radd': lambda x, n: 0.1 * n + x,
    'add_': lambda x, n: x.clone().add_(0.1 * n),
    'sub': lambda x, n: x - n,
    'sub_': lambda x, n: x.clone().sub_(0.1 * n),
    'rsub': lambda x, n: n - x,
    'rdiv': lambda x, n: n / (x.abs() + 1),
    'pow': lambda x, n: x.abs() ** (0.1 * n),
    'rpow': lambda x, n: (0.1 * n) ** x,
    'clamp': lambda x, n: x.clamp(-0.02 * n, 0.03 * n),
    'clamp_min': lambda x, n: x.clamp_min(-0.01 * n),
    'clamp_max_': lambda x, n: x.clone().clamp_max_(0.02 * n),
    'hardtanh': lambda x, n: F.hardtanh(x, -0.02 * n, 0.02 * n),
    'leaky_relu': lambda x, n: F.leaky_relu(x, 0.02 * n),
    'elu': lambda x, n: F.elu(x, 0.1 * n),
    'celu': lambda x, n: F.celu(x, 0.1 * n),
    'softplus': lambda x, n: F.softplus(x, 0.1 * n),
    'threshold': lambda x, n: F.threshold(x, 0.0, 0.1 * n),
    'hardshrink': lambda x, n: F.hardshrink(x, 0.01 * n),
    'softshrink': lambda x, n: F.softshrink(x, 0.01 * n),
    'masked_fill': lambda x, n: x.masked_fill(x > 0, 0.1 * n),
    'where': lambda x, n: torch.where(x > 0, x, 0.1 * n),
    'greater': lambda x, n: x * (x > 0.01 * n),
    'lerp': lambda x, n: x.lerp(x.tanh(), 0.05 * n),
    'addcmul': lambda x, n: torch.addcmul(x, x, x, value=0.1 * n),
    'addcdiv': lambda x, n: torch.addcdiv(x, x, x.abs() + 1, value=0.1 * n),
    'alpha': lambda x, n: torch.add(x, x.tanh(), alpha=n),
    'sub alpha': lambda x, n: torch.sub(x, x.tanh(), alpha=0.1 * n),
    'remainder': lambda x, n: x.remainder(0.1 * n),
    'nan_to_num': lambda x, n: (x / x.relu()).nan_to_num(0.1 * n, 0.1, 0.1),
    'full_like': lambda x, n: x + torch.full_like(x, 0.1 * n),
    'new_full': lambda x, n: x + x.new_full((1, 1, 1, 1), 0.1 * n),
    'fill_': lambda x, n: x + torch.empty_like(x).fill_(0.1 * n),
    'avg_pool': lambda x, n: F.avg_pool2d(x, n // 4),
    'max_pool': lambda x, n: F.max_pool2d(x, n // 4, 1, n // 8),
    'divisor': lambda x, n: F.avg_pool2d(x, 2, divisor_override=n),
    'pad': lambda x, n: F.pad(x, (1, 1, 1, 1), value=0.1 * n),
    'tensor': lambda x, n: x * torch.tensor(0.1 * n),
    'tensor added': lambda x, n: x + torch.tensor(0.1 * n),
    'as_tensor': lambda x, n: x / torch.as_tensor(float(n)),
    'new_tensor': lambda x, n: x / x.new_tensor(n).sqrt(),
    'full': lambda x, n: x * torch.full([], 0.1 * n),
    'several': lambda x, n: x * torch.tensor([0.1 * n, 0.2, 0.3, 0.4, 0.5, 0.6]),
    'arange': lambda x, n: x * (1 + torch.arange(n)[:, None, None] / n),
    'linspace': lambda x, n: x * torch.linspace(0.1, 1, n)[:, None, None],
    'frequencies': lambda x, n: x * (1 + torch.sin(10 ** (-torch.arange(0, n, 2) / n)).repeat(2)[:, None, None]),
    'arange of places': lambda x, n: x * (1 + torch.arange(6) / n),
    'item': lambda x, n: x * torch.tensor(0.1 * n).item(),
    'eps': lambda x, n: F.instance_norm(x, eps=0.01 * n),
    'eps by hand': lambda x, n: x / (x.square().mean((2, 3), keepdim=True) + 0.01 * n).sqrt(),
    'dropout of evaluation': lambda x, n: F.dropout(x, 0.01 * n, False),
    'quarter twice': lambda x, n: x * n**-0.25 * n**-0.25,
    'quarter on both': lambda x, n: x * n**-0.25 + (x * n**-0.25).tanh(),
    'factor': lambda x, n: x * n**-0.5,
    'factor_': lambda x, n: x.clone().mul_(n**-0.5),
    'divisor of all': lambda x, n: x / n,
    'divided_': lambda x, n: x.clone().div_(math.sqrt(n)),
    'rounded': lambda x, n: torch.div(x, 0.1 * n, rounding_mode='floor'),
    'factor of a sum': lambda x, n: (x + x.tanh()) * n**-0.5,
    'factor and shift': lambda x, n: (x * n**-0.5 + 0.5).relu(),
    'mean by hand': lambda x, n: x + x.sum(1, keepdim=True) / n,
    'mean by tensor': lambda x, n: x + x.sum(1, keepdim=True) / torch.tensor(float(n)),
    'mean of squares by hand': lambda x, n: x * torch.rsqrt(x.square().sum(1, keepdim=True) / n + 0.1),
}

SCALES = {
    'sqrt of a tensor': lambda s, d: s / torch.sqrt(torch.tensor(d)),
    'sqrt of a float tensor': lambda s, d: s / torch.sqrt(torch.tensor(d, dtype=s.dtype)),
    'tensor': lambda s, d: s / torch.tensor(d**0.5),
    'times a tensor': lambda s, d: s * torch.tensor(d**-0.5),
    'new_tensor': lambda s, d: s / s.new_tensor(d).sqrt(),
    'full': lambda s, d: s / torch.full([], float(d)).sqrt(),
    'full with one position': lambda s, d: s / torch.full([1], float(d)).sqrt(),
    'as_tensor': lambda s, d: s * torch.as_tensor(d) ** -0.5,
    'in place': lambda s, d: s.div_(math.sqrt(d)),
    'alpha': lambda s, d: torch.add(torch.zeros_like(s), s, alpha=d**-0.5),
    'twice': lambda s, d: s * d**-0.25 * d**-0.25,
    'number': lambda s, d: s / math.sqrt(d),
}


class Baddbmm(nn.Module):
    """Scores by ``baddbmm``, scaled in it, as some language models have them."""

    def __init__(self, beta=1.0):
        super().__init__()
        self.q, self.k, self.v, self.proj = (nn.Linear(12, 12) for _ in range(4))
        self.width, self.beta = 12, beta

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        d = self.width // 2
        q, k, v = (m(x).view(b, n, 2, d).transpose(1, 2).reshape(b * 2, n, d) for m in (self.q, self.k, self.v))
        bias = torch.linspace(-1, 1, n, dtype=x.dtype).expand(b * 2, n, n)
        scores = torch.baddbmm(bias, q, k.transpose(1, 2), beta=self.beta, alpha=d**-0.5)
        return self.proj((scores.softmax(-1) @ v).view(b, 2, n, -1).transpose(1, 2).reshape(b, n, -1))


class Addmm(nn.Module):
    def __init__(self):
        super().__init__()
        self.free, self.stem, self.last = nn.Linear(4, 7), nn.Linear(7, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.free(x)).flatten(0, 1)
        return torch.addmm(self.last.bias, x, self.last.weight.t(), alpha=x.shape[1] ** -0.5)


# -- pieces
class Pieces(nn.Module):
    """Consumers of pieces of one tensor, by ``cut(x)``."""

    def __init__(self, cut, sizes, width=12):
        super().__init__()
        self.cut, self.stem = cut, nn.Conv2d(3, width, 3, padding=1)
        self.parts = nn.ModuleList(nn.Conv2d(n, 6, 1) for n in sizes)
        self.out = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(sum(m(y) for m, y in zip(self.parts, self.cut(self.stem(x).tanh()))))


class StoredPieces(Pieces):
    """The same with sizes in an attribute."""

    def __init__(self, sizes):
        super().__init__(None, sizes, sum(sizes))
        self.sizes = sizes

    def forward(self, x: Tensor) -> Tensor:
        pieces = torch.split(self.stem(x).tanh(), self.sizes, 1)
        return self.out(sum(m(y) for m, y in zip(self.parts, pieces)))


class GroupsOfPieces(nn.Module):
    """Pieces of a concatenation of two layers, which lie across their border."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 1)
        self.left, self.right = nn.Conv2d(4, 5, 1), nn.Conv2d(8, 5, 1)
        self.sizes = [4, 8]

    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.cat([self.a(x), self.b(x)], 1).tanh().split(self.sizes, 1)
        return self.left(left) + self.right(right)


class PartialConv(nn.Module):
    """A convolution of some channels, the others as they are (FasterNet)."""

    def __init__(self, dim=12, part=3):
        super().__init__()
        self.dim, self.untouched = part, dim - part
        self.stem, self.conv, self.out = nn.Conv2d(3, dim, 1), nn.Conv2d(part, part, 3, padding=1), nn.Conv2d(dim, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        a, b = torch.split(x, [self.dim, self.untouched], dim=1)
        return self.out(torch.cat((self.conv(a), b), 1))


# -- attention inlined, and heads
class Inlined(nn.Module):
    """A whole model whose attention has its head dim from the stream."""

    def __init__(self, heads=2, width=12):
        super().__init__()
        self.heads = heads
        self.embed = nn.Linear(4, width)
        self.norm, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 16), nn.Linear(16, width)
        self.out = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5).softmax(-1)
        x = x + self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))
        return self.out(x + self.narrow(F.gelu(self.wide(x))))


class InlinedSeparate(nn.Module):
    """The same with three projections, and a literal number of heads."""

    def __init__(self, width=12):
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))
        self.out = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, c = x.shape
        q, k, v = (m(x).reshape(b, n, 3, c // 3).transpose(1, 2) for m in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        return self.out(x + self.proj(y))


class SingleHead(nn.Module):
    """``softmax(q k^T / sqrt(d)) v`` without heads, the width of keys of their own."""

    def __init__(self, keys=10, values=9):
        super().__init__()
        self.embed = nn.Linear(4, 12)
        self.q, self.k, self.v = nn.Linear(12, keys), nn.Linear(12, keys), nn.Linear(12, values)
        self.proj, self.out = nn.Linear(values, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = self.q(x), self.k(x), self.v(x)
        weights = (q @ k.transpose(-2, -1) / k.shape[-1] ** 0.5).softmax(-1)
        return self.out(x + self.proj(weights @ v))


class SingleHeadByTensor(SingleHead):
    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = self.q(x), self.k(x), self.v(x)
        weights = (q @ k.transpose(1, 2) / math.sqrt(q.size(-1))).softmax(-1)
        return self.out(x + self.proj(weights @ v))


class NonLocal(nn.Module):
    """Attention over the positions of a map without heads, scaled by the width of queries."""

    def __init__(self):
        super().__init__()
        self.stem, self.theta, self.phi, self.g = nn.Conv2d(3, 12, 1), *(nn.Conv2d(12, 8, 1) for _ in range(3))
        self.last, self.out = nn.Conv2d(8, 12, 1), nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        q, k, v = self.theta(x).flatten(2), self.phi(x).flatten(2), self.g(x).flatten(2)
        weights = (q.transpose(1, 2) @ k / q.shape[1] ** 0.5).softmax(-1)
        y = (weights @ v.transpose(1, 2)).transpose(1, 2).reshape(len(x), -1, *x.shape[2:])
        return self.out(x + self.last(y))


class LiteralHeads(nn.Module):
    """A number of heads that stands in the code: head dims are free all the same."""

    def __init__(self, width=12):
        super().__init__()
        self.embed, self.out = nn.Linear(4, 12), nn.Linear(12, 3)
        self.q, self.k, self.v, self.proj = *(nn.Linear(12, width) for _ in range(3)), nn.Linear(width, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = (m(x).unflatten(-1, (3, -1)).transpose(1, 2) for m in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out(x + self.proj(y))


class Fused(nn.Module):
    """Queries, keys and values of one layer, cut by heads that stand elsewhere and a head dim of its own (Phi-3)."""

    def __init__(self, heads, width, rotary):
        super().__init__()
        self.settings, self.head_dim, self.keys, self.rotary = {'heads': heads}, 6, heads // 2, rotary
        self.qkv = nn.Linear(width, (heads + 2 * self.keys) * 6)
        self.proj = nn.Linear(heads * 6, width)
        self.register_buffer('frequencies', 1 / 10 ** torch.linspace(0, 1, 3))

    def turned(self, x: Tensor) -> Tensor:
        if not self.rotary:
            return x
        angles = torch.arange(x.shape[-2])[:, None] * self.frequencies
        angles = torch.cat([angles, angles], -1)
        n = angles.shape[-1]
        half, rest = x[..., :n], x[..., n:]
        other = torch.cat([-half[..., n // 2 :], half[..., : n // 2]], -1)
        return torch.cat([half * angles.cos() + other * angles.sin(), rest], -1)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        y, end = self.qkv(x), self.settings['heads'] * self.head_dim
        last = end + self.keys * self.head_dim
        q, k, v = (part.view(b, n, -1, self.head_dim).transpose(1, 2) for part in
                   (y[..., :end], y[..., end:last], y[..., last:]))  # fmt: skip
        k, v = (t[:, :, None].expand(-1, -1, 2, -1, -1).flatten(1, 2) for t in (k, v))
        y = F.scaled_dot_product_attention(self.turned(q), self.turned(k), v)
        return self.proj(y.transpose(1, 2).reshape(b, n, -1))


class FusedNet(nn.Module):
    """Two of them."""

    def __init__(self, width, rotary):
        super().__init__()
        self.embed, self.out = nn.Linear(4, width), nn.Linear(width, 3)
        self.blocks = nn.ModuleList(Fused(4, width, rotary) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = (x + block(x)).tanh()
        return self.out(x)


# -- norms by function
class TwoFormats(nn.Module):
    """A norm of channels first by hand or of channels last by function, as ConvNeXt's authors have it."""

    def __init__(self, width, channels_first):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(width) + 0.5), nn.Parameter(torch.rand(width))
        self.eps, self.channels_first, self.normalized_shape = 1e-6, channels_first, (width,)

    def forward(self, x: Tensor) -> Tensor:
        if not self.channels_first:
            return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class Expanded(nn.Module):
    """An L2 norm over channels by hand, its norm expanded, with a learnt gain (as in SSD)."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.eps, self.n_dims = nn.Parameter(torch.rand(width) + 0.5), 1e-10, width

    def forward(self, x: Tensor) -> Tensor:
        norm = x.pow(2).sum(1, keepdim=True).sqrt() + self.eps
        return self.weight[None, :, None, None].expand_as(x) * x / norm.expand_as(x)


class Normed(nn.Module):
    """A norm between two convolutions, of channels first or last."""

    def __init__(self, norm, last=False):
        super().__init__()
        self.stem, self.norm, self.out, self.last = nn.Conv2d(3, 12, 3, padding=1), norm, nn.Conv2d(12, 5, 1), last

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if self.last else self.norm(x)
        return self.out(x)


class ByFunction(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class InlinedNorm(nn.Module):
    """``F.layer_norm`` in the model's own forward, with parameters of a child or of its own."""

    def __init__(self, child):
        super().__init__()
        self.free, self.stem, self.out = nn.Linear(4, 7), nn.Linear(7, 12), nn.Linear(12, 3)
        self.norm = nn.LayerNorm(12) if child else None
        self.gain, self.shift = nn.Parameter(torch.rand(12) + 0.5), nn.Parameter(torch.rand(12))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.free(x))
        if self.norm is not None:
            return self.out(F.layer_norm(x, x.shape[-1:], self.norm.weight, self.norm.bias))
        return self.out(F.layer_norm(x, (x.shape[-1],), self.gain, self.shift))


class Directions(nn.Module):
    """Cosines of features and classes, each normalised by function."""

    def __init__(self):
        super().__init__()
        self.stem, self.classes = nn.Linear(4, 12), nn.Parameter(torch.rand(5, 12))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(self.stem(x), dim=-1), F.normalize(self.classes, dim=-1)) * 4


class SpatialNorm(nn.Module):
    """A LayerNorm over channels and space."""

    def __init__(self):
        super().__init__()
        self.free, self.stem = nn.Conv2d(3, 7, 1), nn.Conv2d(7, 12, 3, padding=1)
        self.norm, self.out = nn.LayerNorm([12, 6, 6]), nn.Conv2d(12, 5, 1)
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)
        nn.init.uniform_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(self.stem(self.free(x))))


# -- sizes stored elsewhere
class Guarded(nn.Module):
    """A size that a parent stores to check its input by."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 12)
        self.inner = GuardedInner(12)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.out(self.inner(x, x.tanh()))


class GuardedInner(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.b, self.d_model = nn.Linear(width, 10), nn.Linear(10, width), width

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if x.size(-1) != self.d_model or y.size(-1) != self.d_model:
            raise RuntimeError('the feature number of src and tgt must be equal to d_model')
        return x + self.b(self.a(y).relu())


class Seq2Seq(nn.Module):
    """``nn.Transformer`` between an embedding and a last layer."""

    def __init__(self):
        super().__init__()
        self.source, self.target = nn.Linear(4, 12), nn.Linear(4, 12)
        self.transformer = nn.Transformer(12, 2, 1, 1, 16, 0.0, batch_first=True)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.transformer(self.source(x), self.target(x.tanh())))


class Translation(Seq2Seq):
    """Words are embedded, seen as, and scaled by, the width that ``nn.Transformer`` stores."""

    def __init__(self):
        super().__init__()
        self.target = nn.Embedding(9, 12)

    def forward(self, x: Tensor) -> Tensor:
        words = (x[..., 0].abs() * 4).long().clamp(max=8)
        y = self.target(words) * math.sqrt(self.transformer.d_model)
        x = (self.source(x) * self.transformer.d_model**0.5).view(*words.shape, self.transformer.d_model)
        return self.out(self.transformer(x, y))


class Encoder(nn.Module):
    """``nn.TransformerEncoder``, whose layers have a fused kernel for evaluation."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(12, 2, 16, 0.0, batch_first=True)
        self.embed, self.encoder, self.out = nn.Linear(4, 12), nn.TransformerEncoder(layer, 1), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.encoder(self.embed(x)))


class Cell(nn.Module):
    """A recurrent cell whose parent makes its state by the size that the cell stores."""

    def __init__(self, kind):
        super().__init__()
        self.embed, self.cell, self.out = nn.Linear(4, 9), kind(9, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        h = x.new_zeros(len(x), self.cell.hidden_size)
        state = (h, h) if isinstance(self.cell, nn.LSTMCell) else h
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return self.out(state[0] if isinstance(state, tuple) else state)


class ChildSize(nn.Module):
    """A reshape by a size that a child stores."""

    def __init__(self):
        super().__init__()
        self.embed, self.child, self.out = nn.Linear(4, 12), Width(12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.child(self.embed(x))
        return self.out(y.reshape(-1, self.child.width).tanh()).view(*x.shape[:2], -1)


class Width(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width, self.layer = width, nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Emptied(nn.Module):
    """A piece that trials may empty, behind it a layer that then takes another path; a neighbour beside it."""

    def __init__(self):
        super().__init__()
        self.stem, self.sizes = nn.Linear(4, 12), [2, 10]
        self.left, self.right = nn.Linear(2, 6), nn.Linear(10, 6)
        self.mid, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).split(self.sizes, -1)
        return self.out(self.mid((self.left(left) + self.right(right)).tanh()).tanh())


def _kind(name):
    return 3 if 'twice' in name else 2 if name in ('add', 'radd', 'sub', 'pow') else 1


def _seeded(make, shape):
    def build():
        torch.manual_seed(0)
        return make(), torch.randn(shape)

    return build


CUTS = {
    'literal split': lambda x: torch.split(x, [4, 8], 1),
    'slices': lambda x: (x[:, :4], x[:, 4:]),
    'slices of a width': lambda x: (x[:, : x.shape[1] // 3], x[:, x.shape[1] // 3 :]),
    'narrow': lambda x: (x.narrow(1, 0, 4), x.narrow(1, 4, 8)),
    'tensor_split': lambda x: torch.tensor_split(x, [4], 1),
}
EVEN = {
    'chunk': lambda x: x.chunk(2, 1),
    'even tensor_split': lambda x: x.tensor_split(2, 1),
    'halves': lambda x: (x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]),
    'even split': lambda x: x.split(6, 1),
}
MEANS = {
    'a gate': lambda x: x * (x.sum(1, keepdim=True) / x.shape[1]).sigmoid(),
    'a gate by a factor': lambda x: x * (x.sum(1, keepdim=True) * (1 / x.shape[1])).sigmoid(),
    'a gate by a tensor': lambda x: x * (x.sum(1, keepdim=True) / torch.tensor(float(x.shape[1]))).sigmoid(),
    'a gate of all': lambda x: x * (x.sum((1, 2, 3), keepdim=True) / x[0].numel()).sigmoid(),
    'centred': lambda x: x - x.sum(1, keepdim=True) / x.size(1),
    'squares': lambda x: x * torch.rsqrt(x.square().sum(1, keepdim=True) / x.shape[1] + 0.1),
    'by a literal': lambda x: x * (x.sum(1, keepdim=True) / 12).sigmoid(),
}
TOKENS = (2, 5, 4)
KINDS = [
    *((f'number {k}', _kind(k), _seeded(lambda f=f: Number(f), MAP)) for k, f in NUMBERS.items()),
    *((f'scores {k}', _kind(k), _seeded(lambda f=f: Between(Scores(f)), TOKENS)) for k, f in SCALES.items()),
    ('scores baddbmm', 1, _seeded(lambda: Between(Baddbmm()), TOKENS)),
    ('scores baddbmm without beta', 1, _seeded(lambda: Between(Baddbmm(0.0)), TOKENS)),
    ('addmm alpha', 1, _seeded(Addmm, TOKENS)),
    *((f'pieces {k}', 5, _seeded(lambda f=f: Pieces(f, (4, 8)), MAP)) for k, f in CUTS.items()),
    *((f'pieces {k}', 5, _seeded(lambda f=f: Pieces(f, (6, 6)), MAP)) for k, f in EVEN.items()),
    ('pieces stored', 5, _seeded(lambda: StoredPieces([4, 8]), MAP)),
    ('three pieces stored', 5, _seeded(lambda: StoredPieces([2, 4, 8]), MAP)),
    ('pieces across layers', 5, _seeded(GroupsOfPieces, MAP)),
    ('partial convolution', 5, _seeded(PartialConv, MAP)),
    ('inlined attention', 18, _seeded(Inlined, TOKENS)),
    ('inlined attention of one head', 18, _seeded(lambda: Inlined(1), TOKENS)),
    ('inlined attention of three projections', 18, _seeded(InlinedSeparate, TOKENS)),
    ('single head', 18, _seeded(SingleHead, TOKENS)),
    ('single head by math', 18, _seeded(SingleHeadByTensor, TOKENS)),
    ('non-local', 18, _seeded(NonLocal, MAP)),
    ('literal heads', 18, _seeded(LiteralHeads, TOKENS)),
    ('fused projections', 18, _seeded(lambda: FusedNet(12, False), TOKENS)),
    ('fused projections as wide as the stream', 18, _seeded(lambda: FusedNet(24, False), TOKENS)),
    ('fused projections with rotary positions', 18, _seeded(lambda: FusedNet(24, True), TOKENS)),
    ('two formats first', 19, _seeded(lambda: Normed(TwoFormats(12, True)), MAP)),
    ('two formats last', 19, _seeded(lambda: Normed(TwoFormats(12, False), True), MAP)),
    ('expanded norm', 19, _seeded(lambda: Normed(Expanded(12)), MAP)),
    ('normalize', 19, _seeded(lambda: Normed(ByFunction(lambda x: F.normalize(x, dim=1))), MAP)),
    ('normalize of sum', 19, _seeded(lambda: Normed(ByFunction(lambda x: F.normalize(x, 1.0, 1))), MAP)),
    *(
        (f'mean by hand in a module, {k}', 19, _seeded(lambda f=f: Normed(ByFunction(f)), MAP))
        for k, f in MEANS.items()
    ),
    ('functional norm of a child', 19, _seeded(lambda: InlinedNorm(True), TOKENS)),
    ('functional norm', 19, _seeded(lambda: InlinedNorm(False), TOKENS)),
    ('directions', 19, _seeded(Directions, TOKENS)),
    ('norm over space', 19, _seeded(SpatialNorm, MAP)),
    ('guarded', 19, _seeded(Guarded, TOKENS)),
    ('transformer', 19, _seeded(Seq2Seq, TOKENS)),
    ('width of the transformer', 19, _seeded(Translation, TOKENS)),
    ('encoder', 19, _seeded(Encoder, TOKENS)),
    *((f'cell {k.__name__}', 19, _seeded(lambda k=k: Cell(k), TOKENS)) for k in (nn.LSTMCell, nn.GRUCell, nn.RNNCell)),
    ('size of a child', 19, _seeded(ChildSize, TOKENS)),
    ('emptied piece', 22, _seeded(Emptied, TOKENS)),
]
