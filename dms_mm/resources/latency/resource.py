"""Latency on a device of one's own, from what was measured there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...registry import RESOURCES
from ..context import ResourceContext
from ..products import Products, Term
from ..resource import Resource
from .grid import Grids, monotone
from .operators import Operators, find_operators
from .program import KINDS
from .table import Correction, Table, TableError


@RESOURCES.register_module()
class Latency(Resource):
    """Seconds of one forward of the table's batch, on the device where ``dms measure`` made the table.

    Every operator's time is interpolated between measured counts, never falls as they grow, and goes with its block;
    what they add up to is corrected by the whole models of the table.

    Attributes:
        table: what was measured.

    Args:
        table: the file.
        backend, device, batch, threads: what the table has to be for, where that is to be checked.
        corrected: False for the bare sum.

    Raises:
        TableError: no table of this model, or for something else.
    """

    integer = False
    unit = 's'
    offset: Tensor
    launch: Tensor
    factors: Tensor
    kind: Tensor
    first: Tensor
    second: Tensor
    gone: Tensor

    def __init__(
        self,
        context: ResourceContext,
        table: str | os.PathLike[str] | Table,
        backend: str | None = None,
        device: str | None = None,
        batch: int | None = None,
        threads: int | None = None,
        corrected: bool = True,
    ) -> None:
        super().__init__()
        self.table = table if isinstance(table, Table) else Table.load(table)
        name = 'the table of latencies' if isinstance(table, Table) else f'latency table {table}'
        _check(self.table, name, dict(backend=backend, device=device, batch=batch, threads=threads))
        operators = find_operators(context.trace, context.ownership, context.batch, self.table.backend)
        _check_operators(self.table, name, operators, context.batch)
        correction = self.table.correction if corrected else Correction()
        if correction is None:
            raise TableError(f'{name} is not finished; go on with `dms measure` and the same --out')
        self.constant('offset', correction.offset)
        self.constant('launch', correction.launch)
        self.constant('factors', [correction.factors.get(kind, 1.0) for kind in KINDS])
        self._tables(operators, context)
        self.launches = Products([[(1.0, [], blocks) for blocks in operators.launches]], context.bank)

    def _tables(self, operators: Operators, context: ResourceContext) -> None:
        """One table for all operators that go by the same counts and blocks over the same points."""
        counts: dict[str, int] = {'': 0}
        terms: list[list[Term]] = [[(1.0, [], [])]]
        blocks: dict[tuple[int, ...], int] = {}
        merged: dict[Any, np.ndarray] = {}
        for operator in operators.found:
            times = self.table.operators[operator.digest]
            if not times.seconds:
                continue
            places = []
            for line in operator.coordinates:
                key = _key(line)
                if key not in counts:
                    counts[key] = len(terms)
                    terms.append(line)
                places.append(counts[key])
            gone = blocks.setdefault(tuple(sorted(operator.blocks)), len(blocks))
            points = tuple(map(tuple, times.points))
            key = KINDS.index(times.kind), tuple(places), points, gone
            values = monotone(np.array(times.seconds).reshape([len(line) for line in points]))
            merged[key] = merged[key] + values if key in merged else values
        pairs = [[*place, 0, 0][:2] for _, place, _, _ in merged]
        self.constant('kind', [k[0] for k in merged], dtype=torch.long)
        self.constant('first', [p[0] for p in pairs], dtype=torch.long)
        self.constant('second', [p[1] for p in pairs], dtype=torch.long)
        self.constant('gone', [k[3] for k in merged], dtype=torch.long)
        self.counts = Products(terms, context.bank)
        self.there = Products([[(1.0, [], list(b))] for b in blocks], context.bank)
        self.grids = Grids([k[2] for k in merged], list(merged.values()))

    @property
    def needs_masks(self) -> bool:
        return any(products.needs_masks for products in (self.counts, self.there, self.launches))

    def parts(self, kept: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """(K,) float64, the sums of the operators' times of every kind, and () how many functions are called."""
        counts = self.counts(kept, masks)
        times = self.grids(counts.index_select(0, self.first), counts.index_select(0, self.second))
        times = times * self.there(kept, masks).index_select(0, self.gone)
        return torch.zeros_like(self.factors).index_add(0, self.kind, times), self.launches(kept, masks).sum()

    def value(self, kept: Tensor, masks: Tensor) -> Tensor:
        parts, launches = self.parts(kept, masks)
        return self.offset + self.launch * launches + (self.factors * parts).sum()


def _key(terms: Sequence[Term]) -> Any:
    return tuple(
        (f, tuple((n, b'' if owner is None else owner.tobytes()) for n, owner in dims)) for f, dims, _ in terms
    )


def _check(table: Table, name: str, wanted: Mapping[str, Any]) -> None:
    for field, value in wanted.items():
        has = getattr(table, field)
        if value is not None and value != has:
            raise TableError(f'{name} is for {field} {has!r}, not {value!r}; `dms measure --{field} {value}` makes one')


def _check_operators(table: Table, name: str, operators: Operators, batch: int) -> None:
    missing = {o.digest: o for o in operators.found if o.digest not in table.operators}
    if missing:
        first = next(iter(missing.values()))
        raise TableError(
            f'{name} ({table.told()}) lacks {len(missing)} of the {len({o.digest for o in operators.found})} operators '
            f'of this model, {first.program.told()} in {first.module!r} is the first: it was measured for another '
            'model, another input or by another release; measure this one with `dms measure`'
            + (' (and trace it with two samples or more)' if batch == 1 else '')
        )
    if table.whole != operators.digest:
        raise TableError(
            f'{name} ({table.told()}) has all operators of this model, but was measured for another one, which has '
            'them in other numbers, and whose correction would be wrong: measure this one with `dms measure`'
        )
