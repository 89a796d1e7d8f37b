"""Recurrent layers: their hidden width is a unit, and slim ones equal masked ones, in the dtype that people use."""

import pytest
import torch
from torch import nn

import dms_mm


class Net(nn.Module):
    def __init__(self, kind, options):
        super().__init__()
        self.embed = nn.Linear(5, 12)
        self.rnn = kind(12, 8, batch_first=True, **options)
        self.head = nn.Linear(16 if options.get('bidirectional') else 8, 3)

    def forward(self, x):
        y, _ = self.rnn(self.embed(x).relu())
        return self.head(y)


class Steps(nn.Module):
    """A cell that the forward calls step by step."""

    def __init__(self, kind):
        super().__init__()
        self.embed, self.cell, self.head = nn.Linear(5, 12), kind(12, 8), nn.Linear(8, 3)

    def forward(self, x):
        state = None
        for step in self.embed(x).relu().unbind(1):
            state = self.cell(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


def assert_exact(model):
    x = torch.randn(2, 4, 5)
    with torch.no_grad():
        space = dms_mm.make_searchable(model, x, verify=True)
        assert {name: u.size for name, u in space.units.items()} == {'embed': 12, list(space.units)[1]: 8}
        space.set_keep({name: u.size // 2 + 1 for name, u in space.units.items()})
        slim = space.slim().eval()
        assert not any(isinstance(b, str) and 'no rule' in b for b in space.blockers())
        torch.testing.assert_close(slim(x), model.eval()(x))
    (layer,) = (m for m in slim.modules() if isinstance(m, (nn.RNNBase, nn.RNNCellBase)))
    assert (layer.input_size, layer.hidden_size) == (7, 5)


@pytest.mark.parametrize('kind', [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize('options', [{}, dict(num_layers=2, bidirectional=True)])
def test_layers(kind, options):
    assert_exact(Net(kind, options))


@pytest.mark.parametrize('kind', [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_cells(kind):
    assert_exact(Steps(kind))
