"""What every process of a distributed evolution runs; in a module of its own, which spawned processes can import."""

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy

import dms_mm
from builders.ranks import Net
from dms_mm.algorithms.strategies import Budget, Evolution, SupernetJudge, Task


def evolve(rank, world, port, folder):
    """Evolution over held-out images of which every process has its part."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=world)
    torch.manual_seed(0)
    space = dms_mm.make_searchable(Net(), torch.zeros(2, 3, 16, 16))
    space.model.double()
    space.to(torch.float64)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8, 3, 16, 16, generator=generator, dtype=torch.float64)
    mine = slice(rank * 8 // world, (rank + 1) * 8 // world)
    batch = x[mine], (torch.arange(8) % 10)[mine]
    budget = Budget()
    evolution = Evolution(SupernetJudge(batches=1), population=4, parents=2, evaluations=12, order='taylor', batches=1)
    task = Task([batch], [batch], lambda model, batch: cross_entropy(model(batch[0]), batch[1]))
    keep = evolution.search(space, {'macs': 0.4}, task, budget)
    torch.save((keep, budget.cost.macs), f'{folder}/evolved-{world}-{rank}.pt')
    if world > 1:
        dist.destroy_process_group()
