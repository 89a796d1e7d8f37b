"""Whether a slim model runs: one forward in eval and training mode, on tensors without data, and one with data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ..tracing import Trace, Tracer, call_forward, plain_outputs, run_fake
from ..tracing.holders import leaves
from .ranges import shorten
from .schema import REWRITE, StructureError, parents, place
from .shrink import shrink
from .skeleton import duplicate, skeleton
from .structure import Structure

MOST_VALUES = 1 << 28  # parameters of a model that is copied for a forward with data


def try_slim(model: nn.Module, structure: Structure, inputs: Any, forward_fn: Callable[..., Any] | None = None) -> None:
    """Run the slim model where the supernet runs, and compare the shapes of their outputs.

    Raises:
        StructureError: it fails, or gives other shapes; names the field of the module where it fails.
        ValueError: the supernet itself doesn't run on ``inputs`` in eval mode.
    """

    def fake(training: bool) -> Callable[[nn.Module], list[Any]]:
        return lambda m: _shapes(
            run_fake(m, inputs, Tracer(Trace(), False, _ignore), training=training, forward_fn=forward_fn)
        )

    def real(m: nn.Module) -> list[Any]:
        m.eval()
        with torch.no_grad():
            return _shapes(call_forward(m, inputs, forward_fn))

    tensors = [*model.parameters(), *leaves(inputs)]
    with_data = sum(x.numel() for x in model.parameters()) < MOST_VALUES and not any(x.is_meta for x in tensors)
    _compare(model, structure, skeleton, fake(False), 'eval', needed=not with_data)
    # A supernet may not train on a batch this small.
    _compare(model, structure, skeleton, fake(True), 'training')
    # What is looked up in a table that became too short is not seen without data, nor what is decided by them.
    if with_data:
        _compare(model, structure, duplicate, real, 'eval', needed=True)


def _compare(
    model: nn.Module,
    structure: Structure,
    duplicate: Callable[[nn.Module], nn.Module],
    run: Callable[[nn.Module], list[Any]],
    mode: str,
    needed: bool = False,
) -> None:
    try:
        expected = run(duplicate(model))
    except Exception as error:
        if not needed:
            return
        raise ValueError(
            f'{type(model).__name__} does not run on the example inputs: {type(error).__name__}: {error}'
        ) from error
    slim = shrink(duplicate(model), structure)
    try:
        found = run(slim)
    except Exception as error:
        path = _module_at_fault(slim, error)
        raise StructureError(
            f'{_field_of(structure, path)}: the slim model does not run in {mode} mode, and ends in module '
            f'{path!r}: {type(error).__name__}: {shorten(str(error), 200)}. {REWRITE}'
        ) from error
    if found != expected:
        raise StructureError(
            f'slices: the slim model gives outputs of shape {shorten(found)} where the supernet gives '
            f'{shorten(expected)}. {REWRITE}'
        )


def _shapes(outputs: Any) -> list[Any]:
    return [tuple(x.shape) for x in tree_flatten(plain_outputs(outputs))[0] if isinstance(x, Tensor)]


def _ignore(call: Any) -> None:
    pass


def _module_at_fault(model: nn.Module, error: BaseException) -> str:
    """The innermost module whose forward the exception came from."""
    names = {id(module): path for path, module in model.named_modules()}
    path, trace = '', error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get('self')
        path = names.get(id(owner), path) if isinstance(owner, nn.Module) else path
        trace = trace.tb_next
    return path


def _field_of(structure: Structure, path: str) -> str:
    """Where the structure says something about a module, or about the next one around it."""
    for place_ in [path, *parents(path)[::-1], '']:
        if place_ in structure.attributes:
            return place('attributes', place_)
        for table in ('slices', 'folds', 'scales'):
            for name in getattr(structure, table):
                if name.rpartition('.')[0] == place_:
                    return place(table, name)
    return 'slices'
