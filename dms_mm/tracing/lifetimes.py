"""When a forward asks for memory, and when the last tensor that refers to it is gone: what a peak is made of.

References die on fake tensors when they would on real ones, as the same Python runs. What autograd would keep
besides is told by the operators (:mod:`.saved`).
"""

from __future__ import annotations

import contextlib
import functools
import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_map

from .findings import Entries

GIVEN, OTHER = -1, -2  # in place of a piece: an input of the model, and what is neither of it nor of the forward


@dataclass(eq=False)
class Piece:
    """Memory of one storage.

    Attributes:
        module: where it is made.
        entries: elements of the tensor that it was made for, which has ``shape``.
        itemsize, floating: bytes of a number, and whether that follows the dtype that a model runs in.
        born, dies: the operators, counted from 1, in which it is made and until which it is referred to; None if it is
            to the end.
        varies: it is computed from the inputs, and as large as their batch.
        learnt: a gradient reaches it.
        enters, leaves: modules that it is an input of, and an output of.
        inner: no kernel keeps it, as it is inside of an attention that is traced as products.
    """

    module: str
    shape: tuple[int, ...]
    entries: Entries
    itemsize: int
    floating: bool
    born: int
    dies: int | None = None
    varies: bool = False
    learnt: bool = False
    enters: set[str] = field(default_factory=set)
    leaves: set[str] = field(default_factory=set)
    inner: bool = False


@dataclass(frozen=True, eq=False)
class Blank:
    """A tensor among an operator's arguments, without data."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    learnt: bool


@dataclass(eq=False)
class Kind:
    """An operator with arguments of one kind, and what it is called with the first time: tensors are blank."""

    func: Any
    args: Any = ()
    kwargs: Any = None

    @property
    def name(self) -> str:
        return self.func if isinstance(self.func, str) else str(self.func._schema.name)

    @property
    def writes(self) -> bool:
        """It writes to one of its arguments."""
        return not isinstance(self.func, str) and bool(self.func._schema.is_mutable)


@dataclass(eq=False)
class Step:
    """One operator.

    Attributes:
        reads: numbers of pieces, or names of parameters, of the tensors among its arguments.
        gives: the same of its results, those that it writes to among them.
        learnt: a backward goes through it.
        in_view: it writes to a view.
    """

    kind: Kind
    reads: list[int | str]
    gives: list[int | str]
    learnt: bool
    in_view: bool = False


@dataclass(eq=False)
class Attention:
    """One call of an attention that is asked for by name.

    Attributes:
        keys, values: shapes and entries, before heads are repeated for the queries that share them.
        positions: of the sequences of all samples.
    """

    module: str
    keys: tuple[tuple[int, ...], Entries]
    values: tuple[tuple[int, ...], Entries]
    positions: int


@dataclass(eq=False)
class Lifetimes:
    """The pieces and operators of one forward, and the names of the model's parameters."""

    parameters: set[str]
    pieces: list[Piece] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    attentions: list[Attention] = field(default_factory=list)


ATTENTION = Kind('attention')  # whose kernel keeps what it got and what it gives


