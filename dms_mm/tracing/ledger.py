"""What rules and wholes read and write while a forward runs: what each tensor's positions are, and what follows.

A tensor's *entries* are a list of ``(dims, ids)``: the positions of ``dims`` together are the elements ``ids``, an
array with as many dimensions. Its *axes* are the same with one dimension each: asking for them makes elements that span
several dimensions pairs (or triples) of factors, which keeps what lives rectangular. A dimension may have several
axes; a position then lives only if all of its elements do. All of this is kept on the fake tensors themselves.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .elements import IntArray
from .findings import Axes, Cost, Entries, Gate, ParamDim, Trace
from .flow import Joint
from .poles import is_barred, places_of


def tensors_of(tree: Any) -> list[Any]:
    """The tensors in nested lists, tuples and dicts. Asked twice for every operator: pytree takes several times as
    long."""
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, Mapping):
        tree = tree.values()
    elif not isinstance(tree, (tuple, list)):
        return []
    return [x for branch in tree for x in tensors_of(branch)]


class Ledger:
    """One forward's entries in a :class:`Trace`; every rule and whole takes it first.

    Attributes:
        trace: what has been found so far.
        elements: those of the trace.
        stack: paths of the modules that are running, the innermost last.
        called: the same by the names that their callers have for them, which differ for modules of several names.
        inputs: module -> its first tensor, while that is referred to.
        blocks, made, uses, callers: this forward's part of ``sums`` and the others of the trace.
    """

    def __init__(self, trace: Trace, record_costs: bool = True) -> None:
        self.trace = trace
        self.elements = trace.elements
        self.record_costs = record_costs
        self.stack: list[str] = ['']
        self.called: list[str] = ['']
        self.inputs: dict[str, weakref.ref[Any]] = {}
        self.blocks: dict[str, tuple[Joint, ...] | None] = {}
        self.made: dict[str, Joint] = {}
        self.uses: dict[str, list[frozenset[str]]] = {}
        self.callers: dict[str, list[frozenset[str]]] = {}
        self.asked: dict[str, tuple[str, int, int]] = {}  # module -> the softmax or choice that it asks for now
        self.sums_out = 0  # einsums that are running
        self.named: tuple[int, IntArray, int] | None = None  # a number, the positions that it is one of, and how deep
        self._asked: dict[tuple[str, str, int], int] = {}
        self._zeroed: dict[int, list[weakref.ref[Any]]] = {}  # storage -> tensors that masks make zero
        self._starts: list[int] = []
        self._owners: list[ParamDim] = []
        self._end = 0
        for name, dims in trace.params.items():
            for d, ids in enumerate(dims):
                if len(ids):
                    self._starts.append(int(ids[0]))
                    self._owners.append((name, d))
                    self._end = max(self._end, int(ids[-1]) + 1)

    def where(self) -> str:
        """Path of the running module, by the name that its caller has for it."""
        return self.called[-1]

    def enter(self, path: str, names: Sequence[str] = ()) -> None:
        """A module begins to run; ``names`` are all of its names if it has several."""
        callers = (caller + '.' if caller else '' for caller in reversed(self.called))
        # The nearest one: what the model calls itself is not inside of a block that has it, too.
        names = sorted(names, key=lambda name: name.count('.'))
        inside = (name for caller in callers for name in names if name.startswith(caller))
        if self.named is not None and len(self.stack) == self.named[2] and path.endswith(f'.{self.named[0]}'):
            self.trace.picked.setdefault(path, self.named[1])
        self.stack.append(path)
        self._asked = {key: n for key, n in self._asked.items() if key[0] != path}
        self.called.append(next(inside, path))

    def leave(self) -> None:
        self.stack.pop()
        self.called.pop()
        if self.named is not None and len(self.stack) < self.named[2]:
            self.named = None

    def ask(self, operator: str, size: int) -> None:
        """A softmax or choice over ``size`` positions is asked for by name: which one it is in every running module."""
        for path in dict.fromkeys(self.stack):
            key = path, operator, size
            self.asked[path] = operator, size, self._asked.get(key, 0)
            self._asked[key] = self._asked.get(key, 0) + 1

    def note_named(self, number: int, line: IntArray) -> None:
        """What comes next in the running module may be picked by ``number``, one of ``line`` (n,)."""
        self.named = number, line, len(self.stack)
        if not any(line is known for known in self.trace.numbered):
            self.trace.numbered.append(line)

    # -- what a tensor's positions are
    @staticmethod
    def entries(x: Any) -> Entries:
        """``(dims, ids)`` of a tensor as they are: ids may span several dimensions."""
        return getattr(x, '_dms_axes', [])

    def axes(self, x: Any) -> Axes:
        """``(dim, ids)`` of a tensor; ids that span several dimensions become one factor for each."""
        entries = getattr(x, '_dms_axes', [])
        if any(len(dims) > 1 for dims, _ in entries):
            x._dms_axes = single = []
            for dims, ids in entries:
                parts = [ids] if len(dims) == 1 else self.elements.factor(ids)
                single += [((d,), part) for d, part in zip(dims, parts)]
            entries = single
        return [(dims[0], ids) for dims, ids in entries]

    def along(self, x: Any, dim: int) -> list[IntArray]:
        """Ids of the axes of one dimension, each (n,)."""
        return [ids for d, ids in self.axes(x) if d == dim]

    @staticmethod
    def source(x: Any) -> str | None:
        """The parameter that ``x`` is, or is a rearrangement of."""
        return getattr(x, '_dms_source', None)

    @staticmethod
    def makers(x: Any) -> frozenset[str] | None:
        """Parameters that, masked along the elements of ``x``, make every dead position of ``x`` zero."""
        return getattr(x, '_dms_makers', None)

    @staticmethod
    def spare(x: Any) -> frozenset[str] | None:
        """Others that would do the same."""
        return getattr(x, '_dms_spare', None)

    @staticmethod
    def free(x: Any) -> set[int]:
        """Dimensions along which a tensor is copies of one position."""
        return getattr(x, '_dms_free', set())

    @staticmethod
    def summed(x: Any) -> int:
        """How many positions a tensor is a sum over, if some of them can be pruned; else 0."""
        return getattr(x, '_dms_summed', 0)

    @staticmethod
    def shape(x: Any) -> tuple[int, ...]:
        """The shape that a tensor had when its axes were set: an operator in place may have changed it since."""
        return getattr(x, '_dms_shape', tuple(x.shape))

    def put(
        self,
        x: Any,
        axes: Axes | Entries,
        source: str | None = None,
        makers: frozenset[str] | None = None,
        copies: Iterable[int] = (),
        spare: frozenset[str] | None = None,
    ) -> None:
        """Set the axes of a tensor; dimensions of one position carry none, nor do those that are ``copies`` of one."""
        entries: Entries = []
        for dims, ids in axes:
            dims = (dims,) if isinstance(dims, int) else dims
            flat = tuple(d for d in dims if x.shape[d] > 1)
            if flat and all(x.shape[d] for d in dims):
                entries.append((flat, ids if flat == dims else ids.reshape([x.shape[d] for d in flat])))
        x._dms_axes = entries
        x._dms_source = source
        x._dms_makers = makers
        x._dms_spare = spare
        x._dms_free = set(copies)
        x._dms_shape = tuple(x.shape)
        if source or makers is not None:
            self._zeroed.setdefault(x.untyped_storage()._cdata, []).append(weakref.ref(x))

    def overwrite(self, x: Any, before: frozenset[str] | None, told: bool) -> None:
        """An operator wrote into ``x``: what its makers are is known if its rule has ``told``, and that its other views
        are zero where they were only if ``x`` is so by the makers that it had ``before``."""
        after = self.makers(x) if told else None
        if after is not None and before is not None and after <= before:
            return
        for other in self._zeroed.get(x.untyped_storage()._cdata, []):
            y = other()
            if y is not None and not (told and y is x):
                y._dms_source = y._dms_makers = None

    # -- what must stay
    def freeze(self, axes: Sequence[tuple[Any, IntArray]], reason: str) -> None:
        """The elements of these axes stay, because of ``reason``."""
        for _, ids in axes:
            self.elements.freeze(ids, f'{reason} in {self.where() or "the model"}')

    def mix(self, axes: Sequence[tuple[Any, IntArray]], reason: str) -> None:
        """Freeze what an operator mixes, unless its module turns out to run on what lives alone."""
        if axes:
            self.trace.stuck[self.stack[-1]] = None
        self.freeze(axes, reason)

    # -- who takes the masks
    def request(self, x: Any, ids: IntArray, customary: bool = False) -> bool:
        """Ask that dead positions of ``x`` be zero, if only as is ``customary`` for heads. False if no parameters can
        see to that."""
        makers = self.makers(x)
        if makers is None or is_barred(self.trace, makers, ids):
            return False
        if makers:
            self.trace.requests.append((makers, ids))
            if customary:
                self.trace.customary.append(self.trace.requests[-1])
            self.trace.requested.setdefault(makers, set()).update(np.unique(ids).tolist())
        return True

    def refused(self, ids: IntArray, reason: str) -> str:
        """Why a request failed: ``reason``, and whether something is divided by what masks would make zero."""
        names = {name for name, _ in self.trace.barred}
        barred = any(place in self.trace.barred for place in places_of(self.trace, names, ids))
        return f'{reason}, where masks would make zero what is divided by' if barred else reason

    def masked(self, x: Any, lists: Sequence[IntArray]) -> bool:
        """Dead positions of ``x`` along these elements are zero already."""
        asked = self.trace.requested.get(self.makers(x) or frozenset(), set())
        known = bool(asked) and all(asked.issuperset(np.unique(ids).tolist()) for ids in lists)
        self.trace.relied += lists if known else []
        return known

    def consume(self, tensor: Any, lists: Sequence[IntArray]) -> None:
        """A parameter contracts these elements of its own: it takes their masks."""
        source = self.source(tensor)
        for ids in lists:
            owners = [owner for owner in self._owners_of([ids]) if owner[0] == source]
            self.trace.consumers.update(dict.fromkeys(self.trace.linear(owner) for owner in owners))
            if not owners and source:
                # A weight that was reshaped carries factors; the masks go wherever it has them.
                self.trace.requests.append((frozenset([source]), ids))

    def produce(self, tensor: Any, lists: Sequence[IntArray]) -> None:
        """A parameter makes these elements of its own, or what is computed from parameters alone those of theirs."""
        source = self.source(tensor)
        for ids in lists:
            owners = [owner for owner in self._owners_of([ids]) if source in (owner[0], None)]
            self.trace.producers.update(dict.fromkeys(owners))
            if not owners and source:
                self.trace.products.append((source, ids.reshape(-1)))

    def _owners_of(self, lists: Sequence[IntArray]) -> set[ParamDim]:
        owners: set[ParamDim] = set()
        for ids in lists:
            ids = ids[ids < self._end]
            index = np.unique(np.searchsorted(self._starts, ids, side='right') - 1)
            owners.update(self._owners[i] for i in index)
        return owners

    def use(self, parameters: Iterable[Any], results: Sequence[Any] = (), names: Iterable[str] = ()) -> None:
        """These parameters, and those called ``names``, take part in the forward; ``results`` may be rearrangements of
        them."""
        names = {*names, *(name for p in parameters if (name := self.source(p)))}
        self.trace.used |= names
        for name in names.difference(self.source(x) for x in results):
            self.uses.setdefault(name, []).append(frozenset(self.stack))

    def cost(self, factor: float, dims: Sequence[tuple[Any, int]]) -> None:
        """MACs of the present call: ``factor`` times the kept positions of each ``(tensor, dimension)``."""
        if self.record_costs:
            sizes = [(int(x.shape[d]), self.along(x, d)) for x, d in dims]
            self.trace.costs.append(Cost(factor, sizes, self.where()))

    # -- blocks
    def gated(self, tensors: Sequence[Any], parts: list[IntArray]) -> list[IntArray]:
        """Parts of a concatenation; what a residual block made of the part before it lives only if the block does."""
        starts = np.cumsum([0, *map(len, parts)]).tolist()
        result = list(parts)
        found: dict[str, tuple[int, int, int]] = {}
        for k, x in enumerate(tensors):
            path = getattr(x, '_dms_from', None)
            given = self.inputs[path]() if path in self.inputs else None
            before = next((j for j in range(k) if path and tensors[j] is given), None)
            if not path or not (self.trace.sums.get(path) or self.blocks.get(path)):
                continue
            if before is None or len(parts[k]) != len(parts[before]):
                continue
            gate = self.trace.gates[path].id if path in self.trace.gates else int(self.elements.new(1)[0])
            result[k] = self.elements.new(len(parts[k]))
            self.elements.compose(result[k], [parts[k], np.full(len(parts[k]), gate)])
            found[path] = gate, k, before
        line = np.concatenate(result)
        for path, (gate, k, before) in found.items():
            self.trace.gates[path] = Gate(gate, line, starts[k], starts[before], len(parts[k]))
        return result
