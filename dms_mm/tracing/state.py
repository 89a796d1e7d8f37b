"""What a forward may change in a model and in what it holds, and must find again: attributes, containers, closures.

A :class:`State` is taken before a forward, and is a context at whose end all is as it was. It lists every *holder*
that can be reached from a model: the attributes of modules and of plain objects, dictionaries, lists, deques and sets,
the cells of closures, the attributes of classes, the globals of the model's own source files, and random generators.
Holders are given back their contents in place, so that their identity stays.
"""

from __future__ import annotations

import collections
import copy
import enum
import functools
import operator
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import holders
from .holders import holds_tensors, may_hold_tensors, substituted
from .surroundings import results_of, surroundings

# Nothing in these changes, or it isn't the model's.
ATOMS = frozenset(
    [
        int, float, complex, bool, str, bytes, type(None), type(Ellipsis), type, range, slice, types.ModuleType,
        types.BuiltinFunctionType, types.MappingProxyType, torch.dtype, torch.device, torch.Size, torch.layout,
        torch.memory_format, np.dtype, weakref.ref, functools._lru_cache_wrapper,
    ]
)  # fmt: skip
FOREIGN = 'threading _thread logging socket concurrent multiprocessing asyncio _io io re torch'.split()
# What else leads on to objects that keep something.
PARTS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (types.FunctionType, ('__closure__', '__defaults__', '__kwdefaults__')),
    (types.MethodType, ('__self__', '__func__')),
    (partial, ('func', 'args', 'keywords')),
)
CONTAINERS = {
    dict, list, set, tuple, frozenset, collections.deque, collections.OrderedDict, collections.defaultdict,
    collections.Counter,
}  # fmt: skip
SMALL_ARRAY = 1 << 20  # bytes of a numpy array whose contents are kept

# Hooks and the like, a dozen of every module and nearly always empty: those that are have one holder together.
IDLE = {k for k, v in vars(nn.Module()).items() if isinstance(v, (dict, set))} - {'_parameters', '_buffers'}

ATTRIBUTE, ITEM = '.', '['  # steps: (kind, name or key)
Where = tuple[Any, ...]  # the way from a model to an object: (way to the one before, step), or () for the model


class Holder:
    """One holder: the way to its object, what was in it, and how that is looked at and given back.

    ``kind`` is :data:`ATTRIBUTE` for the attributes of the object, :data:`ITEM` for what it contains; ``start`` is what
    is in it when a forward starts.
    """

    __slots__ = ('before', 'kind', 'read', 'start', 'where', 'write')

    def __init__(self, where: Where | None, kind: str, read: Callable[[], Any], write: Callable[[Any], Any]) -> None:
        self.where, self.kind, self.read, self.write = where, kind, read, write
        self.before = self.start = read()

    def restore(self) -> None:
        if not _same(self.before, self.read()):
            self.write(self.before)


