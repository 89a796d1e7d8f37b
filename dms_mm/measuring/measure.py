"""From a search space to a table of latencies (`dms measure`)."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..progress import Progress
from ..resources.latency import (
    Backend,
    Latency,
    ModelTime,
    Operator,
    OperatorTimes,
    Program,
    Table,
    TableError,
    find_operators,
    size_of,
)  # fmt: skip
from ..space import SearchSpace
from .backends import Call, Eager, device_name, make_backend
from .models import fitted, parts_of, random_structure, slim_of
from .points import sizes_of
from .timing import summary

MULTIPLE = {'cpu': 8, 'cuda': 32}
ASIDE = 1 << 20  # seeds of the models for the correction begin here; those from 0 on are for whoever checks it


def _plain_call(model: nn.Module, x: Tensor) -> Any:
    return model(x)


def measure(
    space: SearchSpace,
    example: Tensor,
    out: str | os.PathLike[str],
    *,
    model: str = '',
    backend: Backend = 'eager',
    device: str = 'cpu',
    batch: int = 1,
    threads: int | None = None,
    clock: Literal['wall', 'cpu'] = 'wall',
    points: int = 7,
    models: int = 12,
    patience: float = 0.02,
    forward: Callable[[nn.Module, Tensor], Any] = _plain_call,
) -> Table:
    """Measure the operators of a space and some whole slim models of it, and write the table.

    The table is written after every operator; called again with the same ``out`` it goes on where it was.

    Args:
        example: an input; only its shape, beside the first dimension, and dtype matter.
        model: a name, for messages.
        batch: samples of one forward.
        threads: default: those that torch takes.
        clock: ``cpu`` leaves out what others take from a shared machine; for one thread on a CPU.
        points: counts of one axis, where there are two; twice as many where there is one.
        models: whole models, the correction's.
        patience: seconds for one point; fifty times that for a whole model.
        forward: called as ``forward(model, x)`` instead of ``model(x)``.

    Raises:
        TableError: ``out`` is a table of something else. ValueError: no such backend or device.
    """
    threads = threads or torch.get_num_threads()
    runner = make_backend(backend, device, batch, threads, clock)
    context = space.counters.context
    operators = find_operators(context.trace, context.ownership, context.batch, backend)
    distinct = {o.digest: o for o in operators.found}
    table = Table(
        model=model or type(space.model).__name__, backend=backend, device=device, device_name=device_name(device),
        batch=batch, threads=threads, clock=clock, versions=runner.versions(), whole=operators.digest,
    )  # fmt: skip
    table = _resumed(table, distinct, Path(out))
    with torch.no_grad(), _steady(), Progress('measuring operators', len(distinct)) as progress:
        overhead = summary(runner.seconds(runner.nothing(), patience))[0]
        for digest, operator in distinct.items():
            if digest not in table.operators:
                table.operators[digest] = times_of(operator, space, runner, points, patience, overhead)
                table.save(out)
            progress.step()
    _measure_models(space, example, table, runner, models, 50 * patience, forward, out)
    table.correction = fitted(table.models)
    table.save(out)
    return table


def _resumed(table: Table, distinct: dict[str, Operator], out: Path) -> Table:
    """What was measured before under the same name, if it is of the same kind."""
    if not out.exists():
        return table
    before = Table.load(out)
    for field in ('model', 'backend', 'device', 'device_name', 'batch', 'threads', 'clock', 'versions'):
        old, new = getattr(before, field), getattr(table, field)
        if old != new:
            raise TableError(f'{out} was measured with {field} {old!r}, not {new!r}; choose another --out')
    foreign = [times.name for digest, times in before.operators.items() if digest not in distinct]
    if foreign:
        raise TableError(f'{out} has operators that this model has not, {foreign[0]} first; choose another --out')
    if before.whole != table.whole:
        raise TableError(f'{out} is of a model with other operators or other numbers of them; choose another --out')
    return before


@contextmanager
def _steady() -> Iterator[None]:
    """Numbers near zero are zero: what runs over and over in place would end in them, and they are slow."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _measure_models(
    space: SearchSpace,
    example: Tensor,
    table: Table,
    runner: Eager,
    count: int,
    patience: float,
    forward: Callable[[nn.Module, Tensor], Any],
    out: str | os.PathLike[str],
) -> None:
    """Add whole slim models to the table until there are ``count``."""
    bare = Latency(space.counters.context, table, corrected=False).to(space.bank.ratio.device)
    with torch.no_grad(), _steady(), Progress('measuring slim models', count) as progress:
        for k in range(count):
            if k >= len(table.models):
                keep = random_structure(space, ASIDE + k)
                call = model_call(space, keep, example, runner, forward)
                seconds, spread = summary(runner.seconds(call, patience))
                parts, launches = parts_of(space, bare, keep)
                table.models.append(ModelTime(parts=parts, launches=launches, seconds=seconds, spread=spread))
                table.save(out)
            progress.step()


