"""How a kind of whole module is asked for."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn

from ...registry import WHOLES
from ..findings import Entries, Trace
from ..ledger import Ledger


class Whole(Protocol):
    """What one module is as a whole; its class is a kind, registered in ``registry.WHOLES``.

    A kind may also have a class method ``find(model, trace) -> dict[str, Whole]``, asked after a forward in which
    operators froze what they mix (``trace.stuck``): what it finds, by path, is known when the model is traced again.
    """

    @classmethod
    def recognise(cls, module: nn.Module, x: Any, entries: Entries, rest: Any) -> Whole | None:
        """What ``module`` is, or None if it is not of this kind.

        Args:
            x: its first tensor, a fake one.
            entries: the ids of ``x``; empty if nothing of it can be pruned.
            rest: the other positional and keyword arguments of the call, ``(args, kwargs)``.
        """

    def trace(self, ledger: Ledger, path: str, module: nn.Module, x: Any, out: Any) -> None:
        """Put axes on the output ``out``, and tie or freeze those of ``x`` and of the module's parameters.

        The operators inside are not looked at; parameters that are used are told by :meth:`Ledger.use`.
        """


def recognise(module: nn.Module, x: Any, entries: Entries, rest: Any) -> Whole | None:
    """What a module is as a whole, of the kind registered last that takes it; None for most."""
    for kind in reversed(WHOLES.module_dict.values()):
        whole: Whole | None = kind.recognise(module, x, entries, rest)
        if whole is not None:
            return whole
    return None


def find(model: nn.Module, trace: Trace) -> dict[str, Whole]:
    """Wholes by path that can be told only after a first forward."""
    found: dict[str, Whole] = {}
    for kind in WHOLES.module_dict.values():
        if hasattr(kind, 'find'):
            found.update(kind.find(model, trace))
    return found
