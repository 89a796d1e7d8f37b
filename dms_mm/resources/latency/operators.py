"""What a device runs in a forward of a searchable model, as programs whose sizes follow what the units keep."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ...mutables import Ownership
from ...tracing import Shaped, Slot, Step, Trace, Value
from ..products import Dim, Term
from ..terms import product_terms
from .program import FUSED, Action, Argument, Program, Size

EAGER = 'eager'
# Functions that are told the sizes of what they make; and those that copy if they do anything.
MADE = set('zeros ones empty full new_zeros new_ones new_empty new_full'.split())
SIZED = {*MADE, 'expand', 'repeat', 'tile'}
COPIES = set('reshape flatten contiguous clone view_as reshape_as unflatten'.split())


@dataclass
class Operator:
    """A program where it stands in the model.

    Attributes:
        coordinates: of its program, per axis of its table, as terms.
        variables: the count of every variable of the program, as terms.
        blocks: bank's elements of the blocks that it goes with.
        units: of every variable of the program the unit that makes it up and how many positions an element has, None
            where several units do.
    """

    program: Program
    module: str
    coordinates: list[list[Term]]
    variables: list[list[Term]]
    blocks: list[int]
    units: list[tuple[int, int] | None]
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        self.digest = self.program.digest()


@dataclass
class Operators:
    """All of a forward; ``launches`` are the blocks of every function that was called, views included."""

    found: list[Operator]
    launches: list[list[int]]

    @property
    def digest(self) -> str:
        """SHA-256 of which operators there are and how often, and of how many functions are called."""
        content = [*sorted(operator.digest for operator in self.found), str(len(self.launches))]
        return hashlib.sha256(' '.join(content).encode()).hexdigest()


def find_operators(trace: Trace, ownership: Ownership, batch: int, backend: str) -> Operators:
    """The operators of a traced forward as a backend runs them.

    Args:
        batch: of the example that was traced.
    """
    fused = backend != EAGER
    experts = {element for _, element in ownership.experts} if trace.decisions else set()
    batched = _batched(trace.steps, batch)
    groups: list[list[Step]] = []
    ends: dict[Value, list[Step]] = {}  # value -> the group that it is the end of
    uses = Counter(value for step in trace.steps for value in set(step.reads))
    launches: list[list[int]] = []

    def blocks_of(step: Step) -> list[int]:
        return [e for e in ownership.blocks_of(step.module) if e not in experts]

    for step in trace.steps:
        constant = batched.isdisjoint(step.reads)
        if fused and (step.view or (constant and backend == 'onnxruntime')):
            continue  # nothing is left of it
        before = next((ends[v] for v in step.reads if v in ends and uses[v] == 1), None)
        if fused and before and step.function.rpartition('.')[2] in FUSED and blocks_of(before[0]) == blocks_of(step):
            before.append(step)
            ends.update(dict.fromkeys(step.gives, before))
            continue
        launches.append(blocks_of(step))
        if not step.view:
            groups.append([step])
            ends.update(dict.fromkeys(step.gives, groups[-1]))
    found = [_Reader(ownership, batch, batched).operator(group, blocks_of(group[0])) for group in groups]
    return Operators(found, launches)


def _batched(steps: list[Step], batch: int) -> set[Value]:
    """Values that there are for every sample: what nobody made (the inputs), what was made of such, and what was made
    as long as the batch."""
    made: set[Value] = set()
    found: set[Value] = set()
    for step in steps:
        inputs = {v for v in step.reads if isinstance(v, int) and v not in made}
        made.update(step.gives)
        found |= inputs
        if not found.isdisjoint(step.reads) or (
            step.function.rpartition('.')[2] in SIZED and _names(step.given, batch)
        ):
            found.update(v for v in step.gives if isinstance(v, int))
    return found


def _names(given: Any, number: int) -> bool:
    if isinstance(given, Mapping):
        given = list(given.values())
    if isinstance(given, (tuple, list)):
        return any(_names(value, number) for value in given)
    return type(given) is int and given == number


class _Reader:
    """Makes the program of a group of steps."""

    def __init__(self, ownership: Ownership, batch: int, batched: set[Value]) -> None:
        self.ownership, self.batch, self.batched = ownership, batch, batched
        self.variables: dict[bytes, int] = {}
        self.sizes: list[int] = []
        self.terms: list[list[Term]] = []
        self.units: list[tuple[int, int] | None] = []
        self.made_of: list[set[int]] = []
        self.extent: list[list[tuple[int | None, Dim]]] = []

    def operator(self, steps: list[Step], blocks: list[int]) -> Operator:
        made: dict[Value, tuple[int, int]] = {}
        arguments: list[Argument] = []
        known: dict[Value, int] = {}
        actions = []
        for j, step in enumerate(steps):
            slots: list[dict[str, Any]] = []
            for value, shaped in zip(step.reads, step.inputs):
                if value in made and value is not None:
                    slots.append({'r': list(made[value])})
                    continue
                if value is None or value not in known:
                    known[value] = len(arguments)
                    arguments.append(self.argument(value, shaped))
                slots.append({'t': known[value]})
            results = [self.dims(x, v, j == len(steps) - 1) for x, v in zip(step.outputs, step.gives)]
            actions.append(self.action(step, slots, results))
            made.update({value: (j, k) for k, value in enumerate(step.gives)})
        program = Program(actions, arguments, self.sizes)
        others = [set().union(*(m for j, m in enumerate(self.made_of) if j != v)) for v in range(len(self.made_of))]
        alone = {v for v, units in enumerate(self.made_of) if units.isdisjoint(others[v])}
        program.joint = len(self.sizes) > 2 or len(alone) < len(self.sizes)
        program.shared = min(program.common() & alone, default=None) if program.joint else None
        return Operator(program, steps[0].module, self.coordinates(program), self.terms, blocks, self.units)

    def coordinates(self, program: Program) -> list[list[Term]]:
        """The same as of the program, as terms."""
        if not program.joint:
            return self.terms
        shared = program.shared
        extent = [
            term
            for dims in self.extent
            for term in product_terms(self.ownership, [d for v, d in dims if v is None or v != shared])
        ]
        return [extent] if shared is None else [self.terms[shared], extent]

    def action(self, step: Step, slots: list[dict[str, Any]], results: list[list[Size]]) -> Action:
        args, kwargs = step.given
        name = step.function.rpartition('.')[2]
        if name in COPIES:
            # That it had to copy is all that there is to it, whatever the new sizes are.
            return Action('torch.Tensor.contiguous' if step.inputs[0].order else 'torch.clone', [slots[0]], {}, results)
        plain = [_plain(a, slots) for a in args]
        if name in MADE:
            # Sizes are one list, or so many numbers at the end.
            tensors = [a for a in args if isinstance(a, Slot)]
            rest = args[len(tensors) :]
            after = rest[1:] if rest and isinstance(rest[0], (tuple, list)) else []
            plain = [*plain[: len(tensors)], {'shape': 0}, *(_plain(a, slots) for a in after)]
            kwargs = {key: value for key, value in kwargs.items() if key != 'size'}
        elif name in SIZED:
            plain = [{'b': 1} if type(a) is int and a == self.batch else a for a in plain]
        return Action(step.function, plain, _plain(kwargs, slots), results)

    def argument(self, value: Value, x: Shaped) -> Argument:
        order = None if x.order is None else list(x.order)
        return Argument(self.dims(x, value, True), x.dtype, order, value not in self.batched)

    def dims(self, x: Shaped, value: Value, counts: bool) -> list[Size]:
        """The dimensions of a tensor; what is read or written ``counts`` in the extent."""
        samples = self._samples(x) if value in self.batched else None
        result: list[Size] = []
        plain: list[tuple[int | None, Dim]] = []
        for d, size in enumerate(x.shape):
            over = self.batch if d == samples else 1
            owner = self._owner(x, d)
            if owner is None:
                result.append(['b', size // over] if d == samples else size)
                plain.append((None, (size // over, None)))
            else:
                variable = self._variable(size, owner, over)
                result.append(['bv' if d == samples else 'v', variable])
                plain.append((variable, (size // over, owner[: size // over])))
        if counts:
            self.extent.append(plain)
        return result

    def _samples(self, x: Shaped) -> int | None:
        """The dimension of the samples: the outermost in memory if it is as long, or the first, times heads or windows,
        or any that is."""
        outer = x.order[0] if x.order else 0
        if x.shape and x.shape[outer] == self.batch:
            return outer
        if x.shape and x.shape[0] % self.batch == 0:
            return 0
        return next((d for d, size in enumerate(x.shape) if size == self.batch), None)

    def _owner(self, x: Shaped, dim: int) -> np.ndarray | None:
        """(n, K) elements of each position, None where none can go."""
        columns: list[np.ndarray] = []
        for dims, ids in x.axes:
            if dim in dims:
                owner = np.moveaxis(self.ownership.owner(ids), dims.index(dim), 0)
                owner = owner.reshape(len(owner), -1, owner.shape[-1])[:, 0]
                # Of elements that span several dimensions, what is the same all along this one is another's.
                columns += [c for c in owner.T if (c >= 0).any() and (len(dims) == 1 or (c != c[0]).any())]
        if not columns:
            return None
        owner = np.stack(columns, 1)
        try:
            product_terms(self.ownership, [(len(owner), owner)])
        except NotImplementedError:
            return None  # counts that nothing here can tell: as in the supernet
        return owner

    def _variable(self, size: int, owner: np.ndarray, over: int) -> int:
        key = owner[: size // over].tobytes()  # of one sample, so that it is the same one in other tensors
        if key not in self.variables:
            self.variables[key] = len(self.sizes)
            self.sizes.append(size // over)
            owner = owner[: size // over]
            self.terms.append(product_terms(self.ownership, [(size // over, owner)]))
            elements, counts = np.unique(owner, return_counts=True)
            units = set(self.ownership.units[elements[elements >= 0]].tolist())
            even = owner.shape[1] == 1 and elements[0] >= 0 and len(units) == 1 and (counts == counts[0]).all()
            self.units.append((min(units), int(counts[0])) if even else None)
            self.made_of.append(units)
        return self.variables[key]


def _plain(given: Any, slots: list[dict[str, Any]]) -> Any:
    """Arguments as JSON has them."""
    if isinstance(given, Slot):
        return slots[given.place]
    if isinstance(given, Mapping):
        return {key: _plain(value, slots) for key, value in given.items()}
    if isinstance(given, (tuple, list)):
        return {'seq': [_plain(value, slots) for value in given]}
    if isinstance(given, torch.device):
        return {'torch': 'device'}  # wherever the model is
    if isinstance(given, (torch.dtype, torch.layout, torch.memory_format)):
        return {'torch': str(given).removeprefix('torch.')}
    return given
