"""A residual network that is searched in a second: widths, and two stages of blocks."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import dms_mm
from dms_mm.algorithms.rules.surface import Surface


class Block(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x):
        return (x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()


class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.ReLU())
        self.layer1 = nn.Sequential(*(Block(32, 48) for _ in range(3)))
        self.down = nn.Sequential(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU())
        self.layer2 = nn.Sequential(*(Block(64, 80) for _ in range(3)))
        self.head = nn.Linear(64, classes)

    def forward(self, x):
        return self.head(self.layer2(self.down(self.layer1(self.stem(x)))).mean((2, 3)))


X = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
Y = torch.arange(16) % 10


def searchable(**options):
    torch.manual_seed(0)
    return dms_mm.make_searchable(Net(), torch.zeros(2, 3, 16, 16), **options)


def train(space, search, steps, begin=0, each=lambda: None):
    """Steps of the weights and the search; ``each`` is called after every one."""
    optimizer = torch.optim.SGD(space.model.parameters(), lr=0.02)
    for i in range(begin, begin + steps):
        index = torch.arange(i, i + 8) % 16
        loss = cross_entropy(space.model(X[index]), Y[index]) + search.resource_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        search.step()
        each()


def driven(rule, noise, signal=0.0, seed=0, steps=80):
    """A search by a rule that is told ``signal`` and noise of a size in place of gradients."""
    space = searchable()
    search = dms_mm.Search(space, {'macs': 0.4}, steps, rule=rule, warmup=0.0, widths_only=0.0)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        share = Surface(search).share
        value = signal + noise * torch.randn(len(space.units), generator=generator, dtype=torch.float64)
        search.rule.step((value * share / (1 - space.bank.ratio.double()).clamp_min(0.05)).float())
        space.bank.steps += 1
        space.bank.refresh()
    return space.bank.ratio.detach().clone(), search
