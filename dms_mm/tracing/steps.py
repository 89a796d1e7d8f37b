"""What a forward asks torch for, function by function, as a device runs it: with attention, norms and recurrent layers
in one piece, where the operators that elements ride along are smaller.

Only shapes, elements and plain numbers are noted; no tensor is kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode, resolve_name

from .dispatch import Tracer
from .findings import Shaped, Slot, Step, Value
from .ledger import Ledger, tensors_of

PLAIN = (bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None))
# They make nothing and compute nothing.
SILENT = {'torch.Tensor.requires_grad_', 'torch.Tensor.detach'}


class Steps(TorchFunctionMode):
    """Notes in ``trace.steps`` every function of torch that a forward calls and that gives tensors."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer, self.ledger = tracer, tracer.ledger

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, '__name__', '') == '__get__':
            return func(*args, **kwargs)
        # Other modes would be told whatever is looked at here.
        with torch._C.DisableTorchFunction():
            tensors = tensors_of((args, kwargs))
            inputs = [self._shaped(x) for x in tensors]
            reads = [self.tracer.values.of(x) for x in tensors]
        out = func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            self._note(func, args, kwargs, tensors, inputs, reads, tensors_of(out))
        return out

    def _note(
        self, func: Any, args: Any, kwargs: Any, tensors: list[Any], inputs: list[Shaped], reads: list[Value],
        results: list[Any],
    ) -> None:  # fmt: skip
        # What tries a module on numbers meanwhile makes real tensors.
        if not any(isinstance(x, FakeTensor) for x in results) or name_of(func) in SILENT:
            return
        given = template((args, dict(kwargs)), iter(range(len(tensors))))
        step = Step(name_of(func), self.ledger.where(), given, inputs)
        if self.tracer.suspended:
            _carry(results, tensors, inputs)
        step.outputs = [self._shaped(x) for x in results]
        step.reads, step.gives = reads, [self.tracer.values.of(x) for x in results]
        step.view = _looked_at(tensors, reads, results, step.gives)
        self.ledger.trace.steps.append(step)

    def _shaped(self, x: Any) -> Shaped:
        shape = tuple(map(int, x.shape))
        axes = list(Ledger.entries(x))
        if not axes and self.tracer.suspended:
            axes = getattr(x, '_dms_carried', None) or self._given(shape)
        return Shaped(shape, axes, str(x.dtype), order_of(x))

    def _given(self, shape: tuple[int, ...]) -> Any:
        """Inside of a module that is traced as one nothing rides along: what is shaped like its input is like it."""
        for path in reversed(self.ledger.stack):
            begins = self.ledger.trace.io.get(path, (None, None))[0]
            if begins is not None and begins[0] == shape and begins[1]:
                return list(begins[1])
        return []


def order_of(x: Any) -> tuple[int, ...] | None:
    """Dimensions from the outermost to the innermost in memory; None if they lie as they are counted."""
    if x.layout is not torch.strided or x.ndim < 2:
        return None
    # Where there is one position, its stride says nothing.
    strides = {d: int(x.stride(d)) for d in range(x.ndim) if x.shape[d] > 1}
    moving = sorted(strides, key=lambda d: (-strides[d], d))
    if moving == sorted(moving):
        return None
    return (*(d for d in range(x.ndim) if d not in strides), *moving)


def template(given: Any, places: Iterator[int]) -> Any:
    """Arguments with a :class:`Slot` for every tensor, in the order of :func:`tensors_of`; what is neither a tensor nor
    plain is named by its class, as text that no function takes."""
    if isinstance(given, torch.Tensor):
        return Slot(next(places))
    if isinstance(given, Mapping):
        return {key: template(value, places) for key, value in given.items()}
    if isinstance(given, (tuple, list)):
        entries = [template(value, places) for value in given]
        return tuple(entries) if isinstance(given, tuple) else entries
    return given if isinstance(given, PLAIN) else f'<{type(given).__name__}>'


@functools.cache
def name_of(func: Any) -> str:
    """Dotted name by which a function is found again, empty if there is none."""
    name = resolve_name(func)
    if name is None and hasattr(func, '__module__') and hasattr(func, '__qualname__'):
        name = f'{func.__module__}.{func.__qualname__}'
    return name if name and found(name) is not None else ''


def found(name: str) -> Callable[..., Any] | None:
    """The function of a name of :func:`name_of`."""
    if not name.startswith('torch.'):
        return None
    value: Any = torch
    for part in name.split('.')[1:]:
        value = getattr(value, part, None)
    return value if callable(value) else None


def _carry(results: Sequence[Any], tensors: Sequence[Any], inputs: Sequence[Shaped]) -> None:
    """Inside of a module that is traced as one: the axes of what lies like an input that has them, or is shaped so."""
    known = [(x, shaped) for x, shaped in zip(tensors, inputs) if shaped.axes]
    for out in results:
        for x, shaped in known:
            if tuple(out.shape) == shaped.shape:
                out._dms_carried = shaped.axes
                break
            if out.untyped_storage()._cdata != x.untyped_storage()._cdata:
                continue
            # The same dimensions in another order: of one length, and as far apart.
            places = {(int(n), int(s)): d for d, (n, s) in enumerate(zip(out.shape, out.stride())) if n > 1}
            at = {d: places.get((n, int(x.stride(d)))) for d, n in enumerate(shaped.shape)}
            axes = [(tuple(at[d] for d in dims), ids) for dims, ids in shaped.axes]
            out._dms_carried = [(dims, ids) for dims, ids in axes if None not in dims]


def _looked_at(tensors: Sequence[Any], reads: Sequence[Value], results: Sequence[Any], gives: Sequence[Value]) -> bool:
    """Every result lies where an input lies, and none is an input that was written to."""
    before = {id(x): value for x, value in zip(tensors, reads)}
    stores = {x.untyped_storage()._cdata for x in tensors}
    return all(
        x.untyped_storage()._cdata in stores and before.get(id(x), value) == value for x, value in zip(results, gives)
    )
