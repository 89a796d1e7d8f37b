"""Measuring: programs run at every size and give what the model would, tables grow and go on, corrections are found."""

import importlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

import dms_mm
from builders.latency import operators_of
from builders.small import Block, searchable
from dms_mm.measuring import fitted, make_backend, measure, predicted, random_structure, slim_of, summary
from dms_mm.measuring.onnx_runtime import OnnxProgram
from dms_mm.measuring.points import points_of, sizes_of
from dms_mm.measuring.running import Runner, in_turn
from dms_mm.resources.latency import Correction, Latency, ModelTime, Table, TableError

room = importlib.import_module('dms_mm.measuring.measure')


class Many(nn.Module):
    """Functions whose numbers follow from sizes, and tensors that do not lie as they are counted."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, padding=1)
        self.grouped, self.depthwise = nn.Conv2d(16, 32, 1, groups=4), nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.norm, self.up = nn.GroupNorm(4, 32), nn.ConvTranspose2d(32, 12, 2, 2, groups=4)
        self.last, self.rms = nn.LayerNorm(12), nn.RMSNorm(12)
        self.lstm = nn.LSTM(12, 10, batch_first=True)
        self.end = nn.Linear(10, 4)

    def forward(self, x):
        x = self.up(self.norm(self.depthwise(self.grouped(self.a(x)))).clamp_(0, 6))
        x = self.rms(self.last(x.flatten(2).transpose(1, 2)))
        x = x + torch.zeros(x.shape[0], 1, 1)
        return self.end(self.lstm(x)[0].mean(1))


def many():
    torch.manual_seed(0)
    return dms_mm.make_searchable(Many().eval(), torch.rand(2, 3, 4, 4), verify=False)


def shapes_of(runner):
    return [tuple(runner.shape(dims)) for dims in runner.program.actions[-1].results]


@torch.no_grad()
@pytest.mark.parametrize('backend', ['eager', 'compile'])
def test_programs_run_at_every_size_and_give_the_shapes_that_were_traced(backend):
    ran = set()
    for space in (many(), searchable()):
        for operator in operators_of(space, backend).found:
            program = operator.program
            grid = sizes_of(operator, space, 3, 8)
            assert tuple(program.sizes) in grid
            for sizes, batch in zip(grid, itertools.cycle((1, 3))):
                runner = Runner(program, sizes, batch, 'cpu')
                out = runner.bound()()
                results = out if isinstance(out, tuple) else [out]
                assert tuple(results[0].shape) == shapes_of(runner)[0], (program.told(), sizes)
            ran.update(action.name for action in program.actions)
    assert {'conv2d', 'conv_transpose2d', 'group_norm', 'layer_norm', 'rms_norm', 'lstm', 'clamp_', 'zeros'} <= ran


@torch.no_grad()
def test_onnx_runtime_runs_programs_at_other_sizes_by_their_own_numbers():
    operators = {o.digest: o.program for o in operators_of(searchable(), 'onnxruntime').found}
    fused = [p for p in operators.values() if len(p.actions) == 3][:1]
    make, calls = OnnxProgram('cpu', 1), []
    for sizes in (fused[0].sizes, [7, 30][: len(fused[0].sizes)], [1, 1][: len(fused[0].sizes)]):
        runner = Runner(fused[0], sizes, 2, 'cpu')
        first = make.first
        call = make(runner)
        assert first is None or make.first is first
        (found,) = call().copy_outputs_to_cpu()
        np.testing.assert_allclose(found, runner.bound()().numpy(), rtol=1e-4, atol=1e-4)
        calls.append(call)
    assert len(calls) == 3


@pytest.mark.slow
@torch.no_grad()
def test_torch_compile_runs_programs_at_other_sizes():
    program = next(o.program for o in operators_of(searchable(), 'compile').found if len(o.program.actions) == 3)
    make = make_backend('compile', 'cpu', 2, 1).program(program)
    for sizes in (program.sizes, [5, 9][: len(program.sizes)]):
        assert tuple(make(sizes)().shape) == shapes_of(Runner(program, sizes, 2, 'cpu'))[0]


@pytest.mark.parametrize('size', [1, 2, 7, 15, 16, 40, 64, 192, 1280])
def test_points_grow_from_the_fewest_to_all_and_stay_on_the_grid(size):
    for most, multiple, step in itertools.product((2, 5, 7, 14), (8, 32), (1, 4, 6)):
        found = points_of(size, most, multiple, step)
        assert found == sorted(set(found)) and found[-1] == size and found[0] == min(step, size)
        assert len(found) <= max(most, 2) and all(n % step == 0 for n in found[:-1])
    if size >= 64:
        # On both sides of multiples; and on these alone where nothing else is kept.
        assert {n % 8 for n in points_of(size, 14, 8)[:-1]} == {1, 7}
        assert {n % 8 for n in points_of(size, 8, 8, 8)} == {0}


def test_joint_sizes_follow_from_their_units_and_make_a_grid():
    torch.manual_seed(0)
    vit = timm.create_model('vit_tiny_patch16_224', img_size=32, depth=1, num_classes=7)
    space = dms_mm.make_searchable(vit, torch.rand(2, 3, 32, 32), verify=False)
    tried = 0
    for operator in operators_of(space).found:
        program = operator.program
        if not program.joint:
            continue
        found = [tuple(program.coordinates(sizes)) for sizes in sizes_of(operator, space, 4, 8)]
        lines = [sorted({point[axis] for point in found}) for axis in range(len(operator.coordinates))]
        assert sorted(found) == list(itertools.product(*lines)) and len(lines[-1]) >= 3
        assert tuple(line[-1] for line in lines) == tuple(program.coordinates(program.sizes))
        tried += 1
    assert tried


def tiny():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), Block(8, 6), Block(8, 6), nn.Flatten(), nn.Linear(8 * 4, 5))
    return dms_mm.make_searchable(model, torch.rand(2, 3, 4, 4), verify=False)


SHORT = dict(points=3, models=3, patience=1e-4, threads=1)


def test_a_measurement_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    path, space = tmp_path / 'table.json', tiny()
    example = torch.rand(2, 3, 4, 4)
    times_of, measured = room.times_of, []

    def failing(operator, *args):
        measured.append(operator.digest)
        if len(measured) == 4:
            raise KeyboardInterrupt
        return times_of(operator, *args)

    monkeypatch.setattr(room, 'times_of', failing)
    with pytest.raises(KeyboardInterrupt):
        measure(space, example, path, **SHORT)
    before = Table.load(path)
    assert list(before.operators) == measured[:3] and before.correction is None
    table = measure(space, example, path, **SHORT)
    assert len(measured) == len(set(measured)) + 1  # what was interrupted, and nothing else, is measured anew
    assert {digest: table.operators[digest] for digest in before.operators} == before.operators
    assert table == Table.load(path) and not list(tmp_path.glob('.*'))
    assert set(table.operators) == {o.digest: 0 for o in operators_of(space).found}.keys()
    assert not any(times.note for times in table.operators.values()) and len(table.models) == 3
    more = measure(space, example, path, **{**SHORT, 'models': 4})
    assert more.models[:3] == table.models and len(more.models) == 4
    space.add_resource('latency', dict(type='Latency', table=str(path)))
    assert space.supernet['latency'] > 0
    for wrong, message in ((dict(batch=2), 'measured with batch 1, not 2'), (dict(model='x'), "not 'x'")):
        with pytest.raises(TableError, match=message):
            measure(space, example, path, **{**SHORT, **wrong})
    with pytest.raises(TableError, match='has operators that this model has not'):
        measure(searchable(), example, path, **SHORT, model=table.model)


def test_what_can_not_be_run_by_itself_is_told_and_counts_by_whole_models(tmp_path, monkeypatch):
    from dms_mm.measuring import running

    found = running.function_of
    monkeypatch.setattr(running, 'function_of', lambda name: None if name.endswith('linear') else found(name))
    space = tiny()
    table = measure(space, torch.rand(2, 3, 4, 4), tmp_path / 'table.json', **SHORT)
    (note,) = [times for times in table.operators.values() if times.note]
    assert note.name.startswith('linear') and 'no function torch.nn.functional.linear' in note.note
    assert Latency(space.counters.context, table).parts(*ones_of(space))[1] == len(space.plan.trace.steps)


def ones_of(space):
    masks = torch.ones(len(space.bank.segment), dtype=torch.float64)
    return torch.tensor(space.bank.sizes, dtype=torch.float64), masks


@pytest.mark.parametrize('fewest', [1, 5, 40])
def test_sizes_that_a_function_refuses_take_what_the_next_larger_ones_do(fewest):
    class Refusing:
        device = 'cpu'

        def program(self, program, copies):
            return lambda sizes: sizes

        def seconds(self, sizes, patience):
            if min(sizes) < fewest:
                raise ValueError('too small')
            return [float(sum(sizes))]

    space = searchable()
    operator = next(o for o in operators_of(space).found if o.program.sizes == [32, 48])
    times = room.times_of(operator, space, Refusing(), 7, 0.0, 0.0)
    if fewest > 32:
        assert times.note == 'ValueError: too small' and not times.seconds
        return
    for place, seconds in zip(itertools.product(*times.points), times.seconds, strict=True):
        assert seconds == sum(place) and min(place) >= fewest


def test_a_correction_is_found_again_and_never_negative():
    generator = np.random.default_rng(0)
    true = Correction(offset=2e-4, launch=3e-6, factors=dict(product=1.4, other=0.7))
    models = []
    for _ in range(40):
        parts = dict(zip(('product', 'other'), generator.uniform(1e-4, 4e-3, 2).tolist()))
        launches = float(generator.integers(20, 200))
        models.append(ModelTime(parts=parts, launches=launches, seconds=predicted(true, parts, launches), spread=0.0))
    found = fitted(models)
    assert found.error < 0.02
    assert found.factors['product'] == pytest.approx(1.4, rel=0.05)
    # Times that fall where the sums grow ask for negative numbers, and get none.
    twisted = [m.model_copy(update=dict(seconds=1e-6 / m.seconds)) for m in models]
    found = fitted(twisted)
    assert min(found.offset, found.launch) >= 0 and min(found.factors.values()) >= 0.1
    assert fitted([]) == Correction()


def test_random_structures_are_within_bounds_and_leave_the_space_as_it_is():
    space = searchable(units={'layer1.*.conv1': dict(round_to=8, tie='inner')})
    before = {name: x.clone() for name, x in space.bank.state_dict().items()}
    counts = []
    for seed in range(8):
        keep = random_structure(space, seed)
        assert torch.equal(keep, random_structure(space, seed))
        slim = slim_of(space, keep)
        counts.append(sum(p.numel() for p in slim.parameters()))
        space.check_keep(keep)
    assert len(set(counts)) == 8 and max(counts) > 3 * min(counts)
    after = space.bank.state_dict()
    assert all(torch.equal(after[name], x) for name, x in before.items())


def test_calls_take_turns_and_times_are_summed_up():
    seen = []
    call = in_turn([lambda k=k: seen.append(k) for k in range(3)])
    for _ in range(7):
        call()
    assert seen == [0, 1, 2, 0, 1, 2, 0]
    median, spread = summary([1.0, 2.0, 3.0, 4.0, 5.0], overhead=0.5)
    assert median == 2.5 and spread == pytest.approx(2 / 3)
    assert summary([1.0], overhead=2.0)[0] == 0


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('jit', 'cpu', 1, 1), "backend 'jit'"),
        (('eager', 'tpu', 1, 1), "device 'tpu'"),
        (('eager', 'cpu', 1, 2, 'cpu'), "clock 'cpu'"),
    ],
)
def test_what_is_not_there_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_backend(*options)


@pytest.mark.slow
def test_the_command_takes_the_config_of_a_search_whose_table_is_not_there_yet(tmp_path, capsys):
    from dms_mm.cli.measure import main

    path = tmp_path / 'table.json'
    config = Path(__file__).parents[2] / 'configs/demo/search.py'
    args = [str(config), '--out', str(path), '--threads', '1', '--points', '2', '--models', '2', '--patience', '0.0001']
    named = ['model.space.resources.latency.type=Latency', f'model.space.resources.latency.table={path}']
    assert main([*args, '--cfg-options', *named]) == 0, capsys.readouterr().err
    assert Table.load(path).model == str(config)


def test_the_command_writes_a_table_and_tells_of_it(tmp_path, capsys):
    from dms_mm.cli.measure import main

    path = tmp_path / 'table.json'
    args = ['timm/test_resnet', '--out', str(path), '--input-shape', '3', '32', '32', '--threads', '1']
    assert main([*args, '--points', '2', '--models', '2', '--patience', '0.0001']) == 0
    out = capsys.readouterr().out
    table = json.loads(path.read_text())
    assert table['model'] == 'timm/test_resnet' and str(path) in out and '2 slim models' in out
    assert main([*args, '--batch', '0']) == 2 and '--batch 0' in capsys.readouterr().err
    assert main([*args, '--batch', '4']) == 2 and 'was measured with batch 1, not 4' in capsys.readouterr().err
