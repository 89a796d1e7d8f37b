"""A small network with a layer as YOLOv8 has them: what each of its blocks gives is concatenated."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x):
        return x + self.bn(self.conv(x)).relu()


class C2f(nn.Module):
    """As in YOLOv8; ``indexed`` counts its blocks, ``normed`` normalises what it concatenates."""

    def __init__(self, width, blocks, indexed=False, normed=False):
        super().__init__()
        self.width, self.blocks, self.indexed = width, blocks, indexed
        self.main = nn.Conv2d(6, 2 * width, 1)
        self.m = nn.ModuleList(Block(width) for _ in range(blocks))
        self.norm = nn.BatchNorm2d((2 + blocks) * width) if normed else nn.Identity()
        self.final = nn.Conv2d((2 + blocks) * width, 10, 1)

    def forward(self, x):
        parts = list(self.main(x).split((self.width, self.width), 1))
        if self.indexed:
            for k in range(self.blocks):
                parts.append(self.m[k](parts[-1]))
        else:
            parts.extend(block(parts[-1]) for block in self.m)
        return self.final(self.norm(torch.cat(parts, 1)).relu())


def network(**options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), C2f(8, 3, **options), nn.ReLU(), nn.Conv2d(10, 4, 1))
    for p in model.parameters():
        nn.init.uniform_(p, -1.0, 1.5)
    return model.eval().double(), torch.randn(2, 3, 9, 9).double()
