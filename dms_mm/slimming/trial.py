"""Whether a slim model runs: one forward in eval and training mode, on tensors without data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ..tracing import Trace, Tracer, plain_outputs, run_fake
from .ranges import shorten
from .schema import REWRITE, StructureError, fail, parents, place
from .shrink import shrink
from .skeleton import skeleton
from .structure import Structure


def try_slim(model: nn.Module, structure: Structure, inputs: Any, forward_fn: Callable[..., Any] | None = None) -> None:
    """Run the slim model where the supernet runs, and compare the shapes of their outputs.

    Raises:
        StructureError: it fails, or gives other shapes; names the field of the module where it fails.
        ValueError: the supernet itself doesn't run on ``inputs`` in eval mode.
    """
    _check_lookups(model, structure)
    for training in (False, True):
        try:
            expected = _shapes(skeleton(model), inputs, training, forward_fn)
        except Exception as error:
            if training:
                # A batch norm with a single value, for one.
                continue
            raise ValueError(
                f'{type(model).__name__} does not run on the example inputs: {type(error).__name__}: {error}'
            ) from error
        slim = shrink(skeleton(model), structure)
        try:
            found = _shapes(slim, inputs, training, forward_fn)
        except Exception as error:
            path = _module_at_fault(slim, error)
            mode = 'training' if training else 'eval'
            raise StructureError(
                f'{_field_of(structure, path)}: the slim model does not run in {mode} mode, and ends in module '
                f'{path!r}: {type(error).__name__}: {shorten(str(error), 200)}. {REWRITE}'
            ) from error
        if found != expected:
            raise StructureError(
                f'slices: the slim model gives outputs of shape {shorten(found)} where the supernet gives '
                f'{shorten(expected)}. {REWRITE}'
            )


def _check_lookups(model: nn.Module, structure: Structure) -> None:
    """Rows of embedding tables stay: which of them are looked up is not seen without data."""
    for path, module in model.named_modules():
        name = f'{path}.weight' if path else 'weight'
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and '0' in structure.slices.get(name, {}):
            raise fail('rows of an embedding table cannot go', 'slices', name, 0)


def _shapes(model: nn.Module, inputs: Any, training: bool, forward_fn: Callable[..., Any] | None) -> list[Any]:
    outputs = run_fake(model, inputs, Tracer(Trace(), False, _ignore), training=training, forward_fn=forward_fn)
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