class Recorder:
    """Writes down one forward's :class:`Lifetimes`."""

    def __init__(self, parameters: set[str]) -> None:
        self.found = Lifetimes(parameters)
        self._known: dict[int, int | str] = {}  # storage -> piece, parameter, GIVEN or OTHER
        self._refs: dict[int, Any] = {}
        self._tensors: dict[int, int] = {}  # piece -> its storages
        self._kinds: dict[Any, Kind] = {}
        self._open: list[Piece] = []  # made inside of a whole, whose axes are not known yet
        self._attention = False
        self._relaid: set[int] = set()  # pieces that attention gives in the order in which they are asked for

    def note(
        self, func: Any, args: Any, kwargs: Any, tensors: Sequence[Any], results: Sequence[Any], module: str, told: bool
    ) -> None:
        """An operator ran; ``told`` if its rule has set the axes of its results."""
        reads = [self._of(x) for x in tensors]
        learnt = [self._learnt(place) and x.is_floating_point() for place, x in zip(reads, tensors)]
        number = len(self.found.steps) + 1
        relaid = func._schema.name == 'aten::clone' and reads[0] in self._relaid
        gives: list[int | str] = []
        for x in results:
            storage = x.untyped_storage()
            place = self._known.get(storage._cdata)
            if place is None:
                varies = any(
                    p == GIVEN or (isinstance(p, int) and p >= 0 and self.found.pieces[p].varies) for p in reads
                )
                learnable = any(learnt) and x.is_floating_point()
                place = reads[0] if relaid else self._make(x, storage, module, number, varies, learnable, told)
                self._hold(storage, place)
            elif isinstance(place, int) and place >= 0:
                self._again(self.found.pieces[place], x, any(learnt), told)
            gives.append(place)
        kind = self._kind(func, args, kwargs, tensors, learnt) if any(learnt) else Kind(func)
        in_view = kind.writes and any(x._is_view() for x in results)
        self.found.steps.append(Step(kind, reads, gives, any(learnt), in_view))

    def _make(self, x: Any, storage: Any, module: str, number: int, varies: bool, learnt: bool, told: bool) -> int:
        whole = x.numel() * x.element_size() == storage.nbytes()
        shape = tuple(int(n) for n in x.shape) if whole else (storage.nbytes() // x.element_size(),)
        entries = list(getattr(x, '_dms_axes', [])) if told and whole else []
        piece = Piece(
            module, shape, entries, x.element_size(), x.is_floating_point(), number, varies=varies, learnt=learnt
        )
        piece.inner = self._attention
        if not told and whole:
            self._open.append(piece)
        self.found.pieces.append(piece)
        return len(self.found.pieces) - 1

    def _again(self, piece: Piece, x: Any, learnt: bool, told: bool) -> None:
        """An operator gives a view of a piece, or wrote to it."""
        piece.learnt |= learnt and x.is_floating_point()
        if told and not piece.entries and tuple(x.shape) == piece.shape:
            piece.entries = list(getattr(x, '_dms_axes', []))

    def _hold(self, storage: Any, place: int | str) -> None:
        key = storage._cdata
        self._known[key] = place
        if isinstance(place, int) and place >= 0:
            self._tensors[place] = self._tensors.get(place, 0) + 1
            self._refs[key] = weakref.ref(storage, functools.partial(self._gone, key, place))

    def _gone(self, key: int, place: int, ref: Any) -> None:
        self._known.pop(key, None)
        self._refs.pop(key, None)
        self._tensors[place] -= 1
        if not self._tensors[place]:
            self.found.pieces[place].dies = len(self.found.steps)

    def _of(self, x: Any) -> int | str:
        key = x.untyped_storage()._cdata
        if key not in self._known:
            name = getattr(x, '_dms_value_id', None)
            other = GIVEN if isinstance(x, FakeTensor) else OTHER
            self._hold(x.untyped_storage(), name if isinstance(name, str) else other)
        return self._known[key]

    def _varies(self, place: int | str) -> bool:
        return place == GIVEN or (isinstance(place, int) and place >= 0 and self.found.pieces[place].varies)

    def _learnt(self, place: int | str) -> bool:
        if isinstance(place, str):
            return place in self.found.parameters
        return place >= 0 and self.found.pieces[place].learnt

    def _kind(self, func: Any, args: Any, kwargs: Any, tensors: Sequence[Any], learnt: Sequence[bool]) -> Kind:
        key = func, tuple(learnt), tuple(x for x in args if isinstance(x, bool))
        if key not in self._kinds:
            needs = {id(x): need for x, need in zip(tensors, learnt)}

            def blank(x: Any) -> Any:
                return Blank(tuple(x.shape), x.dtype, needs.get(id(x), False)) if isinstance(x, torch.Tensor) else x

            self._kinds[key] = Kind(func, tree_map(blank, args), tree_map(blank, kwargs))
        return self._kinds[key]

    def whole(self, tensors: Sequence[Any]) -> None:
        """A module that is traced as one operator has ended: what is inside has the axes of what has its shape."""
        axes = [(tuple(x.shape), list(getattr(x, '_dms_axes', []))) for x in tensors]
        for piece in self._open:
            same = [entries for shape, entries in axes if shape == piece.shape]
            piece.entries = same[0] if same else _turned(piece, axes)
        self._open.clear()

    def enter(self, path: str, tensors: Sequence[Any]) -> None:
        """A module gets these."""
        for piece in self._pieces(tensors):
            piece.enters.add(path)

    def leave(self, path: str, results: Sequence[Any]) -> None:
        """A module gives these."""
        for piece in self._pieces(results):
            piece.leaves.add(path)

    def _pieces(self, tensors: Sequence[Any]) -> Iterator[Piece]:
        for x in tensors:
            place = self._known.get(x.untyped_storage()._cdata)
            if isinstance(place, int) and place >= 0:
                yield self.found.pieces[place]

    def _unrepeated(self, x: Any) -> tuple[tuple[int, ...], Entries]:
        """Shape and entries of a tensor, or of what it is a larger copy of."""
        place = self._of(x)
        if isinstance(place, int) and place >= 0:
            step = self.found.steps[self.found.pieces[place].born - 1]
            sources = [place, *(step.reads if step.kind.name == 'aten::clone' else [])]
            for piece in (self.found.pieces[k] for k in sources if isinstance(k, int) and k >= 0):
                if math.prod(piece.shape) < x.numel():
                    return piece.shape, piece.entries
        return tuple(int(n) for n in x.shape), list(getattr(x, '_dms_axes', []))

    @contextlib.contextmanager
    def attention(self, module: str, given: Sequence[Any]) -> Iterator[list[Any]]:
        """Products that one kernel makes without keeping what is between them; the result goes into the list."""
        _, key, value = given
        positions = math.prod(key.shape[:-3]) * int(key.shape[-2])
        self.found.attentions.append(Attention(module, self._unrepeated(key), self._unrepeated(value), positions))
        results: list[Any] = []
        begin, self._attention = len(self.found.steps), True
        try:
            yield results
        finally:
            self._attention = False
        reads = [self._of(x) for x in given]
        gives = [self._of(x) for x in results]
        for place in gives:
            if isinstance(place, int) and place >= 0:
                self.found.pieces[place].inner = False
                self._relaid.add(place)
        learnt = any(step.learnt for step in self.found.steps[begin:])
        for step in self.found.steps[begin:]:
            step.learnt = False
        self.found.steps.append(Step(ATTENTION, reads, gives, learnt))


def _turned(piece: Piece, axes: Sequence[tuple[tuple[int, ...], Entries]]) -> Entries:
    """The axes of the first tensor that is a permutation of a piece, where lengths tell which dimension is which."""
    for shape, entries in axes:
        lengths = [shape[d] for dims, _ in entries for d in dims]
        if lengths and sorted(shape) == sorted(piece.shape) and all(shape.count(n) == 1 for n in lengths):
            return [(tuple(piece.shape.index(shape[d]) for d in dims), ids) for dims, ids in entries]
    return []
