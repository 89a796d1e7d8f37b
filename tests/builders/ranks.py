"""What every process of a distributed test runs; in a module of its own, which spawned processes can import."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import dms_mm
from dms_mm.engine.cpu_parallel import sync_on_cpu


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, stride=2)
        self.a, self.b = nn.Conv2d(24, 32, 3, padding=1), nn.Conv2d(32, 24, 3, padding=1)
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        x = self.stem(x).relu()
        x = (x + self.b(self.a(x).relu())).relu()
        return self.head(x.mean((2, 3)))


RULES = {
    'topk': 'balanced',
    'MES': dict(type='paper', optimizer=dict(type='Adam', lr=0.05)),
    'SNS': dict(type='paper', optimizer=dict(type='RMSpropTF', lr=0.05)),
}


def search(rank, world, port, folder):
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=world)
    for selector, rule in RULES.items():
        search_with(selector, rule, rank, world, f'{folder}/{selector}-{world}-{rank}')
    if world > 1:
        dist.destroy_process_group()


def search_with(selector, rule, rank, world, path):
    torch.manual_seed(0)
    model = Net().double()
    example = torch.zeros(2, 3, 16, 16, dtype=torch.float64)
    space = dms_mm.make_searchable(model, example, selector=selector).to(torch.float64)
    finder = dms_mm.Search(space, {'macs': [0.7, 0.4] if selector == 'topk' else 0.4}, 12, rule=rule)
    torch.manual_seed(rank)  # what is drawn must not depend on it
    wrapped = DistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(1)
    for _ in range(12):
        x = torch.randn(8, 3, 16, 16, generator=generator, dtype=torch.float64)
        y = torch.randint(0, 10, (8,), generator=generator)
        mine = slice(rank * 8 // world, (rank + 1) * 8 // world)
        optimizer.zero_grad()
        (cross_entropy(wrapped(x[mine]), y[mine]) + finder.resource_loss()).backward()
        optimizer.step()
        finder.step()
        if world > 1:
            masks = [torch.empty_like(space.bank.mask) for _ in range(world)]
            dist.all_gather(masks, space.bank.mask)
            assert torch.equal(*masks), 'all ranks hold the same masks at every step'
    for name, structure in finder.passed.items():
        structure.save(f'{path}-{name}.json')
    finder.finalize().save(f'{path}.json')
    torch.save(space.bank.trained.detach(), f'{path}.pt')


def normalise(rank, world, port, folder):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.SyncBatchNorm(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.SyncBatchNorm(4))
    nn.init.uniform_(model[1].weight, 0.5, 1.5)
    model = model.double()
    if world > 1:
        dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=world)
        sync_on_cpu(model)
    x = torch.randn(8, 3, 9, 9, dtype=torch.float64)
    for _ in range(2):
        y = model(x[:2] if world > 1 and rank == 0 else x[2:] if world > 1 else x)
    y.square().mul(torch.arange(4.0).view(4, 1, 1) + 1).sum().backward()
    state = {**model.state_dict(), **{f'grad {k}': p.grad for k, p in model.named_parameters()}, 'y': y.detach()}
    torch.save(state, f'{folder}/norm-{world}-{rank}.pt')
    if world > 1:
        dist.destroy_process_group()
