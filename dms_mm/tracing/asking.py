"""Softmaxes, sigmoids and choices as a forward asks for them by name, which is where masks can get at their scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from .decisions import is_told
from .ledger import Ledger
from .recorder import Recorder

OPERATORS: dict[Any, str] = {
    **dict.fromkeys((functional.softmax, torch.softmax, Tensor.softmax), 'softmax'),
    **dict.fromkeys((torch.topk, Tensor.topk), 'topk'),
    **dict.fromkeys((torch.gather, Tensor.gather), 'gather'),
    **dict.fromkeys((functional.sigmoid, torch.sigmoid, Tensor.sigmoid), 'sigmoid'),
}
PLACES = {'softmax': 1, 'topk': 2, 'gather': 1}  # of the dimension, among the arguments


def asked_for(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, int] | None:
    """The operator and over how many positions, if they are the last dimension of its tensor."""
    operator = OPERATORS.get(func)
    x = args[0] if args else kwargs.get('input')
    if operator is None or not isinstance(x, Tensor) or not x.ndim:
        return None
    place = PLACES.get(operator, len(args))
    dim = args[place] if len(args) > place else kwargs.get('dim', -1)
    return (operator, int(x.shape[-1])) if dim in (-1, x.ndim - 1) else None


class Asked(TorchFunctionMode):
    """Tells a ledger which softmax or choice of the running modules the operator to come is, and where attention is."""

    def __init__(self, ledger: Ledger, lives: Recorder | None = None) -> None:
        super().__init__()
        self.ledger, self.lives = ledger, lives

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if is_told(func, args):
            return format(args[0].item(), args[1])
        if func is functional.scaled_dot_product_attention and self.lives is not None:
            return self._attention(func, args, kwargs or {})
        if func is torch.einsum:
            self.ledger.sums_out += 1
            try:
                return func(*args, **(kwargs or {}))
            finally:
                self.ledger.sums_out -= 1
        asked = asked_for(func, args, kwargs or {})
        if asked is None:
            return func(*args, **(kwargs or {}))
        self.ledger.ask(*asked)
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.ledger.asked = {}

    def _attention(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        assert self.lives is not None
        given = [*args[:3], *(kwargs[name] for name in ('query', 'key', 'value') if name in kwargs)]
        dropped = kwargs.get('dropout_p', args[4] if len(args) > 4 else 0.0)
        if dropped or len(given) != 3:  # no kernel of a CPU drops weights
            return func(*args, **kwargs)
        with self.lives.attention(self.ledger.where(), given) as results:
            results.append(func(*args, **kwargs))
        return results[0]
