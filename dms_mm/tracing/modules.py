"""What happens where a module begins and ends: its path on the stack, its input and output, wholes, branches."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from . import residual, wholes
from .dispatch import Tracer
from .findings import Passed
from .ledger import Ledger, tensors_of


@contextlib.contextmanager
def module_stack(model: nn.Module, tracer: Tracer) -> Iterator[None]:
    """Keep the ledger's stack at the path of the running module, and note each module's input and output."""
    handles = []
    try:
        for path, module in model.named_modules():
            if path and not isinstance(module, torch.jit.ScriptModule):
                begin, end = _hooks(path, tracer)
                handles.append(module.register_forward_pre_hook(begin, with_kwargs=True, prepend=True))
                handles.append(module.register_forward_hook(end, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hooks(path: str, tracer: Tracer) -> tuple[Callable[..., None], Callable[..., None]]:
    running: list[wholes.Whole] = []

    def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
        x = next(iter(tensors_of((args, kwargs))), None)
        _begin(tracer.ledger, path, x)
        if x is not None and tracer.on_call is None and not tracer.suspended:
            residual.begin(tracer.ledger, path, x)
            if tracer.lives is not None:
                tracer.lives.enter(path, [x])
        if tracer.suspended:
            tracer.suspended += 1
        elif x is not None and tracer.on_call is None:
            whole = tracer.known.get(path)
            if whole is None:
                whole = wholes.recognise(module, x, Ledger.entries(x), (args[1:], kwargs if args else {}))
            if whole is not None:
                running.append(whole)
                tracer.ledger.trace.atomic.update(dict.fromkeys((path, tracer.ledger.where())))
                tracer.suspended = 1

    def end(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        if tracer.suspended:
            tracer.suspended -= 1
            if not tracer.suspended:
                tensors = tensors_of((args, kwargs))
                running.pop().trace(tracer.ledger, path, module, tensors[0], out)
                tracer.note_whole(path, [*tensors, *module.parameters(), *module.buffers()], tensors_of(out))
        if tracer.on_call is None and not tracer.suspended:
            given = {id(x) for x in tensors_of((args, kwargs))}
            results = tensors_of(out)
            if tracer.lives is not None:
                tracer.lives.leave(path, results)
            residual.end(tracer.ledger, path, out, [*results[:1], *(x for x in results[1:] if id(x) not in given)])
        _end(tracer.ledger, path, out, args, kwargs)

    return begin, end


def _begin(ledger: Ledger, path: str, x: Any) -> None:
    trace = ledger.trace
    ledger.enter(path, trace.names.get(path, ()))
    if path not in trace.io:
        trace.order.append(path)
    trace.io[path] = (_signature(x), None)
    if x is not None:
        ledger.inputs[path] = weakref.ref(x)
    ledger.callers.setdefault(path, []).append(frozenset(ledger.stack))


def _end(ledger: Ledger, path: str, out: Any, args: Any, kwargs: Any) -> None:
    ledger.leave()
    trace = ledger.trace
    first = next(iter(tensors_of(out)), None)
    if (isinstance(out, tuple) or len(args) != 1 or kwargs) and not _as_it_came(out, args, kwargs):
        passed = passed_on(out, first, args, kwargs)
        # Calls that differ in what they pass on are known by their length alone.
        plain = len(out) if isinstance(out, tuple) else 0
        trace.outputs[path] = passed if trace.outputs.get(path, passed) == passed else plain
    trace.io[path] = (trace.io[path][0], _signature(first))


def _as_it_came(out: Any, args: Any, kwargs: Any) -> bool:
    """A tuple of the input and what goes with it, for such a tuple."""
    given = args[0] if len(args) == 1 and not kwargs else None
    if not isinstance(given, tuple) or not isinstance(out, tuple) or len(given) != len(out):
        return False
    return all(a is b for a, b in zip(given[1:], out[1:]))


def passed_on(out: Any, first: Any, args: Any, kwargs: Any) -> Passed:
    """What of a module's arguments stands where in its output, if ``first``, its first tensor, is taken for its input.

    Returns:
        The length of a tuple, 0 for a tensor, if only the first positional argument is passed on, as the first; the
        keyword of the input of a tensor; or for each entry of a tuple the place or keyword of an argument, or None.
    """
    given: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    source = next((place for place, value in given if tensors_of(value)), 0)
    if not isinstance(out, tuple):
        return source if isinstance(source, str) else 0

    def place_of(k: int, value: Any) -> int | str | None:
        if value is first:
            return source
        # Numbers that are equal are one object: the argument at the same place comes first.
        same = [place for place, x in given if x is value and value is not None]
        return next((place for place in same if place == k), same[0] if same else None)

    places = [place_of(k, value) for k, value in enumerate(out)]
    return len(out) if places == [0, *[None] * (len(out) - 1)] else places


def _signature(x: Any) -> Any:
    return None if x is None else (tuple(x.shape), list(Ledger.entries(x)))
