"""Sums that make residual blocks: follow ``x + f(x)`` through a module, so that none need be named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .ledger import Ledger, tensors_of
from .rules.pointwise import ZERO_KEEPING


def sums(x: Any) -> dict[str, tuple[str, ...]]:
    """Module -> the modules whose outputs were added to that module's input to give ``x``."""
    return getattr(x, '_dms_sums', {})


CARRY = set('view _unsafe_view reshape _reshape_alias permute transpose clone contiguous _to_copy'.split())


def note_sum(ledger: Ledger, name: str, out: Any, tensors: Sequence[Any]) -> None:
    """What an operator does to sums of inputs and branches; ``tensors`` are its arguments."""
    short = name.partition('::')[2]
    if short in CARRY and len(tensors) == 1 and sums(tensors[0]):
        out._dms_sums = sums(tensors[0])
    elif short in ('add', 'add_') and len(tensors) == 2:
        _add(ledger, out, tensors)
    elif short in ('relu', 'relu_') and len(tensors) == 1:
        # An input that is rectified already passes as it is, once nothing is added to it.
        out._dms_sums = {path: added for path, added in sums(tensors[0]).items() if path in ledger.rectified}
        out._dms_rectified = True
        out._dms_from = getattr(tensors[0], '_dms_from', None)
    elif short in ('mul', 'mul_', 'div') and tensors and getattr(tensors[0], '_dms_from', None) is not None:
        # A branch times a constant or a parameter (alpha, LayerScale) is zero when the branch is.
        scaled = all(x.numel() == 1 or ledger.source(x) for x in tensors[1:])
        out._dms_from = tensors[0]._dms_from if scaled else None
        out._dms_sums, out._dms_rectified = {}, False
    elif short in ZERO_KEEPING and len(tensors) == 1 and getattr(tensors[0], '_dms_from', None) is not None:
        # As is what it makes of a branch without a module of its own.
        out._dms_from = tensors[0]._dms_from
        out._dms_sums, out._dms_rectified = {}, False
    elif short.endswith('_') and not short.startswith('_'):
        # In place: what the tensor was is gone.
        for x in tensors_of(out):
            x._dms_sums, x._dms_rectified = {}, False


def _add(ledger: Ledger, out: Any, tensors: Sequence[Any]) -> None:
    here = ledger.where()
    result: dict[str, tuple[str, ...]] = {}
    for x, branch in (tensors, tensors[::-1]):
        made = getattr(branch, '_dms_from', None)
        for path, added in sums(x).items():
            inside = path == here or here.startswith(path + '.')
            if made is not None and inside and made.startswith(path + '.') and path not in sums(branch):
                result[path] = (*added, made)
    out._dms_sums = result
    out._dms_from = None
    out._dms_rectified = False
