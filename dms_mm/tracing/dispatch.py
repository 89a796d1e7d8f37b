"""The dispatch mode under which a forward runs: it asks the rules what every operator does to element ids."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map

from ..registry import OPERATORS
from .findings import Call, Entries, Trace
from .ledger import Ledger, tensors_of
from .residual import follow
from .rules.constants import CONSTANTS
from .rules.parts import parts_of
from .rules.pointwise import pointwise
from .rules.products import COUNTED


class TraceError(RuntimeError):
    """The model could not be run on fake tensors."""


# Operators that look at no tensor, and whose values are known.
FACTORIES = {f'aten::{name}' for name in 'arange full zeros ones tril_indices triu_indices scalar_tensor'.split()}


class Tracer(TorchDispatchMode):
    """Applies the registered rules to every operator call, and keeps the list of them.

    Attributes:
        ledger: what the rules write to; its axes are on the fake tensors themselves.
        calls: the operators met.
        on_call: is told every operator call instead, and may end the forward by an exception.
        suspended: how many modules deep inside of a whole the forward is; its operators are not looked at.
        known: module -> what it is as a whole, found before this forward.
    """

    def __init__(
        self,
        trace: Trace,
        record_costs: bool,
        on_call: Callable[[Call], None] | None = None,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.ledger = Ledger(trace, record_costs)
        self.calls: list[Call] = []
        self.on_call = on_call
        self.suspended = 0
        self.known = known or {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return func(*args, **kwargs)
        parts = parts_of(func)
        if parts is not None:
            with self:
                return parts(*args, **kwargs)
        tensors = tensors_of((args, kwargs))
        # In-place operators change the axes of their own input: look at them first.
        watched = self.on_call is None and not self.suspended
        call = self._before(func, tensors, args) if watched else None
        known = _known_value(func, tensors, args, kwargs)
        if func is torch.ops.aten._local_scalar_dense.default and known is not None:
            return known
        out = func(*args, **kwargs)
        if isinstance(known, torch.Tensor) and isinstance(out, torch.Tensor):
            out._dms_value = known  # type: ignore[attr-defined]
        if self.suspended:
            return out
        if call is not None:
            self._follow(func, call, tensors, out, args, kwargs)
        elif self.on_call is not None:
            # Nothing rides along: the shapes and numbers are all that is asked for.
            name = func._schema.name
            self.on_call(Call(name, self.ledger.where(), _shapes(tensors_of(out)), scalars=_numbers(name, args)))
        return out

    def _before(self, func: Any, tensors: list[Any], args: Any) -> Call:
        name = func._schema.name
        return Call(
            name,
            self.ledger.where(),
            shapes=[],
            input_shapes=_shapes(tensors),
            input_axes=[list(Ledger.entries(x)) for x in tensors],
            makers=[Ledger.makers(x) for x in tensors],
            scalars=_numbers(name, args),
        )

    def _follow(self, func: Any, call: Call, tensors: list[Any], out: Any, args: Any, kwargs: Any) -> None:
        """Let the rule write what becomes of the ids, and complete the call."""
        if any(call.input_axes) or call.name in CONSTANTS or call.name in COUNTED:
            try:
                self._apply(func, call.name, out, args, kwargs)
            except (TypeError, IndexError, ValueError, AttributeError) as error:
                raise TraceError(f'rule of {call.name} failed in {call.module!r}: {error!r}') from error
            written = _written(func, args, kwargs)
            for x, before in zip(tensors, call.makers):
                if any(x is y for y in written):
                    self.ledger.overwrite(x, before, any(x is y for y in tensors_of(out)))
        results = tensors_of(out)
        self.ledger.use(tensors, results)
        follow(self.ledger, func, out, tensors, args, kwargs)
        call.shapes = _shapes(results)
        call.axes = [list(Ledger.entries(x)) for x in results]
        call.free = [Ledger.free(x) for x in results]
        self.calls.append(call)

    def _apply(self, func: Any, name: str, out: Any, args: Any, kwargs: Any) -> None:
        # Registry.get walks up to parents and locations: too slow for every call.
        handler = OPERATORS.module_dict.get(name)
        if handler is None and torch.Tag.pointwise in func.tags:
            handler = pointwise
        if handler is pointwise:
            pointwise(self.ledger, out, *args, operator=name.partition('::')[2], **kwargs)
        elif handler is not None:
            handler(self.ledger, out, *args, **kwargs)
        elif tensors_of(out):
            touched: list[Entries] = [e for x in tensors_of((args, kwargs)) if (e := Ledger.entries(x))]
            if touched:
                self.ledger.trace.unknown.setdefault(name, self.ledger.where())
            for entries in touched:
                self.ledger.freeze(entries, f'no rule for operator {name}')


@functools.cache
def _writes(func: Any) -> list[tuple[int, str]]:
    """Place and name of the arguments that an operator writes to."""
    arguments = func._schema.arguments
    return [(k, a.name) for k, a in enumerate(arguments) if a.alias_info is not None and a.alias_info.is_write]


def _written(func: Any, args: Any, kwargs: Any) -> list[Any]:
    given = [args[k] if k < len(args) else kwargs.get(name) for k, name in _writes(func)]
    return tensors_of(given)


def _shapes(tensors: list[Any]) -> list[tuple[int, ...]]:
    return [tuple(int(s) for s in x.shape) for x in tensors]


def _numbers(name: str, args: Any) -> tuple[float, ...]:
    """Plain numbers among the arguments of arithmetic: a scale that depends on a size shows here."""
    if name.partition('::')[2] not in ('mul', 'div', 'mul_', 'div_', 'pow', 'full', 'add', 'sub'):
        return ()
    return tuple(float(a) for a in args if type(a) in (int, float))


def _value(x: Any) -> Any:
    """What is in a tensor, where that is known: constants, and what was computed from them."""
    if isinstance(x, FakeTensor):
        return getattr(x, '_dms_value', None)
    return None if x.is_floating_point() else x


def _known_value(func: Any, tensors: list[Any], args: Any, kwargs: Any) -> Any:
    """The true result of operators on masks and indices, so that control flow may depend on them."""
    values = {id(x): _value(x) for x in tensors}
    if any(v is None for v in values.values()):
        return None
    if not tensors and func._schema.name not in FACTORIES:
        return None
    with _disable_current_modes():
        true_args, true_kwargs = tree_map(lambda x: values.get(id(x), x), (args, kwargs))
        try:
            value = func(*true_args, **true_kwargs)
        except Exception:
            return None
    small = isinstance(value, torch.Tensor) and value.numel() <= 1 << 20 and value.device.type == 'cpu'
    return value if small or isinstance(value, (bool, int, float)) else None
