"""What a model keeps from one forward to the next, and makes anew where it is missing.

A model that has run before keeps tables by shape, looked-up biases, its last activation. They are of the supernet's
sizes: a trace that met them would take them for constants, and a slim model that had them would fail on them. What a
traced forward fills is seen by comparing the model before and after it; what an earlier one filled, by trying whether
a forward fills it again.
"""

from __future__ import annotations

import collections
import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from .elements import IntArray
from .holders import ABSENT, attributes, holds_tensors, leaves, set_items, set_line
from .ledger import Ledger
from .state import ATTRIBUTE, State, Where, find

CONTAINERS = (dict, list, set, collections.deque)
MOST_TRIES = 12  # forwards that look for what was kept before
KEYS = (int, float, str, tuple)  # torch.Size is a tuple
Run = Callable[[Callable[[], bool]], bool]
INTERNAL = frozenset(vars(nn.Module()))  # what every module has


@dataclass(frozen=True)
class Cache:
    """Something that a forward fills with tensors, and what is in it before.

    Attributes:
        where: the way to its object from the model (:func:`~.state.find`).
        kind: whether it is in the object's attributes or in the object as a container.
        empty: key or name -> value before a forward, ``ABSENT`` for none; of a list or a set, all that is in it.
        ids: the elements of what a traced forward filled it with.
    """

    where: Where
    kind: str
    empty: Any
    ids: tuple[IntArray, ...] = ()

    def also(self, other: Cache) -> Cache:
        """The same, with what the forward of another mode filled."""
        empty = {**other.empty, **self.empty} if isinstance(self.empty, dict) else self.empty
        return replace(self, empty=empty, ids=(*self.ids, *other.ids))

    def forget(self, model: nn.Module) -> None:
        """Make the model's own as it is before a forward, unless there is no tensor in it."""
        try:
            owner = find(model, self.where)
        except (LookupError, AttributeError, TypeError):
            return
        if self.kind == ATTRIBUTE:
            self._forget_attributes(owner)
        elif isinstance(owner, dict):
            kept = {k: v for k, v in owner.items() if k in self.empty or not holds_tensors(v)}
            if len(kept) < len(owner):
                set_items(owner, kept)
        elif isinstance(owner, (list, collections.deque)) and holds_tensors(owner):
            set_line(owner, list(self.empty))
        elif isinstance(owner, set) and holds_tensors(owner):
            owner.clear()
            owner.update(self.empty)

    def _forget_attributes(self, owner: Any) -> None:
        if not any(holds_tensors(getattr(owner, name, None)) for name in self.empty):
            return
        for name, value in self.empty.items():
            if value is ABSENT:
                getattr(owner, '__dict__', {}).pop(name, None)
            else:
                object.__setattr__(owner, name, copy.copy(value) if isinstance(value, CONTAINERS) else value)


def forget(model: nn.Module, caches: Iterable[Cache]) -> nn.Module:
    """Make a model, in place, what it is before a forward, and return it."""
    for cache in caches:
        cache.forget(model)
    return model


def filled(state: State) -> Iterator[Cache]:
    """What a forward, from ``state`` until now, filled with tensors where there were none."""
    for holder, now in state.changed():
        before = holder.start
        if not isinstance(before, dict):
            if holds_tensors(now) and not holds_tensors(before):
                yield Cache(holder.where or (), holder.kind, list(before), _elements(now))
            continue
        new = {k for k, v in now.items() if holds_tensors(v) and not holds_tensors(before.get(k))}
        if new and holder.kind == ATTRIBUTE:
            # Numbers that go with the tensors are set back with them.
            keys = [k for k in {**before, **now} if before.get(k, ABSENT) is not now.get(k, ABSENT)]
            values = {k: before.get(k, ABSENT) for k in keys if k != 'training' and not holds_tensors(before.get(k))}
            yield Cache(holder.where or (), holder.kind, values, _elements([now[k] for k in new]))
        elif new:
            yield Cache(holder.where or (), holder.kind, before, _elements([now[k] for k in new]))


def _elements(x: Any) -> tuple[IntArray, ...]:
    return tuple(ids for tensor in leaves(x) for _, ids in Ledger.entries(tensor))


def kept_before(model: nn.Module, state: State, run: Run) -> list[Cache]:
    """What earlier forwards filled, and a forward fills again.

    Args:
        state: the model's.
        run: does a forward, calls its argument at the end of it and returns what that says, and leaves all as it was.
    """
    candidates = _candidates(model, state)
    if not candidates:
        return []
    everything = [cache for group in candidates.values() for cache in group]
    if _fills(model, everything, run):
        return everything
    found: list[Cache] = []
    tries = iter(range(MOST_TRIES))
    for group in candidates.values():
        for emptied in [group, *_with_a_key(model, group)]:
            if next(tries, None) is None:
                return found
            if _fills(model, found + emptied, run):
                found += emptied
                break
    return found


def _candidates(model: nn.Module, state: State) -> dict[Any, list[Cache]]:
    """Attributes that hold tensors, none of them a parameter or a buffer: class and name -> as emptied caches."""
    registered = {id(x) for x in [*model.parameters(), *model.buffers()]}
    found: dict[Any, list[Cache]] = {}
    for holder in state.holders:
        if holder.where is None or holder.kind != ATTRIBUTE:
            continue
        for name, value in holder.before.items():
            if name not in INTERNAL and holds_tensors(value) and not registered.intersection(map(id, leaves(value))):
                cache = Cache(holder.where, ATTRIBUTE, {name: _emptied(value)})
                found.setdefault((type(find(model, holder.where)), name), []).append(cache)
    return found


def _emptied(value: Any) -> Any:
    if not isinstance(value, CONTAINERS):
        return None
    value = copy.copy(value)
    value.clear()
    return value


def _with_a_key(model: nn.Module, group: list[Cache]) -> Iterator[list[Cache]]:
    """The same with a number or shape set back, by which a forward may see whether what it kept still fits."""
    names = {
        name: None
        for name, value in attributes(find(model, group[0].where)).items()
        if name not in INTERNAL and isinstance(value, KEYS) and not isinstance(value, bool)
    }
    for name in names:
        for start in (None, 0):
            yield [Cache(cache.where, cache.kind, {**cache.empty, name: start}) for cache in group]


def _fills(model: nn.Module, caches: list[Cache], run: Run) -> bool:
    """Whether a forward that starts from the emptied caches ends with what is in them now."""
    before = [_signature(find(model, cache.where), cache) for cache in caches]
    with State(model):
        forget(model, caches)
        try:
            return run(lambda: before == [_signature(find(model, cache.where), cache) for cache in caches])
        except Exception:
            return False


def _signature(owner: Any, cache: Cache) -> list[Any]:
    """Of a container, only that there are tensors in it: those for other shapes come with other forwards."""
    values = [getattr(owner, name, None) for name in cache.empty]
    return [
        holds_tensors(x)
        if isinstance(x, CONTAINERS)
        else [(tuple(y.shape), y.dtype) for y in leaves(x)]
        if holds_tensors(x)
        else x
        for x in values
    ]
