"""Latency from a table: what it counts is what the slim model runs, it never falls, and a search meets it."""

import dataclasses
import json

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

import dms_mm
from builders.latency import bilinear, operators_of, table_of
from builders.small import Net, searchable, train
from builders.structures import harden_randomly
from dms_mm.registry import MODELS, register_all
from dms_mm.resources.latency import Correction, Latency, Table, TableError, size_of
from dms_mm.resources.latency.grid import Grids, monotone


class Mixed(nn.Module):
    """Concatenation, grouped and depthwise convolutions, in-place activations, a gate, attention, a flattened end."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(3, 8, 1)
        self.norm = nn.GroupNorm(4, 20)
        self.depthwise = nn.Conv2d(20, 20, 3, padding=1, groups=20, bias=False)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(20, 6, 1), nn.ReLU(True), nn.Conv2d(6, 20, 1))
        self.up = nn.ConvTranspose2d(20, 10, 2, stride=2)
        self.rows = nn.Linear(10, 16)
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)
        self.end = nn.Linear(16 * 4, 5)

    def forward(self, x):
        x = torch.cat([self.a(x), self.b(x).relu_()], 1)
        x = self.depthwise(self.norm(x))
        x = x * self.gate(x).sigmoid()
        x = nn.functional.max_pool2d(self.up(x), 4)
        x = self.rows(x.flatten(2).transpose(1, 2))
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.end((x + self.proj(y.transpose(1, 2).flatten(2))).flatten(1))


MODELS_TRIED = {
    'small': (Net, (3, 16, 16)),
    'mixed': (Mixed, (3, 4, 4)),
    'mobilenet': (lambda: timm.create_model('mobilenetv3_small_050', num_classes=7), (3, 32, 32)),
    'vit': (lambda: timm.create_model('vit_tiny_patch16_224', img_size=32, depth=2, num_classes=7), (3, 32, 32)),
}


def space_of(name, **options):
    torch.manual_seed(0)
    build, shape = MODELS_TRIED[name]
    return dms_mm.make_searchable(build().eval(), torch.rand(2, *shape), verify='shapes', **options)


def sizes_in(program, slim):
    """The sizes that the variables of a program have in the slim model's, which has its own or none in their places."""
    sizes = {}
    shapes = [[size_of(d, slim.sizes, 1) for d in dims] for dims in slim.tensors()]
    for dims, shape in zip(program.tensors(), shapes, strict=True):
        for dim, size in zip(dims, shape, strict=True):
            if isinstance(dim, list) and dim[0] != 'b':
                assert sizes.setdefault(dim[1], size) == size
            else:
                assert size_of(dim, [], 1) == size
    return [sizes[v] for v in range(len(program.sizes))]


@pytest.mark.parametrize(
    ('name', 'backend'),
    [('small', 'eager'), ('mixed', 'eager'), ('mixed', 'onnxruntime'), ('mobilenet', 'compile'), ('vit', 'eager')],
)
def test_it_counts_what_the_slim_model_runs(name, backend):
    """The sum over operators of a structure is that over the functions which the slim model itself calls."""
    space = space_of(name)
    space.add_resource('latency', dict(type=Latency, table=table_of(space, backend=backend)))
    operators = operators_of(space, backend)
    for seed in range(2):
        harden_randomly(space, seed)
        # One head alone lies as its rows do: what puts heads side by side has nothing to copy then.
        space.set_keep({unit.name: 2 for unit in space.units.values() if unit.kind == 'head'})
        gone = tuple(f'{path}.' for path in space.structure().removed)
        slim = dms_mm.make_searchable(space.slim(), torch.rand(2, *MODELS_TRIED[name][1]), verify=False)
        alive = [o.program for o in operators.found if not f'{o.module}.'.startswith(gone or ('-',))]
        ran = [o.program for o in operators_of(slim, backend).found]
        wanted = sum(bilinear(p, p.coordinates(sizes_in(p, q))) for p, q in zip(alive, ran, strict=True))
        assert space.resources()['latency'] == pytest.approx(wanted, rel=1e-9)


def test_steps_are_what_a_device_runs_and_keep_no_tensor():
    space = space_of('mixed')
    steps = space.plan.trace.steps
    names = [step.function.rpartition('.')[2] for step in steps]
    assert 'scaled_dot_product_attention' in names and names.count('group_norm') == 1
    by_name = dict(zip(names, steps))
    assert not by_name['relu_'].view and by_name['transpose'].view and by_name['unbind'].view
    seen, todo = set(), list(steps)
    while todo:
        value = todo.pop()
        assert not isinstance(value, Tensor)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if dataclasses.is_dataclass(value):
            todo += vars(value).values()
        elif isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, (list, tuple)):
            todo += value


