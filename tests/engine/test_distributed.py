"""Two processes with half the batch give the structure of one with the whole batch (no batch statistics)."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import dms_mm
from builders.processes import free_port
from builders.ranks import RULES, normalise, search


def test_two_processes_equal_one(tmp_path):
    """With the top-k, and with selectors that draw."""
    port = free_port()
    search(0, 1, port, tmp_path)
    mp.spawn(search, args=(2, port, tmp_path), nprocs=2)
    for selector in RULES:
        paths = [tmp_path / f'{selector}-{n}' for n in ('1-0', '2-0', '2-1')]
        trained = [torch.load(f'{path}.pt', weights_only=True) for path in paths]
        torch.testing.assert_close(trained[1], trained[0], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(trained[2], trained[1], rtol=0, atol=0)
        one, *others = (dms_mm.Structure.load(path.with_suffix('.json')) for path in paths)
        for other in others:
            # Adam's first steps are all of one size, so which of some elements stays may hang on the last bit.
            assert [other.kept(n) for n in one.units] == [one.kept(n) for n in one.units], selector
            assert other == one or selector != 'topk'
        assert others[0] == others[1]
    # The budget on the way, too.
    passed = [dms_mm.Structure.load(tmp_path / f'topk-{n}-0.70.json') for n in ('1-0', '2-0', '2-1')]
    assert passed[0] == passed[1] == passed[2]


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
