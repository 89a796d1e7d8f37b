"""The smallest networks on which masks, and what they are folded into, have gone wrong."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torch.nn.utils.prune import l1_unstructured


class OffsetNorm(nn.Module):
    """RMSNorm that stores its gain minus one, as Gemma's."""

    def __init__(self, size):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.zeros(size)), 1e-6

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * (1 + self.weight)


class GainNorm(nn.Module):
    """RMSNorm whose gain is a function of what it stores."""

    def __init__(self, size, gain):
        super().__init__()
        self.weight, self.eps, self.gain = nn.Parameter(torch.zeros(size)), 1e-6, gain

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.gain(self.weight)


class OffsetLayerNorm(nn.Module):
    """The same with a mean and a bias, of which the gain is ``gamma + 1``."""

    def __init__(self, size):
        super().__init__()
        self.gamma, self.beta, self.eps = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size)), 1e-5

    def forward(self, x):
        return F.layer_norm(x, x.shape[-1:], self.gamma + 1, self.beta, self.eps)


class NormedAttention(nn.Module):
    """Attention whose queries and keys go through norms over the head dim."""

    def __init__(self, width, heads, norm):
        super().__init__()
        self.heads, self.dim = heads, width // heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.q_norm, self.k_norm = norm(self.dim), norm(self.dim)

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (-1, self.dim)).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = self.q_norm(q) @ self.k_norm(k).mT * 0.5
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class AttentionBlock(nn.Module):
    def __init__(self, norm, width=16, post=False):
        super().__init__()
        self.norm, self.attn = norm(width), NormedAttention(width, 4, norm)
        self.post = norm(width) if post else nn.Identity()

    def forward(self, x):
        return x + self.post(self.attn(self.norm(x)))


