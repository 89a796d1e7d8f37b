"""How an operator gets its rule."""

from __future__ import annotations

from collections.abc import Callable

from ...registry import OPERATORS

Rule = Callable[..., None]


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register what operators do to the ids of their tensors; of several rules for one the user's last one counts.

    The rule is called as ``function(ledger, out, *args, **kwargs)`` with the :class:`~dms_mm.tracing.ledger.Ledger`,
    the operator's output and its arguments, as fake tensors, and puts axes on the output.

    Args:
        names: operators, ``'namespace::name'``, or ``'name'`` for ``aten::name``; overloads share one rule.
    """

    def register(function: Rule) -> Rule:
        for name in names:
            key = name if '::' in name else f'aten::{name}'
            present = OPERATORS.module_dict.get(key)
            ours = _is_ours(function)
            if present is None or not ours or _is_ours(present):
                OPERATORS.register_module(name=key, module=function, force=not ours)
        return function

    return register


def _is_ours(function: Rule) -> bool:
    return function.__module__.startswith(__package__ + '.')
