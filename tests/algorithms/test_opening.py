"""Gates that start at nothing are found by what they do, and opened; nothing else is touched."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

import dms_mm
from dms_mm.algorithms.opening import open_branches


class Gated(nn.Module):
    """x + gate * f(x), where what starts at nothing is chosen."""

    def __init__(self, kind, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.inner, self.last = nn.Conv2d(width, 12, 3, padding=1), nn.Conv2d(12, width, 1)
        self.norm = nn.BatchNorm2d(width)
        self.position = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.head = nn.Linear(width, 4)
        nn.init.zeros_(self.head.bias)
        if kind == 'gain':
            nn.init.zeros_(self.norm.weight)
        if kind in ('last', 'both'):
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)
        scale = dict(scale=1e-6, both=1e-5, number=0.0).get(kind, 1.0)
        self.scale = nn.Parameter(torch.full(() if kind == 'number' else (width, 1, 1), scale))

    def forward(self, x):
        x = self.stem(x) + self.position
        x = x + self.norm(self.last(self.inner(x).relu())) * self.scale
        return self.head(x.mean((2, 3)))


GATES = {
    'gain': ['norm.weight'],
    'last': ['last.weight'],
    'scale': ['scale'],
    'number': ['scale'],
    'both': ['scale', 'last.weight'],
    'none': [],
}


@pytest.mark.parametrize('kind', GATES)
def test_what_closes_a_branch_is_opened_and_nothing_else(kind):
    torch.manual_seed(0)
    model = Gated(kind)
    x = torch.randn(4, 3, 8, 8)
    space = dms_mm.make_searchable(model, x)
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    assert sorted(open_branches(space, x)) == sorted(GATES[kind])
    assert torch.equal(random, torch.get_rng_state())
    after = model.state_dict()
    assert {k for k in before if not torch.equal(before[k], after[k])} == set(GATES[kind])
    assert not any(leaf.grad.any() for leaf in space.bank.leaves)
    for name in GATES[kind]:
        assert float(after[name].abs().mean()) > 0.05
    assert open_branches(space, x) == []


@pytest.mark.parametrize(
    ('build', 'count'),
    [
        (lambda: timm.create_model('resnet26', num_classes=5), 8),  # zero_init_last
        (lambda: torchvision.models.resnet18(num_classes=5), 0),
        (lambda: torchvision.models.resnet18(num_classes=5, zero_init_residual=True), 8),
        (lambda: timm.create_model('convnext_atto', num_classes=5, ls_init_value=1e-6), 12),
        (lambda: timm.create_model('vit_tiny_patch16_224', num_classes=5, img_size=32, init_values=1e-5), 24),
        (lambda: timm.create_model('mobilenetv3_small_050', num_classes=5), 0),
    ],
)
def test_models_of_libraries(build, count):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    space = dms_mm.make_searchable(build(), x, verify='shapes')
    names = open_branches(space, x)
    assert len(names) == count, names
    assert open_branches(space, x) == []
