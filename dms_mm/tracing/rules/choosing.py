"""Choices among positions: a softmax over scores, the best of them, and products by what was chosen.

A position that is masked by ``m`` gets ``log(m)`` added where its scores enter the first such operator, or is
multiplied by ``m`` where they are no logarithms: it weighs as little as ``m`` says. Later ones only see to it that what
is dead is never chosen. The numbers of what is chosen *name* positions; they are other ones in a slim model, and
:mod:`..named` follows them.
"""

from __future__ import annotations

from typing import Any

from ..findings import Choice, Entries
from ..flow import flow_of
from ..ledger import Ledger, tensors_of
from ..named import is_weighed, name_positions, names_of, weigh
from .along import act_along
from .indexing import picked_along
from .layout import align, dims_of, touching, wrap
from .pointwise import pointwise
from .products import contract, zero_where
from .reductions import extremum
from .table import rule

CHOICE = 'a softmax, sort, choice or transform along pruned positions'
GROUPED = 'a grouped matrix product'
ALIGNMENT = 16  # bytes of which the rows that a grouped product takes are multiples


def _scored(x: Any, dim: int) -> Entries:
    """The one line of elements that a choice may be among, if these are all that ``x`` carries."""
    entries = Ledger.entries(x)
    fits = x.ndim <= 3 and len(entries) == 1 and entries[0][0] == (x.ndim - 1,) == (dim,)
    return entries if fits and x.is_floating_point() and flow_of(x).data else []


def mask_scores(ledger: Ledger, x: Any, operator: str, entries: Entries, way: str = 'add') -> bool:
    """Scores are to be masked as they enter the operator that runs now; False if no mask can get there."""
    path = ledger.stack[-1]
    place = ledger.asked.get(path)
    if place is None or place[:2] != (operator, int(x.shape[-1])):
        return False
    reason = f'{CHOICE} in {ledger.where() or "the model"}'
    ledger.trace.choices.append(Choice(path, *place, entries[0][1], way, reason))
    x._dms_scores = True
    return True


def way_of(x: Any) -> str:
    """What masks do to scores that enter a choice: those that are never negative weigh by themselves."""
    return 'bar' if is_weighed(x) else 'multiply' if flow_of(x).low >= 0 else 'add'


def _choose(ledger: Ledger, out: Any, x: Any, count: int, dim: int, operator: str) -> bool:
    """The numbers of the best are names; False if the scores of what is dead may be among them."""
    entries = _scored(x, dim)
    shares = ledger.makers(x) == frozenset() and flow_of(x).low >= 0
    if not entries or not (shares or mask_scores(ledger, x, operator, entries, way_of(x))):
        return False
    line = entries[0][1]
    ledger.trace.chosen.append((line, count))
    for result in tensors_of(out):
        ledger.put(result, [])
    name_positions(tensors_of(out)[-1], line)
    return True


@rule('_softmax')
def softmax(ledger: Ledger, out: Any, x: Any, dim: int, *args: Any, **kwargs: Any) -> None:
    """It gives nothing to what is dead, if its scores can be masked. What nothing is chosen by stays all the same."""
    entries = _scored(x, wrap(dim, x.ndim))
    if entries and mask_scores(ledger, x, 'softmax', entries):
        ledger.put(out, entries, None, frozenset())
        weigh(out, entries[0][1])
    else:
        act_along(ledger, out, x, {wrap(dim, x.ndim)}, CHOICE)


@rule('sigmoid')
def sigmoid(ledger: Ledger, out: Any, x: Any) -> None:
    """Of scores by which something is chosen, masks weigh the odds."""
    pointwise(ledger, out, x, operator='sigmoid')
    entries = _scored(x, x.ndim - 1)
    if entries and mask_scores(ledger, x, 'sigmoid', entries):
        weigh(out, entries[0][1])


@rule('topk')
def topk(ledger: Ledger, out: Any, x: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> None:
    if not largest or not _choose(ledger, out, x, k, wrap(dim, x.ndim), 'topk'):
        act_along(ledger, out, x, {wrap(dim, x.ndim)}, CHOICE, zero=True)


@rule('argmax')
def argmax(ledger: Ledger, out: Any, x: Any, dim: Any = None, *args: Any, **kwargs: Any) -> None:
    if dim is None or not _choose(ledger, out, x, 1, wrap(dim, x.ndim), ''):
        act_along(ledger, out, x, dims_of(dim, x.ndim), 'a reduction over pruned positions', mix=True)


@rule('max')
def maximum(ledger: Ledger, out: Any, x: Any, dim: Any = None, *args: Any, **kwargs: Any) -> None:
    if type(dim) is not int or not _choose(ledger, out, x, 1, wrap(dim, x.ndim), ''):
        extremum(ledger, out, x, dim, *args, **kwargs)


@rule('gather')
def gather(ledger: Ledger, out: Any, x: Any, dim: int, index: Any, *args: Any, **kwargs: Any) -> None:
    """Scores by which something was chosen are masked here, too, if they are looked up again as they were."""
    dim = wrap(dim, x.ndim)
    if getattr(x, '_dms_scores', False) and not is_weighed(x) and names_of(index) is not None:
        entries = _scored(x, dim)
        if entries and not mask_scores(ledger, x, 'gather', entries, way_of(x)):
            ledger.freeze(entries, 'scores of the chosen that no mask gets at')
    picked_along(ledger, out, x, dim, index)


@rule('_grouped_mm')
def grouped_mm(ledger: Ledger, out: Any, x: Any, w: Any, offs: Any = None, *args: Any, **kwargs: Any) -> None:
    """Rows of ``x`` up to each offset times the matrix of their group: the experts of a mixture."""
    if offs is None or x.ndim != 2 or w.ndim != 3:
        for y in (x, w, offs):
            ledger.freeze(ledger.entries(y), f'{GROUPED} of {x.ndim} and {w.ndim} dimensions')
        return ledger.put(out, [])
    contract(ledger, x, 1, w, 1, GROUPED)
    groups, ends = touching(ledger, w, {0}), touching(ledger, offs, {0})
    if not getattr(offs, '_dms_ends', False):
        # Rows of a group that is dead would go to the next one.
        ledger.freeze(ends, f'{GROUPED} of groups that may have rows when they are dead')
    align(ledger, [[ids for _, ids in groups], [ids for _, ids in ends]], f'{GROUPED} of fixed groups')
    ledger.freeze(touching(ledger, x, {0}), f'rows of {GROUPED}')
    columns = ledger.along(w, 2)
    for ids in (*ledger.along(w, 1), *columns):
        ledger.trace.multiples.append((ids, max(1, ALIGNMENT // w.element_size())))
    ledger.put(out, [(1, ids) for ids in columns], None, zero_where(ledger, [(w, columns)]))
    ledger.cost(x.shape[0], [(x, 1), (w, 2)])
