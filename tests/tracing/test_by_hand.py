"""What a forward normalises by hand is searched where no mask makes zero what it divides by."""

import pytest
import torch
from torch import nn

import dms_mm
from builders.exact import check_exact
from builders.kinds_hand import KINDS, build


@pytest.mark.parametrize('name', KINDS)
def test_masked_and_slim_agree(name):
    model, inputs = build(name)
    wanted = KINDS[name][1]
    if wanted:
        space = check_exact(model, inputs)
        assert {unit.name: unit.size for unit in space.units.values()} == wanted
        # The rules know; nothing is left to the proof by numbers.
        assert not space.frozen
        return
    with pytest.raises(ValueError, match='nothing to search') as caught:
        dms_mm.make_searchable(model, inputs)
    assert 'zero' in str(caught.value) and 'by numbers' not in str(caught.value)


class Attention(nn.Module):
    """Attention behind a layer, with queries normalised by hand, or that says in its own words what doesn't fit."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.num_heads, self.head_dim = kind, 4, 8
        self.e, self.q, self.k, self.v, self.o, self.h = (
            nn.Linear(n, m) for n, m in [(8, 32)] + 4 * [(32, 32)] + [(32, 5)]
        )

    def forward(self, x):
        x = self.e(x)
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.kind == 'said' and self.num_heads * self.head_dim != q.shape[-1]:
            raise ValueError('heads do not fit')
        if self.kind == 'places':
            q = q * (torch.arange(q.shape[1]).to(q) / q.shape[-1] ** 0.5)[:, None]
            return self.h((q @ k.transpose(1, 2)).softmax(-1) @ v)
        q, k, v = (t.view(*t.shape[:2], self.num_heads, self.head_dim).transpose(1, 2) for t in (q, k, v))
        if self.kind == 'normed':
            q = q / q.norm(dim=-1, keepdim=True)
        y = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.h(self.o(y.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize('verify', ['numbers', 'shapes'])
@pytest.mark.parametrize(
    'kind, wanted',
    [
        ('said', {'e': 32, 'q/head': 4, 'q/head_dim': 8, 'o': 32}),
        ('normed', {'e': 32, 'q/head_dim': 8, 'o': 32}),
        ('places', {'e': 32, 'q/head_dim': 32, 'v/head_dim': 32}),
    ],
)
def test_attention_by_hand(kind, wanted, verify):
    space = check_exact(
        Attention(kind), torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0)), verify=verify
    )
    assert {unit.name: unit.size for unit in space.units.values()} == wanted and not space.frozen


def test_a_projected_lstm_keeps_its_hidden_width():
    """One whose hidden width is that of its projections would be one without, for torch."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.r, self.h = nn.LSTM(6, 8, batch_first=True, proj_size=5), nn.Linear(5, 3)

        def forward(self, x):
            return self.h(self.r(x)[0])

    space = check_exact(Net(), torch.randn(2, 4, 6))
    assert {unit.name: unit.size for unit in space.units.values()} == {'r': 5}
