"""Operators that make tensors of given lengths, or like another."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ledger import Ledger
from .table import rule


@rule('zeros_like')
def zeros(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    """Zero where its model is dead, whatever is masked."""
    ledger.put(out, ledger.entries(x), None, frozenset(), ledger.free(x))


@rule('ones_like', 'empty_like', 'rand_like', 'randn_like', 'randint_like', 'full_like')
def like(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    ledger.put(out, ledger.entries(x), None, None, ledger.free(x))


SIZED = (
    'full zeros ones empty rand randn randint empty_strided empty_permuted new_zeros new_ones new_full new_empty '
    'new_empty_strided'
).split()


@rule(*SIZED)
def constant(ledger: Ledger, out: Any, *args: Any, **kwargs: Any) -> None:
    """A new tensor has whatever lengths its maker asked for: elements that tie what it meets."""
    ledger.put(out, [(d, ledger.elements.new(out.shape[d])) for d in range(out.ndim) if out.shape[d] > 1])


@rule('eye')
def eye(ledger: Ledger, out: Any, *args: Any, **kwargs: Any) -> None:
    """Row and column of one number go together."""
    if out.shape[0] == out.shape[1]:
        line = ledger.elements.new(out.shape[0])
        ledger.put(out, [(0, line), (1, np.copy(line))])


# Rules that are asked although no input carries elements.
CONSTANTS = {f'aten::{name}' for name in (*SIZED, 'eye')}