class Residual(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.body(x)


class Positive(nn.Linear):
    """A layer whose weights are a function of what it stores."""

    def __init__(self, *sizes, of=torch.exp):
        super().__init__(*sizes)
        self.of = of

    def forward(self, x):
        return F.linear(x, self.of(self.weight), self.bias)


class Recurrent(nn.Module):
    def __init__(self, layer, before=True):
        super().__init__()
        self.before = nn.Linear(6, 12) if before else nn.Identity()
        self.rnn = layer(12 if before else 6, 10, batch_first=True)
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        return self.head(self.rnn(self.before(x).relu())[0])


class Keeps(nn.Module):
    """A model that keeps what it last computed, in a list as well."""

    def __init__(self):
        super().__init__()
        self.body, self.head, self.seen = nn.Linear(6, 12), nn.Linear(12, 3), []
        self.last = None

    def forward(self, x):
        self.last = self.body(x).relu()
        self.seen[:] = [{'last': self.last}]
        return self.head(self.last)


class Mixed(nn.Module):
    """Every way in which masks reach a model: folds, weighted norms, output masks, a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(6, 16)
        self.place = nn.Parameter(torch.randn(1, 5, 16))
        self.blocks = nn.Sequential(*(AttentionBlock(nn.LayerNorm) for _ in range(2)))
        self.tail = nn.Sequential(
            *(Residual(nn.Linear(16, 20), nn.ReLU(), weight_norm(nn.Linear(20, 16))) for _ in '12')
        )
        self.rnn = nn.GRU(16, 10, batch_first=True)
        self.norm, self.head = nn.LayerNorm(10), nn.Linear(10, 3)

    def forward(self, x):
        x = self.tail(self.blocks(self.stem(x) + self.place).relu())
        return self.head(self.norm(self.rnn(x)[0]))


def sequence(*layers):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), *layers, nn.Linear(16, 3)), torch.randn(2, 5, 6)


def attention(norm, post=False):
    return lambda: sequence(*(AttentionBlock(norm, post=post) for _ in range(2)))


def gain(function):
    return lambda size: GainNorm(size, function)


def rectified(*last):
    """Blocks that end in what ``last`` makes, with rectified inputs, as depth search likes them."""
    return lambda: sequence(*(Residual(nn.Linear(16, 20), nn.ReLU(), *(make() for make in last)) for _ in range(3)))


def spatial(last):
    def make():
        torch.manual_seed(0)
        blocks = [Residual(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), last()) for _ in range(3)]
        return nn.Sequential(nn.Conv2d(3, 8, 1), *blocks, nn.Conv2d(8, 4, 1)), torch.randn(2, 3, 7, 7)

    return make


def positive(function):
    def make():
        torch.manual_seed(0)
        layers = [nn.Linear(6, 16), nn.Tanh(), Positive(16, 12, of=function), nn.ReLU(), Positive(12, 8, of=function)]
        return nn.Sequential(*layers, nn.Linear(8, 3)), torch.randn(2, 6)

    return make


def one(make, *shape):
    def build():
        torch.manual_seed(0)
        return make(), torch.randn(*shape)

    return build


def pruned(layer):
    return l1_unstructured(layer, 'weight', amount=0.3)


def normed_in_place(weight):
    copied = weight.clone()
    copied /= copied.norm(dim=1, keepdim=True)
    return copied


KINDS = [
    ('gain minus one on queries and keys', 6, attention(OffsetNorm)),
    ('gain minus one behind a branch', 6, attention(OffsetNorm, post=True)),
    ('gain minus one, with a bias', 6, attention(OffsetLayerNorm, post=True)),
    ('exponential gain', 6, attention(gain(torch.exp), post=True)),
    ('gain by a sigmoid', 6, attention(gain(torch.sigmoid), post=True)),
    ('gain by a softplus', 6, attention(gain(F.softplus), post=True)),
    ('two minus the stored gain', 6, attention(gain(lambda w: 2 - w), post=True)),
    ('exponential weights', 6, positive(torch.exp)),
    ('softplus weights', 6, positive(F.softplus)),
    ('weights by a sigmoid', 6, positive(torch.sigmoid)),
    ('weights plus one', 6, positive(lambda w: 1 + w)),
    ('a branch ends in weight_norm', 7, rectified(lambda: weight_norm(nn.Linear(20, 16)))),
    ('... in weight_norm without a bias', 7, rectified(lambda: weight_norm(nn.Linear(20, 16, bias=False)))),
    ('... in weight_norm of the whole', 7, rectified(lambda: weight_norm(nn.Linear(20, 16), dim=None))),
    ('... in a convolution with weight_norm', 7, spatial(lambda: weight_norm(nn.Conv2d(12, 8, 3, padding=1)))),
    ('... in parametrized weight_norm', 7, rectified(lambda: parametrizations.weight_norm(nn.Linear(20, 16)))),
    ('... in the same for a convolution', 7, spatial(lambda: parametrizations.weight_norm(nn.Conv2d(12, 8, 1)))),
    ('... in spectral_norm', 7, rectified(lambda: spectral_norm(nn.Linear(20, 16)))),
    ('... in parametrized spectral_norm', 7, rectified(lambda: parametrizations.spectral_norm(nn.Linear(20, 16)))),
    ('... in an orthogonal layer', 7, rectified(lambda: parametrizations.orthogonal(nn.Linear(20, 16)))),
    ('... in a pruned layer', 7, rectified(lambda: pruned(nn.Linear(20, 16)))),
    ('... in exponential weights', 7, rectified(lambda: Positive(20, 16))),
    ('... in weights that are normed in place', 7, rectified(lambda: Positive(20, 16, of=normed_in_place))),
    (
        '... in weights that are normed by hand',
        7,
        rectified(lambda: Positive(20, 16, of=lambda w: w / w.norm(dim=1, keepdim=True))),
    ),
    ('two norms of one class', 6, lambda: sequence(AttentionBlock(gain(torch.exp)), AttentionBlock(gain(F.softplus)))),
    ('... in weight_norm and a norm', 7, rectified(lambda: weight_norm(nn.Linear(20, 16)), lambda: nn.LayerNorm(16))),
    ('every kind of mask', 8, one(Mixed, 2, 5, 6)),
    ('a model that keeps its activations', 15, one(Keeps, 2, 6)),
    ('an LSTM', 15, one(lambda: Recurrent(nn.LSTM), 2, 5, 6)),
    ('a GRU', 15, one(lambda: Recurrent(nn.GRU), 2, 5, 6)),
    ('an RNN', 15, one(lambda: Recurrent(nn.RNN), 2, 5, 6)),
]