def model_call(
    space: SearchSpace,
    keep: Tensor,
    example: Tensor,
    runner: Eager,
    forward: Callable[[nn.Module, Tensor], Any] = _plain_call,
) -> Call:
    """The slim model of a structure, ready to run."""
    x = torch.rand((runner.batch, *example.shape[1:]), device=runner.device).to(example.dtype)
    return runner.model(_Called(slim_of(space, keep), forward).to(runner.device).eval(), x)


class _Called(nn.Module):
    """A model as it is called."""

    def __init__(self, model: nn.Module, function: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.model, x)


def times_of(
    operator: Operator, space: SearchSpace, runner: Eager, points: int, patience: float, overhead: float
) -> OperatorTimes:
    """Times of one operator over its grid, twice: once there and once back, so that what drifts evens out."""
    program = operator.program
    result = OperatorTimes(name=program.told(), kind=program.kind)
    try:
        times = _timed(operator, space, runner, points, patience)
    except Exception as error:  # whatever its function raises
        return result.model_copy(update=dict(note=f'{type(error).__name__}: {error}'[:300]))
    found = {tuple(program.coordinates(sizes)): summary(seconds, overhead) for sizes, seconds in times.items()}
    lines = [sorted({point[axis] for point in found}) for axis in range(len(operator.coordinates))]
    places = list(itertools.product(*lines))
    filled = [found[p] if p in found else _nearest(found, p) for p in places]
    return result.model_copy(
        update=dict(points=lines, seconds=[seconds for seconds, _ in filled], spread=[spread for _, spread in filled])
    )


def _timed(
    operator: Operator, space: SearchSpace, runner: Eager, points: int, patience: float
) -> dict[tuple[int, ...], list[float]]:
    """Times at every point of the grid at which the operator runs, if it does in the supernet's size."""
    program = operator.program
    grid = sizes_of(operator, space, points, MULTIPLE[runner.device])
    make = runner.program(program, copies_of(program, space.model))
    times: dict[tuple[int, ...], list[float]] = {tuple(program.sizes): []}
    failed: set[tuple[int, ...]] = set()
    for order in (grid[::-1], grid):
        for sizes in order:
            try:
                if sizes not in failed:
                    times.setdefault(sizes, []).extend(runner.seconds(make(sizes), patience / 2))
            except Exception:
                # Some functions refuse the smallest sizes, which slim models then have not either.
                if sizes == tuple(program.sizes):
                    raise
                failed.add(sizes)
                times.pop(sizes, None)
    return times


def _nearest(found: dict[tuple[float, ...], tuple[float, float]], place: tuple[float, ...]) -> tuple[float, float]:
    """What the smallest of the larger points takes; there is always one, the whole."""
    larger = [point for point in found if all(a >= b for a, b in zip(point, place))]
    return found[min(larger, key=math.prod)]


def copies_of(program: Program, model: nn.Module) -> int:
    """How many times over the model's weights are those of a program."""
    weights = sum(x.numel() for x in model.parameters())
    own = sum(math.prod(size_of(d, program.sizes, 1) for d in a.dims) for a in program.arguments if a.constant)
    return math.ceil(weights / own) if own else 1
