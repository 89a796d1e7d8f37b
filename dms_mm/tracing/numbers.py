"""Numbers that operators get: plain ones, and tensors whose values are known because they were made from such.

A number may come from a width (the scale of attention does) and then differs in a slim model. Tensors made from numbers
alone, and from masks and indices among the inputs, have their true values beside them as ``_dms_value``.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map

from .findings import Numbers
from .ledger import tensors_of

LARGEST = 1 << 20  # positions of a tensor whose values are known
MOST_KEPT = 1 << 16  # of these are compared

# Operators that look at no tensor, and whose values are known.
FACTORIES = {
    f'aten::{name}'
    for name in 'arange linspace logspace full zeros ones eye tril_indices triu_indices scalar_tensor'.split()
}
# Lengths of what is looked at or made: shapes tell them, and what a slice begins with is compared by itself.
LENGTHS = set('size shape normalized_shape split_sizes split_size output_size repeats length n m N C HxW group'.split())
OF_SOME = {
    'aten::slice': {'start', 'end'},
    'aten::convolution': {'groups'},
    'aten::histc': {'bins', 'max'},
    **dict.fromkeys(
        ('aten::as_strided', 'aten::as_strided_', 'aten::empty_strided', 'aten::new_empty_strided'), {'stride'}
    ),
}
# Where a tensor lies is no number.
PLACE = {'pin_memory', 'layout'}
# A number that fills a tensor is a tensor first on some devices.
FILLS = {'aten::fill_', 'aten::copy_', 'aten::fill', 'aten::copy'}
NUMBER = (bool, int, float, complex, str)  # or a word that says how


@functools.cache
def _schema(func: Any) -> tuple[str, list[tuple[str, Any]], set[str]]:
    """Name, names and defaults of the arguments, and those that say lengths or where a tensor lies."""
    schema = func._schema
    arguments = [(a.name, a.default_value if a.has_default_value() else None) for a in schema.arguments]
    return schema.name, arguments, LENGTHS | PLACE | OF_SOME.get(schema.name, set())


def arguments_of(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """For every tensor among the arguments the name of its argument."""
    names = [name for name, _ in _schema(func)[1]]
    given = [*zip(names, args), *kwargs.items()]
    return [name for name, value in given for _ in tensors_of(value)]


def numbers_of(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Numbers:
    """The numbers among the arguments of an operator, without lengths and what is at its default."""
    name, arguments, lengths = _schema(func)
    result: Numbers = {}
    defaults = dict(arguments)
    for key, value in [*zip(defaults, args), *kwargs.items()]:
        if value is None or key in lengths or isinstance(value, (torch.dtype, torch.device)):
            continue
        if isinstance(value, NUMBER):
            if value != defaults.get(key) or type(value) is not type(defaults.get(key)):
                result[key] = np.asarray(value)
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], NUMBER):
            result[key] = np.asarray(value)
        else:
            for k, x in enumerate(tensors_of(value)):
                known = value_of(x) if made_of_numbers(x) else None
                if known is not None:
                    result[key if isinstance(value, torch.Tensor) else f'{key}[{k}]'] = _array(known)
    if name in FILLS:
        filled = [v for k, v in result.items() if k in ('value', 'src')]
        return {'value': filled[0].reshape(-1)[:1] if filled[0].size == 1 else filled[0]} if filled else {}
    return result


def start_of(func: Any, args: Sequence[Any]) -> tuple[int, int, int] | None:
    """The dimension of a slice, and where it begins: the first of so many positions as it steps over, and which of
    them; all counted from the first."""
    if func is not torch.ops.aten.slice.Tensor:
        return None
    x, dim, start = (*args, 0, None)[:3] if len(args) == 1 else (*args, None)[:3]
    dim, size = dim % x.ndim, int(x.shape[dim])
    start = 0 if start is None else int(start)
    start = min(max(start + size if start < 0 else start, 0), size)
    phase = start % (args[4] if len(args) > 4 else 1)
    return dim, start - phase, phase


def _array(x: torch.Tensor) -> np.ndarray:
    """The values of a tensor, once along dimensions where all are the same; of a large one some, and their sum."""
    with _disable_current_modes():
        x = x.detach()
        values: np.ndarray = (x.float() if x.dtype == torch.bfloat16 else x.resolve_conj().resolve_neg()).numpy()
    for d, size in enumerate(values.shape):
        first = values.take([0], d) if size > 1 else values
        if size > 1 and (values == first).all():
            values = first
    if values.size > MOST_KEPT:
        return np.append(values.reshape(-1)[:: values.size // MOST_KEPT], values.sum())
    return values.copy()


def value_of(x: Any) -> Any:
    """What is in a tensor, where that is known: constants, and what was computed from them."""
    if _has_values(x):
        return x if x.numel() <= LARGEST else None
    return getattr(x, '_dms_value', None)


def number_in(x: Any) -> float | None:
    """A real number, or the one in a tensor of one that was made from such."""
    if type(x) in (int, float):
        return float(x)
    known = value_of(x) if isinstance(x, torch.Tensor) and x.numel() == 1 and made_of_numbers(x) else None
    if known is None or known.is_complex():
        return None
    with _disable_current_modes():
        return float(known)


def _has_values(x: Any) -> bool:
    return type(x) is torch.Tensor and x.device.type == 'cpu'


def made_of_numbers(x: Any) -> bool:
    """The values of a tensor come from numbers alone, not from an input: a slim model may make others."""
    return _has_values(x) or getattr(x, '_dms_made', False)


class Known:
    """The values that one forward's tensors are known to have."""

    def __init__(self) -> None:
        self._holders: dict[int, list[weakref.ref[Any]]] = {}  # storage -> tensors with known values

    def value(self, func: Any, tensors: Sequence[Any], written: Sequence[Any], args: Any, kwargs: Any) -> Any:
        """The true result of an operator on constants, so that control flow may depend on them; None if not known."""
        if any(_has_values(y) for y in written):
            return None  # the operator itself writes there
        values = {id(x): value_of(x) for x in tensors}
        if any(v is None for v in values.values()):
            return None
        if not tensors and func._schema.name not in FACTORIES:
            return None
        with _disable_current_modes():
            true_args, true_kwargs = tree_map(lambda x: values.get(id(x), x), (args, kwargs))
            if isinstance(true_kwargs.get('device'), torch.device):
                true_kwargs['device'] = torch.device('cpu')
            try:
                value = func(*true_args, **true_kwargs)
            except Exception:
                return None
        small = isinstance(value, torch.Tensor) and value.numel() <= LARGEST and value.device.type == 'cpu'
        return value if small or isinstance(value, NUMBER) else None

    def note(self, out: Any, value: Any, tensors: Sequence[Any], written: Sequence[Any]) -> None:
        """An operator's result, or what it wrote to, has this value; None says that it is no longer known."""
        if isinstance(value, torch.Tensor) and isinstance(out, torch.Tensor) and not _has_values(out):
            out._dms_value = value  # type: ignore[attr-defined]
            out._dms_made = all(made_of_numbers(x) for x in tensors)  # type: ignore[attr-defined]
            self._holders.setdefault(out.untyped_storage()._cdata, []).append(weakref.ref(out))
        elif value is None:
            # Views of it hold something else now, too.
            for y in written:
                for other in self._holders.pop(y.untyped_storage()._cdata, ()) if not _has_values(y) else ():
                    if (z := other()) is not None:
                        z._dms_value = None
                if hasattr(y, '_dms_value'):
                    y._dms_value = None
