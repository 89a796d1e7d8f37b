"""The selector that a space names, for its units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..registry import SELECTORS, build
from ..topk import TopkBank
from .units import MutableUnit


def build_selector(spec: str | Mapping[str, Any], units: Sequence[MutableUnit]) -> TopkBank:
    """``'topk'``, or the ``type`` and options of a registered selector, made for the sizes, temperatures and bounds of
    ``units``, in their order.

    Raises:
        ValueError: an unknown selector or option, or a class that is no :class:`TopkBank`.
    """
    sizes, temperatures, min_keep = zip(*((u.size, u.temperature, u.min_keep) for u in units))
    bank = build(SELECTORS, spec, list(sizes), list(temperatures), list(min_keep), what='selector')
    if not isinstance(bank, TopkBank):
        raise ValueError(f'selector {type(bank).__name__} is no subclass of TopkBank')
    first: dict[str, int] = {}
    ties = [k if u.tie is None else first.setdefault(u.tie, k) for k, u in enumerate(units)]
    bank.limit([u.bounds()[1] for u in units], [u.round_to for u in units], ties)
    return bank
