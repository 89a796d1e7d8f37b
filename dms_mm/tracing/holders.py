"""How the contents of each kind of holder (:mod:`.state`) are read, and given back in place."""

from __future__ import annotations

import collections
import functools
import random
import types
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

ABSENT: Any = object()
CODE = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)


def leaves(x: Any) -> Iterator[Tensor]:
    """The tensors in nested containers."""
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, Mapping):
        for y in x.values():
            yield from leaves(y)
    elif isinstance(x, (list, tuple, set, frozenset, collections.deque)):
        for y in x:
            yield from leaves(y)


def holds_tensors(x: Any) -> bool:
    """A tensor, or a container with one in it."""
    return next(leaves(x), None) is not None


def may_hold_tensors(x: Any) -> bool:
    """Whether :func:`substituted` can find something."""
    inside = x.values() if isinstance(x, dict) else x if isinstance(x, (list, set)) else ()
    return any(isinstance(y, Tensor) or type(y) is tuple for y in inside)


def substituted(x: Any, table: Mapping[int, Tensor]) -> Any:
    """Contents with other tensors, or None where there is none of them."""
    if isinstance(x, dict):
        new = {k: y for k, v in x.items() if (y := _exchanged(v, table)) is not None}
        return {**x, **new} if new else None
    if isinstance(x, (list, set)):
        line = [_exchanged(v, table) for v in x]
        return type(x)(v if y is None else y for v, y in zip(x, line)) if any(y is not None for y in line) else None
    return None


def _exchanged(x: Any, table: Mapping[int, Tensor]) -> Any:
    """What stands for a tensor, or for a tuple with it."""
    if isinstance(x, Tensor):
        return table.get(id(x))
    if type(x) is tuple:
        parts = [_exchanged(y, table) for y in x]
        return tuple(y if z is None else z for y, z in zip(x, parts)) if any(z is not None for z in parts) else None
    return None


def items(x: dict[Any, Any]) -> dict[Any, Any]:
    return dict(dict.items(x))


def set_items(x: dict[Any, Any], saved: dict[Any, Any]) -> None:
    base: Any = collections.OrderedDict if isinstance(x, collections.OrderedDict) else dict
    base.clear(x)
    for key, value in saved.items():
        base.__setitem__(x, key, value)


def set_line(x: Any, saved: list[Any]) -> None:
    x.clear()
    x.extend(saved)


def set_set(x: set[Any], saved: set[Any]) -> None:
    x.clear()
    x.update(saved)


def not_empty(containers: list[Any]) -> list[Any]:
    return [x for x in containers if x]


def set_empty(containers: list[Any], saved: list[Any]) -> None:
    for x in not_empty(containers):
        x.clear()


def cell(x: types.CellType) -> dict[str, Any]:
    try:
        return {'': x.cell_contents}
    except ValueError:
        return {}


def set_cell(x: types.CellType, saved: dict[str, Any]) -> None:
    if saved:
        x.cell_contents = saved['']
    else:
        del x.cell_contents


@functools.lru_cache(maxsize=1024)
def slots(cls: type) -> list[str]:
    found: list[str] = []
    for base in cls.__mro__:
        names = vars(base).get('__slots__', ())
        for name in [names] if isinstance(names, str) else names:
            if isinstance(vars(base).get(name), types.MemberDescriptorType) and base.__module__ != 'builtins':
                found.append(name)
    return found


def read_slots(x: Any, names: list[str]) -> dict[str, Any]:
    values = {name: getattr(x, name, ABSENT) for name in names}
    return {name: value for name, value in values.items() if value is not ABSENT}


def write_slots(x: Any, names: list[str], saved: dict[str, Any]) -> None:
    for name in names:
        if name in saved:
            object.__setattr__(x, name, saved[name])
        elif hasattr(x, name):
            object.__delattr__(x, name)


def attributes(x: Any) -> dict[str, Any]:
    """What an object itself has, in its dictionary and in slots."""
    kind: Any = type(x)
    return {**getattr(x, '__dict__', {}), **read_slots(x, slots(kind))}


def attributes_of(cls: type) -> dict[str, Any]:
    return {k: v for k, v in vars(cls).items() if not k.startswith('__')}


def set_attributes(cls: type, saved: dict[str, Any]) -> None:
    now = attributes_of(cls)
    for name in now.keys() - saved.keys():
        type.__delattr__(cls, name)
    for name, value in saved.items():
        if now.get(name, ABSENT) is not value:
            type.__setattr__(cls, name, value)


def data_in(namespace: dict[str, Any]) -> dict[str, Any]:
    """Globals that are data: modules and functions may be loaded when they are first asked for, and stay."""
    return {k: v for k, v in namespace.items() if not k.startswith('__') and not isinstance(v, CODE)}


def set_data(namespace: dict[str, Any], saved: dict[str, Any]) -> None:
    for name in data_in(namespace).keys() - saved.keys():
        del namespace[name]
    namespace.update(saved)


def generator(x: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]] | None:
    """How the state of a random generator is read and written."""
    if isinstance(x, random.Random):
        return x.getstate, x.setstate
    if isinstance(x, np.random.Generator):
        bits = x.bit_generator
        return lambda: bits.state, partial(setattr, bits, 'state')
    if isinstance(x, np.random.RandomState):
        return lambda: x.get_state(legacy=False), x.set_state
    if isinstance(x, torch.Generator):
        return x.get_state, x.set_state
    return None