class State:
    """What can be reached from a model and from ``others``, as it is now.

    Args:
        model: the way to whatever it holds is kept, so that the same can be found in its copies.
        others: functions and objects that run with it.
        shared: of what the model itself holds, only functions: a copy of a model shares them with it.

    Attributes:
        tensors: those that were met, but for the model's surroundings.
    """

    def __init__(self, model: nn.Module, *others: Any, shared: bool = False) -> None:
        self.holders: list[Holder] = []
        self.tensors: list[Tensor] = []
        self._idle: list[Any] = []
        self._seen: dict[int, Any] = {}  # objects are held, so that their identity stays theirs
        own = [(x, None) for x in _functions(model)] if shared else [(model, ())]
        self._walk([*((x, None) for x in others), *own])
        around = surroundings(frozenset(type(m) for m in model.modules()))
        self.caches = [*around.caches, *(x for x in self._seen.values() if type(x) is functools._lru_cache_wrapper)]
        for cls in around.classes:
            self._add(None, ATTRIBUTE, partial(holders.attributes_of, cls), partial(holders.set_attributes, cls))
        for namespace in around.namespaces:
            self._add(None, ITEM, partial(holders.data_in, namespace), partial(holders.set_data, namespace))
        self._walk([(x, None) for x in around.containers], into_objects=False)
        self._add(None, ITEM, partial(holders.not_empty, self._idle), partial(holders.set_empty, self._idle))

    def __enter__(self) -> State:
        return self

    def __exit__(self, *error: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Give every holder its contents back, and empty caches of functions that kept tensors."""
        for holder in self.holders:
            holder.restore()
        empty(self.caches)

    def substitute(self, table: Mapping[int, Tensor]) -> None:
        """Put other tensors where those of these identities are, whatever holds them."""
        for holder in self._with_tensors:
            new = substituted(holder.before, table)
            if new is not None:
                holder.write(new)
            holder.start = holder.before if new is None else new

    @functools.cached_property
    def _with_tensors(self) -> list[Holder]:
        return [holder for holder in self.holders if may_hold_tensors(holder.before)]

    def changed(self) -> Iterator[tuple[Holder, Any]]:
        """Each holder of the model that changed since the forward started, and what is in it now."""
        for holder in self.holders:
            if holder.where is not None:
                now = holder.read()
                if not _same(holder.start, now):
                    yield holder, now

    # -- the walk
    def _add(self, where: Where | None, kind: str, read: Callable[[], Any], write: Callable[[Any], Any]) -> Any:
        holder = Holder(where, kind, read, write)
        self.holders.append(holder)
        return holder.before

    def _walk(self, found: list[tuple[Any, Where | None]], into_objects: bool = True) -> None:
        """Note all that can be reached; of what is global, only containers in containers: registries are large."""
        seen = self._seen
        while found:
            x, where = found.pop()
            if type(x) in ATOMS or id(x) in seen:
                continue
            seen[id(x)] = x
            for step, y in self._look(x, where):
                kind = type(y)
                if kind is functools._lru_cache_wrapper:
                    seen[id(y)] = y
                elif kind not in ATOMS and id(y) not in seen and (into_objects or kind in CONTAINERS):
                    found.append((y, None if where is None else (where, step)))

    def _look(self, x: Any, where: Where | None) -> list[tuple[Any, Any]]:
        """Note an object as a holder, if it is one, and tell the steps to what is in it."""
        if isinstance(x, dict):
            read = x.copy if type(x) is dict else partial(holders.items, x)
            items = self._add(where, ITEM, read, partial(holders.set_items, x))
            inside = [((ITEM, k), v) for k, v in items.items()]
        elif isinstance(x, (list, collections.deque)):
            line = self._add(where, ITEM, partial(list, x), partial(holders.set_line, x))
            inside = [((ITEM, k), v) for k, v in enumerate(line)]
        elif isinstance(x, set):
            inside = [((ITEM, None), v) for v in self._add(where, ITEM, partial(set, x), partial(holders.set_set, x))]
        elif isinstance(x, (tuple, frozenset)):
            inside = [((ITEM, k), v) for k, v in enumerate(x)]
        elif isinstance(x, Tensor):
            self.tensors.append(x)
            return []
        elif isinstance(x, (type, enum.Enum, types.ModuleType)):
            return []
        else:
            inside = self._parts(x)
        # Python's own containers have no attributes, and asking for them would make some.
        return inside if type(x) in CONTAINERS or is_foreign(x) else inside + self._attributes(x, where)

    def _parts(self, x: Any) -> list[tuple[Any, Any]]:
        if isinstance(x, types.CellType):
            kept = self._add(None, ITEM, partial(holders.cell, x), partial(holders.set_cell, x))
            return [((ITEM, k), v) for k, v in kept.items()]
        if isinstance(x, np.ndarray):
            if x.nbytes <= SMALL_ARRAY and x.flags.writeable and x.dtype.kind in 'biufc':
                self._add(None, ITEM, x.copy, partial(np.copyto, x))
        elif (access := holders.generator(x)) is not None:
            self._add(None, ITEM, *access)
        names = next((names for kind, names in PARTS if isinstance(x, kind)), ())
        return [((ATTRIBUTE, name), getattr(x, name)) for name in names]

    def _attributes(self, x: Any, where: Where | None) -> list[tuple[Any, Any]]:
        inside: dict[str, Any] = {}
        kind: Any = type(x)
        own, slots = getattr(x, '__dict__', None), holders.slots(kind)
        if type(own) is dict:
            inside |= self._add(where, ATTRIBUTE, own.copy, partial(holders.set_items, own))
        if isinstance(x, nn.Module):
            idle = [name for name in IDLE if name in inside and not inside[name]]
            self._idle += [inside.pop(name) for name in idle]
        if slots:
            read, write = partial(holders.read_slots, x, slots), partial(holders.write_slots, x, slots)
            inside |= self._add(where, ATTRIBUTE, read, write)
        return [((ATTRIBUTE, name), value) for name, value in inside.items()]


def _functions(model: nn.Module) -> list[Any]:
    found = []
    for module in model.modules():
        for value in vars(module).values():
            inside = value.values() if type(value) is dict else value if type(value) in (list, tuple) else (value,)
            found += [x for x in inside if isinstance(x, (types.FunctionType, functools._lru_cache_wrapper))]
    return found


def duplicate(model: nn.Module, memo: Mapping[int, Any] | None = None) -> nn.Module:
    """A deep copy; of what the model keeps of a graph, the values alone.

    Args:
        memo: identity of an object -> what stands for it in the copy.
    """
    # Most of what is in a module are containers without anything, and a copy of one by `copy` takes long.
    idle = [x for module in model.modules() for name in IDLE if not (x := vars(module).get(name, True))]

    def copied(known: Mapping[int, Any]) -> nn.Module:
        new: dict[int, Any] = {id(x): type(x)() for x in idle if type(x) in CONTAINERS}
        return copy.deepcopy(model, {**new, **known})

    try:
        return copied(memo or {})
    except RuntimeError:
        # Torch refuses to copy activations that have a graph, as a model may keep of its last forward.
        kept = without_graph(model)
        if not kept:
            raise
        return copied({**kept, **(memo or {})})


def without_graph(model: nn.Module) -> dict[int, Tensor]:
    """Identity -> copy of every tensor with a graph that a model keeps, for ``copy.deepcopy``."""
    return {id(x): x.detach().clone() for x in State(model).tensors if not x.is_leaf}


def empty(caches: Iterable[Any]) -> None:
    """Empty those caches of functions that hold tensors: a call more or less is all that anyone sees of it."""
    for cache in caches:
        if holds_tensors(list(results_of(cache))):
            cache.cache_clear()


def find(model: nn.Module, where: Where) -> Any:
    """The object at the end of a way from a model, or from a copy of the one that the way is of.

    Raises:
        LookupError, AttributeError, TypeError: there is none.
    """
    if not where:
        return model
    holder, (kind, key) = find(model, where[0]), where[1]
    if kind == ATTRIBUTE:
        own = getattr(holder, '__dict__', {})
        return own[key] if key in own else getattr(holder, key)
    return holder[key]


def is_foreign(x: Any) -> bool:
    """An object of the machinery, that a model holds and does not own."""
    module = type(x).__module__ or ''
    return not isinstance(x, nn.Module) and module.partition('.')[0] in FOREIGN and not module.startswith('torch.nn')


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        # The order of a dictionary is state, too.
        return len(a) == len(b) and all(map(operator.is_, a, b)) and all(map(operator.is_, a.values(), b.values()))
    if isinstance(a, list):
        return len(a) == len(b) and all(map(operator.is_, a, b))
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in 'fc'))
    if isinstance(a, Tensor):
        return bool(torch.equal(a, b))
    return bool(a == b)
