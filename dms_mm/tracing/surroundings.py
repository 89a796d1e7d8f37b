"""What the source files of a model keep outside of it: globals, attributes of classes, caches of functions."""

from __future__ import annotations

import collections
import functools
import gc
import inspect
import sys
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

# Libraries that keep nothing of a forward; what torch caches is torch's own business.
OTHERS = frozenset(sys.stdlib_module_names) - {'__main__'} | {'torch', 'numpy', 'dms_mm', 'pytest', '_pytest', 'pluggy'}
DEPTH = 3  # imports between a model's class and a file whose functions it calls
CONTAINERS = (dict, list, set, collections.deque)


class Surroundings(NamedTuple):
    """Where a model's classes and the functions that they call may keep something.

    ``containers`` are those in globals and closures, and the objects of classes of the same file.
    """

    classes: list[type]
    namespaces: list[dict[str, Any]]
    containers: list[Any]
    caches: list[Any]


@functools.lru_cache(maxsize=4)
def surroundings(kinds: frozenset[type]) -> Surroundings:
    """Those of modules of these classes. Found once: an import may add globals, but rarely a place to keep things."""
    classes = [
        base for base in {base: None for kind in kinds for base in kind.__mro__} if not _is_other(base.__module__)
    ]
    found = Surroundings(classes, [], [], [])
    for cls in classes:
        for value in list(vars(cls).values()):
            _note(found, value, cls.__module__)
    for name in _files(classes):
        namespace = vars(sys.modules[name])
        found.namespaces.append(namespace)
        for key, value in list(namespace.items()):
            if not key.startswith('__'):
                _note(found, value, name)
    return found


def _note(found: Surroundings, value: Any, file: str) -> None:
    value = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, functools._lru_cache_wrapper):
        found.caches.append(value)
    elif isinstance(value, CONTAINERS) or (type(value).__module__ == file and not isinstance(value, type)):
        found.containers.append(value)
    elif isinstance(value, types.FunctionType) and value.__module__ == file:
        # What a decorator of one's own remembers is in a closure; so is the function that it stands for.
        for cell in value.__closure__ or ():
            try:
                kept = cell.cell_contents
            except ValueError:
                continue
            if isinstance(kept, CONTAINERS):
                found.containers.append(kept)
            elif isinstance(kept, functools._lru_cache_wrapper):
                found.caches.append(kept)


def _files(classes: list[type]) -> list[str]:
    """Names of the source files of classes, and of those whose functions they import."""
    own = {cls.__module__.partition('.')[0] for cls in classes}
    found = dict.fromkeys(cls.__module__ for cls in classes if cls.__module__ in sys.modules)
    edge = list(found)
    for _ in range(DEPTH):
        edge = [name for file in edge for name in _imported(file) if name not in found and _is_ours(name, own)]
        edge = list(dict.fromkeys(edge))
        found.update(dict.fromkeys(edge))
    return list(found)


def _imported(file: str) -> Iterator[str]:
    for value in list(vars(sys.modules[file]).values()):
        if isinstance(value, types.ModuleType):
            name = value.__name__
        elif isinstance(value, functools._lru_cache_wrapper | types.FunctionType):
            name = value.__module__
        else:
            continue
        if name in sys.modules and vars(sys.modules[name]) is not None:
            yield name


def _is_other(name: str | None) -> bool:
    return name is None or name.partition('.')[0] in OTHERS


def _is_ours(name: str, own: set[str]) -> bool:
    """A file of a model's own package, or one that is no installed package."""
    if _is_other(name) or not isinstance(sys.modules[name], types.ModuleType):
        return False
    path = getattr(sys.modules[name], '__file__', None) or ''
    return name.partition('.')[0] in own or ('site-packages' not in path and 'dist-packages' not in path)


def results_of(cache: Any) -> Iterator[Any]:
    """The results that a function's ``lru_cache`` keeps, the attributes of objects among them."""
    for x in gc.get_referents(cache):
        if x is cache.__wrapped__ or x is vars(cache) or inspect.ismodule(x):
            continue
        yield x
        for y in x.values() if isinstance(x, dict) else [x]:
            if not isinstance(y, type) and type(getattr(y, '__dict__', None)) is dict:
                yield from list(vars(y).values())
