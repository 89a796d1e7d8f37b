"""Where the operators of a trace see sizes that units can change, and the same places in modules of one class."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from ..mutables import Ownership
from ..tracing import Call, IntArray, Trace
from .compare import Mismatch, counted, same_name
from .factors import Factors

Owners = list[IntArray]  # elements of the positions of a dimension, (n, K) each


class Role(NamedTuple):
    """Where an operator sees a size.

    ``side`` is 'out' or 'in', ``dim`` is -1 for ids over several dimensions, and ``ahead`` tells how many calls further
    on: a reshape fails before the copy that it would make.
    """

    side: str
    tensor: int
    dim: int
    ahead: int = 0


@dataclass(frozen=True)
class Size:
    role: Role
    size: int  # in the supernet
    owners: Owners


class Sizes:
    """A lookup of sizes, for as long as the units stay the same."""

    def __init__(self, model: nn.Module, trace: Trace, ownership: Ownership) -> None:
        self.model, self.trace, self.ownership = model, trace, ownership
        self._own: list[dict[str, list[int]]] = []
        for calls in trace.calls:
            own: dict[str, list[int]] = {}
            for i, call in enumerate(calls):
                own.setdefault(call.module, []).append(i)
            self._own.append(own)
        self._alike: dict[type, list[str]] = {}
        self._paths = dict(model.named_modules())
        for path, module in self._paths.items():
            self._alike.setdefault(type(module), []).append(path)
        self._at: dict[int, list[Size]] = {}

    @functools.cached_property
    def factors(self) -> Factors:
        """What follows from what in the trace."""
        tensors: dict[str, Tensor] = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        return Factors(self.trace, {name: tuple(tensors[name].shape) for name in self.trace.params})

    def call(self, mode: int, index: int) -> Call:
        return self.trace.calls[mode][index]

    def own(self, mode: int, path: str) -> list[int]:
        """The calls of a module itself, without those of its submodules."""
        return self._own[mode].get(path, [])

    def next_calls(self, mode: int, index: int, ahead: int) -> list[Call]:
        """A call and the next ``ahead`` of its module."""
        calls = self.trace.calls[mode]
        own = self.own(mode, calls[index].module)
        return [calls[i] for i in own if i >= index and counted(calls[i])][: 1 + ahead]

    def near(self, mode: int, index: int, ahead: int) -> list[Size]:
        """Every size that units can change at a call and the next ones of its module."""
        return [
            Size(seen.role._replace(ahead=k), seen.size, seen.owners)
            for k, call in enumerate(self.next_calls(mode, index, ahead))
            for seen in self.at(call)
        ]

    def at(self, call: Call) -> list[Size]:
        """Every size that units can change at a call."""
        if id(call) not in self._at:
            self._at[id(call)] = self._look_at(call)
        return self._at[id(call)]

    def _look_at(self, call: Call) -> list[Size]:
        result = []
        groups = (('out', call.shapes, call.axes), ('in', call.input_shapes, call.input_axes))
        for side, shapes, axes in groups:
            for t, (shape, entries) in enumerate(zip(shapes, axes)):
                for dim, size in enumerate(shape):
                    owners = [o for dims, ids in entries if dim in dims for o in self._along(ids, dims.index(dim))]
                    if any((o >= 0).any() for o in owners):
                        result.append(Size(Role(side, t, dim), size, _normal(owners)))
                for dims, ids in entries:
                    if len(dims) > 1 and self.pruned(ids):
                        owner = self.ownership.owner(ids).reshape(ids.size, -1)
                        result.append(Size(Role(side, t, -1), ids.size, _normal([owner])))
        return result

    def pruned(self, ids: IntArray) -> bool:
        """Units can remove some of these positions."""
        return bool((self.ownership.owner(ids) >= 0).any())

    def _along(self, ids: IntArray, axis: int) -> Owners:
        """Elements along one dimension of ids: of ids over several, the parts that depend on this dimension alone."""
        owner = self.ownership.owner(ids)
        if ids.ndim == 1:
            return [owner]
        first = owner[tuple(slice(None) if e == axis else slice(0, 1) for e in range(ids.ndim))]
        same = (owner == first).reshape(-1, owner.shape[-1]).all(0)
        line = first.reshape(ids.shape[axis], -1)[:, same]
        return [line] if line.shape[1] and (line >= 0).any() else []

    def twins(self, problem: Mismatch, path: str) -> list[tuple[str, int]]:
        """(path, call) of every module of the class of ``path`` at the same point of its own forward, itself first.

        The point is the call where the problem is, in ``path`` or in a submodule of it.
        """
        mode, index = problem.place
        calls = self.trace.calls[mode]
        here = calls[index].module
        suffix = here[len(path) :] if path else ''

        def like(other: str) -> list[int]:
            return [i for i in self.own(mode, other) if same_name(calls[i].name, calls[index].name)]

        ordinal, among_like = self.own(mode, here).index(index), like(here).index(index)
        twins = [(path, index)]
        for other in self._alike[type(self.model.get_submodule(path))]:
            if other and other != path:
                own, alike = self.own(mode, other + suffix), like(other + suffix)
                if ordinal < len(own) and calls[own[ordinal]].name == calls[index].name:
                    twins.append((other, own[ordinal]))
                elif among_like < len(alike):
                    # A block with shifted windows, say, rolls them first.
                    twins.append((other, alike[among_like]))
        return twins

    def holders(self, problem: Mismatch, path: str) -> list[tuple[str, int]]:
        """The same for a module that may lie beside the one where the problem is: for twins of what holds both."""
        here = self.call(*problem.place).module
        anchor = here
        while anchor and path != anchor and not path.startswith(anchor + '.'):
            anchor = anchor.rpartition('.')[0]
        if path == anchor or f'{here}.'.startswith(f'{path}.') or not path:
            return self.twins(problem, path)
        rest = path[len(anchor) :].lstrip('.')
        found = [('.'.join(filter(None, (twin, rest))), at) for twin, at in self.twins(problem, anchor)]
        return [(other, at) for other, at in found if other in self._paths]


def same_owners(a: Sequence[IntArray], b: Sequence[IntArray]) -> bool:
    return len(a) == len(b) and all(map(np.array_equal, a, b))


def _normal(owners: Owners) -> Owners:
    """One array of elements, without empty columns, in an order that does not depend on where they were seen."""
    whole = -np.sort(-np.concatenate(owners, 1), axis=1)
    return [whole[:, (whole >= 0).any(0)]]