@pytest.mark.parametrize('batch', [3, 5])
def test_operators_are_the_same_for_every_batch_that_is_traced(batch):
    build, shape = MODELS_TRIED['vit']
    spaces = [dms_mm.make_searchable(build(), torch.rand(n, *shape), verify=False) for n in (2, batch)]
    assert len({tuple(o.digest for o in operators_of(space).found) for space in spaces}) == 1


def noisy(seed=0):
    generator = np.random.default_rng(seed)
    return lambda program, point: bilinear(program, point) * float(generator.uniform(0.2, 2))


def test_it_never_falls_and_its_derivative_is_right():
    space = searchable()
    resource = Latency(space.counters.context, table_of(space, noisy()))
    bank, generator = space.bank, torch.Generator().manual_seed(1)
    sizes = torch.tensor(bank.sizes, dtype=torch.float64)
    for _ in range(20):
        share, more = (torch.rand(len(sizes), generator=generator, dtype=torch.float64) for _ in range(2))
        masks, larger = share[bank.segment], torch.maximum(share, more)[bank.segment]
        low = resource.value(share * sizes, masks)
        assert resource.value(torch.maximum(share, more) * sizes, larger) >= low > 0
    kept = (share * sizes).requires_grad_()
    masks.requires_grad_()
    assert torch.autograd.gradcheck(resource.value, (kept, masks))
    for grad in torch.autograd.grad(resource.value(kept, masks), (kept, masks)):
        assert (grad >= 0).all() and (grad > 0).any()


def test_a_block_takes_its_latency_along():
    space = searchable()
    space.add_resource('latency', dict(type=Latency, table=table_of(space)))
    full = space.supernet['latency']
    inside = [o for o in operators_of(space).found if o.module.startswith('layer1.1')]
    assert {o.program.actions[0].name for o in inside} == {'conv2d', 'batch_norm', 'relu', 'add'}
    space.set_keep({'layer1/depth': [True, False, True]})
    gone = sum(bilinear(o.program, o.program.coordinates(o.program.sizes)) for o in inside)
    assert space.resources()['latency'] == pytest.approx(full - gone, rel=1e-9)


def test_whole_models_correct_what_adds_up():
    space = searchable()
    correction = Correction(offset=1e-4, launch=1e-6, factors=dict(product=2.0, other=0.5))
    table = table_of(space)
    bare = Latency(space.counters.context, table)
    right = Latency(space.counters.context, table.model_copy(update=dict(correction=correction)))
    ones = torch.ones(len(space.bank.segment), dtype=torch.float64)
    sizes = torch.tensor(space.bank.sizes, dtype=torch.float64)
    parts, launches = bare.parts(sizes, ones)
    assert launches == len(space.plan.trace.steps)
    assert float(bare.value(sizes, ones)) == pytest.approx(float(parts.sum()))
    assert float(right.value(sizes, ones)) == pytest.approx(float(1e-4 + 1e-6 * launches + 2 * parts[0] + parts[2] / 2))


def test_tables_of_one_and_two_axes_are_met_at_their_points_and_between():
    table = np.array([[1.0, 2.0, 4.0], [3.0, 5.0, 9.0]])
    grids = Grids([[[1, 8], [2, 4, 6]], [[1, 3, 9]], []], [table, np.array([1.0, 2.0, 8.0]), np.array(7.0)])
    at = lambda x, y: grids(torch.tensor(x).double(), torch.tensor(y).double()).tolist()  # noqa: E731
    for i, x in enumerate((1, 8)):
        for j, y in enumerate((2, 4, 6)):
            assert at([x, 3, 1], [y, 1, 1]) == [table[i, j], 2.0, 7.0]
    assert at([4.5, 6, 5], [5, 1, 1]) == [(2 + 4 + 5 + 9) / 4, 5.0, 7.0]
    assert at([0, 0, 0], [0, 0, 0]) == [1.0, 1.0, 7.0] and at([99, 99, 99], [99, 99, 99]) == [9.0, 8.0, 7.0]


@pytest.mark.parametrize('shape', [(6,), (4, 5)])
def test_a_table_is_made_monotone_and_one_that_is_stays(shape):
    generator = np.random.default_rng(0)
    for _ in range(20):
        values = generator.uniform(1, 2, shape)
        found = monotone(values)
        assert all((np.diff(found, axis=axis) >= 0).all() for axis in range(len(shape)))
        assert (found >= values).all() and found.max() == values.max()
        np.testing.assert_array_equal(monotone(found), found)


@pytest.mark.parametrize('rule', ['balanced', 'paper'])
def test_a_search_meets_a_latency(rule, tmp_path):
    path = tmp_path / 'table.json'
    table_of(searchable(), noisy(3), correction=Correction(offset=1e-5, launch=1e-7)).save(path)
    space = searchable(resources=dict(latency=dict(type='Latency', table=str(path))))
    full = space.supernet['latency']
    search = dms_mm.Search(space, dict(latency=0.5), 6, rule=rule)
    train(space, search, 6)
    found = search.finalize().resources['latency']
    assert 0.99 * 0.5 * full <= found <= 0.5 * full and found == space.resources()['latency']


