"""Processes that score structures on their own parts of a batch choose as one does on all of it."""

import torch
import torch.multiprocessing as mp

from builders.evolving import evolve
from builders.processes import free_port


def test_two_processes_evolve_as_one(tmp_path):
    port = free_port()
    evolve(0, 1, port, tmp_path)
    mp.spawn(evolve, args=(2, port, tmp_path), nprocs=2)
    one, *two = (torch.load(tmp_path / f'evolved-{n}.pt', weights_only=True) for n in ('1-0', '2-0', '2-1'))
    assert torch.equal(two[0][0], two[1][0]) and torch.equal(one[0], two[0][0])
    assert one[1] == two[0][1] == two[1][1]
