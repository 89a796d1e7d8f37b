"""Two processes with half the batch give the structure of one with the whole batch (no batch statistics)."""

import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import dms_mm


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


def search(rank, world, port, folder):
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=world)
    torch.manual_seed(0)
    model = Net().double()
    space = dms_mm.make_searchable(model, torch.zeros(2, 3, 16, 16, dtype=torch.float64)).to(torch.float64)
    finder = dms_mm.Search(space, {'macs': 0.4}, 12)
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
    finder.finalize().save(f'{folder}/{world}-{rank}.json')
    torch.save(space.bank.ratio.detach(), f'{folder}/{world}-{rank}.pt')
    if world > 1:
        dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    search(0, 1, port, tmp_path)
    mp.spawn(search, args=(2, port, tmp_path), nprocs=2)
    ratios = [torch.load(tmp_path / f'{n}.pt', weights_only=True) for n in ('1-0', '2-0', '2-1')]
    torch.testing.assert_close(ratios[1], ratios[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ratios[2], ratios[1], rtol=0, atol=0)
    assert len({(tmp_path / f'{n}.json').read_text() for n in ('1-0', '2-0', '2-1')}) == 1
