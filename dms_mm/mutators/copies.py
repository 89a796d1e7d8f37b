"""Copies of a model that keeps what it computed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

from ..topk import TopkBank

CLOSED = (type, str, bytes, FunctionType, BuiltinFunctionType, MethodType, ModuleType, TopkBank)


def copied_without_graph(model: nn.Module) -> nn.Module:
    """A deep copy; activations that the model keeps, which torch doesn't copy with their graph, are copied without."""
    return copy.deepcopy(model, without_graph(model))


def without_graph(model: nn.Module) -> dict[int, Any]:
    """For ``copy.deepcopy``: copies of the activations that a model keeps."""
    return {id(x): x.detach().clone() for x in _tensors_in(model) if not x.is_leaf}


def _tensors_in(thing: Any) -> Iterator[Tensor]:
    """The tensors that are kept in attributes and containers, however deep."""
    seen: set[int] = set()
    waiting = [thing]
    while waiting:
        x = waiting.pop()
        if id(x) in seen or isinstance(x, CLOSED):
            continue
        seen.add(id(x))
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, Mapping):
            waiting += x.values()
        elif isinstance(x, (list, tuple, set, frozenset)):
            waiting += x
        slots = [s for cls in type(x).__mro__ for s in getattr(cls, '__slots__', ())]
        waiting += [getattr(x, s) for s in slots if hasattr(x, s)]
        waiting += getattr(x, '__dict__', {}).values()
