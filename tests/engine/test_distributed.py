"""Two processes with half the batch give the structure of one with the whole batch (no batch statistics)."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import dms_mm
from builders.processes import free_port
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
    port = free_port()
    search(0, 1, port, tmp_path)
    mp.spawn(search, args=(2, port, tmp_path), nprocs=2)
    ratios = [torch.load(tmp_path / f'{n}.pt', weights_only=True) for n in ('1-0', '2-0', '2-1')]
    torch.testing.assert_close(ratios[1], ratios[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ratios[2], ratios[1], rtol=0, atol=0)
    assert len({(tmp_path / f'{n}.json').read_text() for n in ('1-0', '2-0', '2-1')}) == 1


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


def test_norms_on_cpu_take_the_statistics_of_all_ranks(tmp_path):
    """Batches of unequal size, six and two images: outputs, running statistics and gradients of all eight at once."""
    normalise(0, 1, None, tmp_path)
    mp.spawn(normalise, args=(2, free_port(), tmp_path), nprocs=2)
    whole, *parts = (torch.load(tmp_path / f'norm-{n}.pt', weights_only=True) for n in ('1-0', '2-0', '2-1'))
    torch.testing.assert_close(torch.cat([p['y'] for p in parts]), whole['y'])
    for key, value in whole.items():
        if key.startswith('grad'):
            torch.testing.assert_close(parts[0][key] + parts[1][key], value)
        elif key != 'y':
            torch.testing.assert_close(parts[0][key], value)
            torch.testing.assert_close(parts[1][key], value)


def test_a_model_that_synchronises_norms_is_traced_in_training_mode_too(tmp_path):
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SyncBatchNorm(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
        space = dms_mm.make_searchable(model, torch.zeros(2, 3, 8, 8))
    finally:
        dist.destroy_process_group()
    assert 'not traced' not in space.report()
    assert type(model[1]) is nn.SyncBatchNorm and len(space.units) == 1
