"""A plan: which positions of which tensors belong to which element, and what else a slim model changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..mutables import MutableUnit, Ownership, all_live, make_ownership
from ..mutators.blocks import readers_of
from ..mutators.find import Tie
from ..tracing import IntArray, Trace
from ..tracing.caches import Cache

Rows = Mapping[tuple[str, int], IntArray]  # positions along a dimension of parameters


@dataclass(frozen=True, eq=False)
class Mend:
    """An attribute that stores a size: ``attribute[index]`` of ``module`` is the kept count of ``owners``."""

    module: str
    attribute: str
    index: int | None
    size: int
    owners: list[IntArray]


@dataclass(frozen=True, eq=False)
class Scale:
    """A number ``(base * kept) ** exponent`` that a slim forward multiplies by, undone in the parameters ``rows``.

    Attention scales by the size of a head; the slim model must go on with the supernet's scale. ``calls`` are all those
    (mode, index, argument) whose factor this one change of the parameters undoes. A ``base`` is given where the forward
    makes the number in float32, and so rounds it.
    """

    calls: frozenset[tuple[int, int, str]]
    argument: str
    rows: Rows
    owners: list[IntArray]
    size: int
    exponent: float
    sign: float  # -1 if the activation is divided by the number
    base: float | None = None
    part: float = 1.0  # of the factor that each of the rows undoes

    def ratio(self, keep: IntArray) -> float:
        """The slim model's number over the supernet's."""
        kept = kept_of(self.owners, self.size, keep)
        if self.base is None:
            return float(kept / self.size) ** self.exponent
        slim, whole = (float(np.float32((self.base * n) ** self.exponent)) for n in (kept, self.size))
        return slim / whole


@dataclass(frozen=True)
class Copy:
    """Without ``block``, its columns of a weight, from ``start`` on, are added to those of what it would copy."""

    block: str
    parameter: str
    dim: int
    start: int
    source: int
    size: int


@dataclass(frozen=True)
class Remedy:
    """What may bring a slim forward in line, for every module of the same class at once."""

    mends: Sequence[Mend] = ()
    scales: Sequence[Scale] = ()
    ties: Sequence[Tie] = ()  # ids that become one element: units are found anew
    drop: Sequence[Mend] = ()  # earlier mends that these replace
    drop_scales: Sequence[Scale] = ()

    @property
    def replaces(self) -> bool:
        """What the plan said before means something else now."""
        return bool(self.drop or self.drop_scales)


@dataclass(frozen=True)
class Plan:
    """From the kept elements of a search space to a slim model; a value, that :meth:`mended` gives anew.

    Attributes:
        trace: what a forward says about the model, with all that must stay frozen in it.
        units: in the order of the bank.
        ownership: from traced ids to the elements of the bank.
        owners: parameter or buffer -> per dimension the elements of every position, (n, K), -1 for none, or None if
            there are none at all; a position lives if all of its elements do.
        shapes: the same names, and all others that were traced -> shape in the supernet.
        copies: what removed blocks would leave in concatenations.
        mends, scales: what slim modules store about sizes, and the numbers that depend on them.
    """

    trace: Trace
    units: tuple[MutableUnit, ...]
    ownership: Ownership
    owners: Mapping[str, list[IntArray | None]]
    shapes: Mapping[str, tuple[int, ...]]
    copies: tuple[Copy, ...] = ()
    mends: tuple[Mend, ...] = field(default=(), repr=False)
    scales: tuple[Scale, ...] = field(default=(), repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Plan:
        return self

    @property
    def single(self) -> bool:
        """Something in the forward computes in float32 whatever its input."""
        return any(spec.single for spec, _ in self.trace.norms.values()) or any(s.base is not None for s in self.scales)

    def owner(self, ids: IntArray) -> IntArray:
        """(..., K) elements of the bank of each id, -1 for none."""
        return self.ownership.owner(ids)

    def lives(self, ids: IntArray, keep: IntArray) -> IntArray:
        """Bool of the shape of ``ids``: every element of it is in ``keep`` (N,)."""
        return self.ownership.lives(ids, keep)

    def names(self, name: str) -> tuple[str, ...]:
        """All names of a module, parameter or buffer, given its first."""
        return self.trace.names.get(name, (name,))

    @property
    def stale(self) -> list[Cache]:
        """What earlier forwards of the model kept, and has sizes that units can change."""
        return [cache for cache in self.trace.caches.values() if any((self.owner(x) >= 0).any() for x in cache.ids)]

    def mended(self, remedy: Remedy) -> Plan:
        """This plan with the remedy's mends and scales, and without those that it drops."""
        gone = {id(x) for x in [*remedy.drop, *remedy.drop_scales]}
        return replace(
            self,
            mends=(*(m for m in self.mends if id(m) not in gone), *remedy.mends),
            scales=(*(s for s in self.scales if id(s) not in gone), *remedy.scales),
        )


def make_plan(model: nn.Module, trace: Trace, units: Sequence[MutableUnit]) -> Plan:
    """The plan of units whose places in the bank are set, without mends and scales."""
    ownership = make_ownership(trace, units)
    copies = [
        Copy(path, name, dim, gate.start, gate.source, gate.size)
        for path, _ in ownership.blocks
        if (gate := trace.gates.get(path)) is not None and not trace.elements.is_frozen(gate.id)
        for name, dim in readers_of(trace, gate)
    ]
    tensors: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    owners: dict[str, list[IntArray | None]] = {}
    for name, dims in trace.params.items():
        lines = [owner if ((owner := ownership.owner(ids)) >= 0).any() else None for ids in dims]
        if any(line is not None for line in lines):
            owners[name] = lines
    shapes = {name: tuple(tensors[name].shape) for name in trace.params}
    return Plan(trace, tuple(units), ownership, owners, shapes, tuple(copies))


def kept_of(owners: Sequence[IntArray], size: int, keep: IntArray) -> int:
    """How many of ``size`` positions live: all elements of all ``owners`` (size, K) are in ``keep`` (N,)."""
    whole = np.ones(size, dtype=bool)
    for owner in owners:
        whole &= all_live(owner, keep)
    return int(whole.sum())