@pytest.mark.parametrize('target', [{'latency': 0.6}, {'latency': 0.6, 'macs': 0.5}])
def test_a_plateau_stops_no_search(target):
    """Where the last channels cost nothing, nothing tells them apart, and nothing is divided by."""
    space = searchable(verify='shapes')
    space.add_resource(
        'latency',
        dict(type='Latency', table=table_of(space, lambda p, at: 1e-4 * min(sum(at) / sum(p.sizes or [1]), 0.5))),
    )
    search = dms_mm.Search(space, target, 20)
    train(space, search, 20)
    assert bool(space.bank.ratio.isfinite().all()) and bool(search.rule.seen.told()[0].isfinite().all())
    assert all(search.finalize().resources[name] <= goal for name, goal in search.targets.items())


def test_a_table_of_a_deeper_model_is_refused():
    """It has all operators, but in other numbers: what whole models correct is not this one's."""

    class Deep(nn.Module):
        def __init__(self, depth):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, 8), *(nn.Linear(8, 8) for _ in range(depth)))

        def forward(self, x):
            return self.layers(x)

    spaces = [dms_mm.make_searchable(Deep(depth), torch.zeros(2, 3), verify='shapes') for depth in (3, 5)]
    assert {o.digest for o in operators_of(spaces[0]).found} <= {o.digest for o in operators_of(spaces[1]).found}
    with pytest.raises(TableError, match='in other numbers'):
        spaces[0].add_resource('latency', dict(type='Latency', table=table_of(spaces[1])))


def test_a_config_names_the_table(tmp_path):
    register_all()
    config = dict(
        type='DMS',
        architecture=dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='mmpretrain.ResNet_CIFAR', depth=18),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=8, in_channels=512),
        ),
        input_shape=(3, 16, 16),
        space=dict(verify='shapes'),
    )
    path = tmp_path / 'table.json'
    table_of(MODELS.build(dict(config, target=dict(macs=0.5))).space).save(path)
    resources = dict(latency=dict(type='Latency', table=str(path), backend='eager'))
    model = MODELS.build(dict(config, target=dict(latency=0.5), space=dict(verify='shapes', resources=resources)))
    assert model.search.targets == dict(latency=0.5 * model.space.supernet['latency'])


def test_a_table_for_something_else_is_refused(tmp_path):
    space = searchable()
    table = table_of(space)
    path = tmp_path / 'table.json'
    table.save(path)
    assert Table.load(path) == table
    other = dms_mm.make_searchable(Mixed(), torch.rand(2, 3, 4, 4), verify='shapes')
    with pytest.raises(TableError, match=r'a model, eager on a machine.*lacks \d+ of the \d+ operators.* measure'):
        other.add_resource('latency', dict(type='Latency', table=str(path)))
    for option, message in (
        (dict(backend='compile'), "is for backend 'eager', not 'compile'"),
        (dict(device='cuda'), "is for device 'cpu', not 'cuda'"),
        (dict(batch=16), 'is for batch 1, not 16'),
        (dict(threads=4), 'is for threads 1, not 4'),
    ):
        with pytest.raises(TableError, match=message):
            space.add_resource('latency', dict(type='Latency', table=str(path), **option))
    table.model_copy(update=dict(correction=None)).save(path)
    with pytest.raises(TableError, match='is not finished; go on with `dms measure`'):
        space.add_resource('latency', dict(type='Latency', table=str(path)))


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (None, 'No such file.* makes one'),
        (lambda c: 'no json', 'is no JSON'),
        (lambda c: '[]', 'not a file of `dms measure`'),
        (lambda c: json.dumps({**c, 'format': 'x'}), 'not a file of `dms measure`'),
        (lambda c: json.dumps({**c, 'version': 9}), 'version 9, this release reads 1'),
        (lambda c: json.dumps({**c, 'batch': 0}), 'batch: .*greater than or equal to 1'),
        (lambda c: json.dumps({**c, 'wat': 0}), 'wat: Extra inputs'),
        (lambda c: json.dumps({**c, 'models': [dict(parts={}, launches=1.0, seconds=-1.0, spread=0.0)]}), 'seconds'),
        (lambda c: spoiled(c, points=[[2.0, 1.0]]), 'points do not grow'),
        (lambda c: spoiled(c, seconds=[1.0] * 40), '40 seconds for'),
        (lambda c: spoiled(c, spread=[]), 'not a spread for every median'),
    ],
)
def test_a_damaged_table_names_the_field(spoil, message, tmp_path):
    path = tmp_path / 'table.json'
    if spoil is not None:
        path.write_text(spoil(table_of(searchable()).model_dump()))
    with pytest.raises(TableError, match=message) as caught:
        Table.load(path)
    assert str(path) in str(caught.value)


def spoiled(content, **fields):
    next(iter(content['operators'].values())).update(fields)
    return json.dumps(content)
