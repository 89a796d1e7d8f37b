"""Writes down a forward's lifetimes of memory while it runs."""

from __future__ import annotations

import contextlib
import functools
import math
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_map

from .findings import Entries
from .lifetimes import ATTENTION, Attention, Blank, Kind, Lifetimes, Operation, Piece

GIVEN, OTHER = -1, -2  # in place of a piece: an input of the model, and what is neither of it nor of the forward


class Recorder:
    """Writes down one forward's :class:`Lifetimes`."""

    def __init__(self, parameters: set[str], training: bool, batch: int) -> None:
        self.found = Lifetimes(parameters)
        self._batch = batch
        self._training = training  # what autograd would keep is asked for
        self._known: dict[int, int | str] = {}  # storage -> piece, parameter, GIVEN or OTHER
        self._refs: dict[int, Any] = {}
        self._tensors: dict[int | str, int] = {}  # piece -> its storages
        self._kinds: dict[Any, Kind] = {}
        self._open: list[Piece] = []  # made inside of a whole, whose axes are not known yet
        self._attention = False
        self._relaid: set[int | str] = set()  # pieces that attention gives in the order in which they are asked for

    def note(
        self, func: Any, args: Any, kwargs: Any, tensors: Sequence[Any], results: Sequence[Any], module: str, told: bool
    ) -> None:
        """An operator ran; ``told`` if its rule has set the axes of its results."""
        reads = [self._of(x) for x in tensors]
        learnt = [self._learnt(place) and x.is_floating_point() for place, x in zip(reads, tensors)]
        kind = self._kind(func, args, kwargs, tensors, learnt)
        gives: list[int | str] = []
        for x in results:
            storage = x.untyped_storage()
            place = self._known.get(storage._cdata)
            if place is None:
                if kind.name == 'aten::clone' and reads[0] in self._relaid:
                    place = reads[0]
                else:
                    place = self._make(x, storage, module, told)
                    self.found.pieces[place].varies = any(map(self._varies, reads)) or self._of_batch(x, tensors)
                self._hold(storage, place)
            piece = self._piece(place)
            if piece is not None:
                piece.varies = piece.varies or (kind.writes and any(map(self._varies, reads)))
                piece.learnt = piece.learnt or (True in learnt and x.is_floating_point())
                if told and not piece.entries and tuple(x.shape) == piece.shape:
                    piece.entries = getattr(x, '_dms_axes', [])
            gives.append(place)
        in_view = kind.writes and any(x._is_view() for x in results)
        self.found.steps.append(Operation(kind, reads, gives, True in learnt, in_view))

    def _make(self, x: Any, storage: Any, module: str, told: bool) -> int:
        size, every = x.element_size(), storage.nbytes()
        shape = tuple(x.shape)
        whole = math.prod(shape) * size == every
        piece = Piece(module, shape if whole else (every // size,), [], size, x.is_floating_point(), self._now + 1)
        piece.inner = self._attention
        if whole and told:
            piece.entries = getattr(x, '_dms_axes', [])
        elif whole:
            self._open.append(piece)
        self.found.pieces.append(piece)
        return len(self.found.pieces) - 1

    @property
    def _now(self) -> int:
        return len(self.found.steps)

    def _piece(self, place: int | str | None) -> Piece | None:
        return self.found.pieces[place] if isinstance(place, int) and place >= 0 else None

    def _hold(self, storage: Any, place: int | str) -> None:
        key = storage._cdata
        self._known[key] = place
        self._tensors[place] = self._tensors.get(place, 0) + 1
        self._refs[key] = weakref.ref(storage, functools.partial(self._gone, key, place))

    def _gone(self, key: int, place: int | str, ref: Any) -> None:
        self._known.pop(key, None)
        self._refs.pop(key, None)
        self._tensors[place] -= 1
        piece = self._piece(place)
        if piece is not None and not self._tensors[place]:
            piece.dies = self._now

    def _of(self, x: Any) -> int | str:
        storage = x.untyped_storage()
        place = self._known.get(storage._cdata)
        if place is None:
            name = getattr(x, '_dms_value_id', None)
            other = GIVEN if isinstance(x, FakeTensor) else OTHER
            place = name if isinstance(name, str) else other
            self._hold(storage, place)
        return place

    def _of_batch(self, x: Any, tensors: Sequence[Any]) -> bool:
        """Made of no tensor, with the samples as its first dimension."""
        return not tensors and self._batch > 1 and x.ndim > 0 and x.shape[0] == self._batch

    def _varies(self, place: int | str) -> bool:
        piece = self._piece(place)
        return place == GIVEN if piece is None else piece.varies

    def _learnt(self, place: int | str) -> bool:
        if not self._training:
            return False
        piece = self._piece(place)
        return place in self.found.parameters if piece is None else piece.learnt

    def _kind(self, func: Any, args: Any, kwargs: Any, tensors: Sequence[Any], learnt: list[bool]) -> Kind:
        key = func, *((*learnt, *(x for x in args if isinstance(x, bool))) if True in learnt else ())
        kind = self._kinds.get(key)
        if kind is None:
            schema = func._schema
            kind = self._kinds[key] = Kind(schema.name, func._overloadname, schema.is_mutable)
            if True in learnt:
                needs = {id(x): need for x, need in zip(tensors, learnt)}

                def blank(x: Any) -> Any:
                    return Blank(tuple(x.shape), x.dtype, needs[id(x)]) if isinstance(x, torch.Tensor) else x

                kind.args, kind.kwargs = tree_map(blank, args), tree_map(blank, kwargs)
        return kind

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
            piece = self._piece(self._known.get(x.untyped_storage()._cdata))
            if piece is not None:
                yield piece

    def _unrepeated(self, x: Any) -> tuple[tuple[int, ...], Entries]:
        """Shape and entries of a tensor, or of what it is a larger copy of."""
        piece = self._piece(self._of(x))
        if piece is not None:
            step = self.found.steps[piece.born - 1]
            copied = map(self._piece, step.reads if step.kind.name == 'aten::clone' else ())
            for source in (piece, *copied):
                if source is not None and math.prod(source.shape) < x.numel():
                    return source.shape, source.entries
        return tuple(int(n) for n in x.shape), list(getattr(x, '_dms_axes', []))

    @contextlib.contextmanager
    def attention(self, module: str, given: Sequence[Any]) -> Iterator[list[Any]]:
        """Products that one kernel makes without keeping what is between them; the result goes into the list."""
        _, key, value = given
        sides = self._unrepeated(key), self._unrepeated(value)
        self.found.attentions.append(Attention(module, *sides, int(key.shape[-2])))
        results: list[Any] = []
        begin, self._attention = len(self.found.steps), True
        try:
            yield results
        finally:
            self._attention = False
        reads = [self._of(x) for x in given]
        gives = [self._of(x) for x in results]
        for place in gives:
            piece = self._piece(place)
            if piece is not None:
                piece.inner = False
                self._relaid.add(place)
        learnt = any(step.learnt for step in self.found.steps[begin:])
        for step in self.found.steps[begin:]:
            step.learnt = False
        self.found.steps.append(Operation(ATTENTION, reads, gives, learnt))


def _turned(piece: Piece, axes: Sequence[tuple[tuple[int, ...], Entries]]) -> Entries:
    """The axes of the first tensor that is a permutation of a piece, where lengths tell which dimension is which."""
    for shape, entries in axes:
        lengths = [shape[d] for dims, _ in entries for d in dims]
        if lengths and sorted(shape) == sorted(piece.shape) and all(shape.count(n) == 1 for n in lengths):
            return [(tuple(piece.shape.index(shape[d]) for d in dims), ids) for dims, ids in entries]
    return []
