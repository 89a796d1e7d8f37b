"""Numbers that name positions: what a choice among pruned positions gives, followed to where it picks by them.

In a slim model the positions that are left are numbered anew, and a choice among them gives their new numbers. So
whatever is picked by such numbers (a row of a parameter, an entry of a list) is tied to the positions that they name.
What computes with them in another way freezes the positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

from .elements import IntArray
from .ledger import Ledger, tensors_of
from .numbers import value_of

# Of the same numbers, in other places or fewer of them.
PASSING = set(
    'view _unsafe_view _reshape_alias unsqueeze squeeze permute transpose t expand repeat clone detach alias _to_copy '
    'lift_fresh slice select unbind split split_with_sizes sort'.split()
)
PICKING = {'index', '_unsafe_index', 'index_select', 'gather', 'embedding'}
COMPUTED = 'numbers of chosen positions in an operator that computes with them'


def name_positions(x: Any, line: IntArray) -> None:
    """The numbers in ``x`` say which of ``line`` (n,) something is of."""
    x._dms_names = line


def names_of(x: Any) -> IntArray | None:
    """The positions that the numbers in ``x`` name, if they do."""
    line: IntArray | None = getattr(x, '_dms_names', None)
    return line


def weigh(x: Any, line: IntArray) -> None:
    """Masks of ``line`` (n,) have weighed the scores in ``x``."""
    x._dms_weighed = line


def is_weighed(x: Any) -> bool:
    """Masks have weighed the scores in ``x`` already."""
    return getattr(x, '_dms_weighed', None) is not None


def follow_weighed(ledger: Ledger, out: Any, tensors: Sequence[Any]) -> None:
    """What is made of weighed scores is weighed, as long as it has the same positions."""
    line = next((x._dms_weighed for x in tensors if is_weighed(x)), None)
    if line is None:
        return
    roots = set(ledger.elements.find(line).tolist())
    for x in tensors_of(out):
        if any(roots.issuperset(ledger.elements.find(ids).reshape(-1).tolist()) for _, ids in ledger.entries(x)):
            weigh(x, line)


def picks(ledger: Ledger, x: Any, dim: int, index: Any) -> bool:
    """Positions of ``x`` are picked by names: they are tied to what is named. False if ``index`` names none of them."""
    line = names_of(index)
    if line is None:
        return False
    own = ledger.along(x, dim)
    if not own or len(line) < x.shape[dim]:
        ledger.freeze([((0,), line)], 'chosen positions that pick from what nothing prunes')
        return False
    for ids in own:
        ledger.elements.union(ids, line[: len(ids)])
    ledger.trace.looked_up.append(line)
    return True


def picks_one(ledger: Ledger, x: Any, dim: int, place: int) -> bool:
    """The same for a number that was read from a tensor of names just before."""
    if ledger.named is None:
        return False
    number, line, _ = ledger.named
    if number != place or len(line) - int(x.shape[dim]) not in (0, 1):
        return False
    for ids in ledger.along(x, dim):
        ledger.elements.union(ids, line[: len(ids)])
    ledger.trace.matched.append(line)
    return True


def name_hits(x: Any, out: Any) -> bool:
    """The numbers of what is not zero are names, where ``x`` is a line that is zero where it is dead."""
    entries = Ledger.entries(x)
    if x.ndim != 1 or len(entries) != 1 or Ledger.makers(x) != frozenset():
        return False
    name_positions(out, entries[0][1])
    return True


def follow_names(ledger: Ledger, name: str, out: Any, args: Sequence[Any], kwargs: Any) -> None:
    """Note what an operator makes of names among its tensors."""
    results = tensors_of(out)
    given = tensors_of((args, kwargs))
    line = names_of(given[0])
    if line is None:
        if name in PICKING:
            return
        if name == 'eq' and len(given) == 2:
            given, line = given[::-1], names_of(given[1])
    if line is None:
        lines = [names for x in given if (names := names_of(x)) is not None]
        ledger.freeze([((0,), names) for names in lines], COMPUTED)
    elif name in PASSING or name in PICKING:
        for x in results[:1] if name == 'sort' else results:
            name_positions(x, line)
    elif name == '_local_scalar_dense':
        ledger.note_named(int(out), line)
        ledger.trace.looked_up.append(line)
    elif _counts(ledger, name, results, line, args, kwargs) or _compares(ledger, name, out, given, line, args):
        ledger.trace.looked_up.append(line)
    else:
        ledger.freeze([((0,), line)], COMPUTED)


def _counts(
    ledger: Ledger, name: str, results: Sequence[Any], line: IntArray, args: Sequence[Any], kwargs: Any
) -> bool:
    """How often each position is named; of what is dead it is zero."""
    if name == 'histc':
        low, high = (kwargs.get(key, args[k] if k < len(args) else 0) for k, key in ((2, 'min'), (3, 'max')))
        fits = (low, high) == (0, len(line) - 1)
    else:
        fits = name == 'bincount'
    if not fits or results[0].shape != line.shape:
        return False
    ledger.put(results[0], [(0, line)], None, frozenset())
    return True


def _compares(ledger: Ledger, name: str, out: Any, given: Sequence[Any], line: IntArray, args: Sequence[Any]) -> bool:
    """Whether a position is named: a number, or each of the first so many, as one-hot encodings have them."""
    if name != 'eq':
        return False
    number = value_of(given[1]) if len(given) == 2 else args[1]
    if isinstance(number, torch.Tensor):
        with _disable_current_modes():
            values = number.detach().cpu().reshape(-1).tolist()
        if len(values) == 1:
            number = values[0]
        elif values == list(range(len(values))) and max(number.shape) == len(values):
            dim = out.ndim - number.ndim + list(number.shape).index(len(values))
            more = ledger.elements.new(max(0, len(values) - len(line)))
            ledger.elements.freeze(more, 'numbers behind the last of those that are named')
            ledger.put(out, [(dim, np.concatenate([line, more])[: len(values)])], None, frozenset())
            return True
    if not isinstance(number, int):
        return False
    ledger.note_named(number, line)
    return True
