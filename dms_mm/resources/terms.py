"""Counts of a model as sums of products of what its units keep."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor, nn

from ..mutables import Ownership
from ..tracing import Entries, Trace
from .products import Dim, Term


def _choices(ownership: Ownership, size: int, owner: np.ndarray) -> list[tuple[float, list[Dim]]]:
    """A dimension as a sum of products of counts: heads times head dims, and apart what other units make up."""
    owner = owner[:, (owner >= 0).any(0)]
    if owner.shape[1] == 0:
        return [(1.0, [(size, None)])]
    if owner.shape[1] == 1:
        return [(1.0, [(size, owner[:, 0])])]
    owner = -np.sort(-owner, axis=1)
    unit = np.where(owner >= 0, ownership.units[owner], -1)
    result: list[tuple[float, list[Dim]]] = []
    kinds, member = np.unique(unit, axis=0, return_inverse=True)
    for k, kind in enumerate(kinds):
        part = owner[member.ravel() == k]
        n = len(part)
        columns = [part[:, c] for c in range(part.shape[1]) if kind[c] >= 0]
        if not columns:
            result.append((1.0, [(n, None)]))
            continue
        _, joint = np.unique(np.stack(columns, 1), axis=0, return_counts=True)
        margins = [np.unique(c, return_counts=True)[1] for c in columns]
        full = math.prod(len(m) for m in margins)
        if len(columns) > 1 and (len(joint) != full or len(set(joint.tolist())) > 1):
            raise NotImplementedError('channels composed of heads and head dims that are not rectangular')
        result.append((1.0 / n ** (len(columns) - 1), [(n, c) for c in columns]))
    return result


def _terms(
    ownership: Ownership, factor: float, dims: Sequence[tuple[int, np.ndarray | None]], blocks: list[int]
) -> list[Term]:
    """One product of dimensions as terms without compound dimensions."""
    choices: list[list[tuple[float, list[Dim]]]] = [
        [(1.0, [(n, None)])] if o is None else _choices(ownership, n, o) for n, o in dims
    ]
    return [
        (factor * math.prod(f for f, _ in pick), [d for _, part in pick for d in part], blocks)
        for pick in itertools.product(*choices)
    ]


def product_terms(ownership: Ownership, dims: Sequence[Dim]) -> list[Term]:
    """A product of dimensions, whatever block it is in."""
    return _terms(ownership, 1.0, dims, [])


def operator_terms(trace: Trace, ownership: Ownership, batch: int) -> list[tuple[str, list[Term]]]:
    """(module, MACs of one sample) of every operator that has any."""
    found = []
    experts = {element for _, element in ownership.experts}
    for cost in trace.costs:
        dims = [
            (size, np.concatenate([ownership.owner(ids) for ids in lists], 1) if lists else None)
            for size, lists in cost.dims
        ]
        blocks = ownership.blocks_of(cost.module)
        if trace.decisions:
            # What would go to an expert that is gone goes to another one, of the same width.
            blocks = [element for element in blocks if element not in experts]
        found.append((cost.module, _terms(ownership, cost.factor / batch, dims, blocks)))
    return found


def parameter_terms(trace: Trace, ownership: Ownership, model: nn.Module) -> list[tuple[str, list[Term]]]:
    """(name, number of its values) of every parameter."""
    return state_terms(trace, ownership, model.named_parameters())


def state_terms(
    trace: Trace, ownership: Ownership, tensors: Iterable[tuple[str, Tensor]]
) -> list[tuple[str, list[Term]]]:
    """(name, number of its values) of parameters or buffers."""
    found = []
    for name, x in tensors:
        # A tensor that has two names is traced under one of them.
        owners = [ownership.owner(ids) for ids in trace.params[name]] if name in trace.params else [None] * x.ndim
        dims = list(zip(x.shape, owners))
        places = [ownership.blocks_of(other) for other in trace.names.get(name, (name,))]
        found.append((name, [term for blocks in any_lives(places) for term in _terms(ownership, 1.0, dims, blocks)]))
    return found


def tensor_terms(
    ownership: Ownership, factor: float, shape: Sequence[int], entries: Entries, blocks: list[int]
) -> list[Term]:
    """``factor`` times the kept positions of a traced tensor. What has no elements, or such as are no product of kept
    counts, counts in full."""
    lines: dict[tuple[int, ...], list[np.ndarray]] = {}
    for dims, ids in entries:
        lines.setdefault(dims, []).append(ownership.owner(ids.reshape(-1)))
    left = dict(enumerate(shape))
    found: list[tuple[int, np.ndarray | None]] = []
    for dims, owners in lines.items():
        size = math.prod(shape[d] for d in dims)
        if all(d in left for d in dims) and all(len(owner) == size for owner in owners):
            found.append((size, np.concatenate(owners, 1)))
            for d in dims:
                del left[d]
    found += [(size, None) for size in left.values()]
    try:
        return _terms(ownership, factor, found, blocks)
    except NotImplementedError:
        return [(factor, [(math.prod(shape), None)], blocks)]


def any_lives(places: Sequence[Sequence[int]]) -> list[list[int]]:
    """Blocks whose masks' products add up to one if all blocks of any place live, and else to zero; ``~e`` stands for
    ``1 - mask`` of block ``e``."""
    found: list[list[int]] = []
    before: list[list[int]] = [[]]  # no place before lives: of these products one is one
    for blocks in dict.fromkeys(tuple(sorted(p)) for p in places):
        found += _products(before, blocks)
        missing = [(*blocks[:k], ~block) for k, block in enumerate(blocks)]
        before = [product for part in missing for product in _products(before, part)]
    return found


def _products(products: Sequence[Sequence[int]], more: Sequence[int]) -> list[list[int]]:
    """Each of the products times more masks; those with a mask and its opposite are zero."""
    return [list(dict.fromkeys([*p, *more])) for p in products if not any(~m in p for m in more)]


def mac_terms(trace: Trace, ownership: Ownership, batch: int) -> list[Term]:
    return [term for _, terms in operator_terms(trace, ownership, batch) for term in terms]


def param_terms(trace: Trace, ownership: Ownership, model: nn.Module) -> list[Term]:
    return [term for _, terms in parameter_terms(trace, ownership, model) for term in terms]
