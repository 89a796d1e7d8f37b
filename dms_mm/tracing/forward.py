"""Run a model once on fake tensors and watch elements ride along its operators (DESIGN 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from . import carriers, wholes
from .caches import forget, kept_before
from .decisions import Results, undecided
from .dispatch import TraceError, Tracer
from .elements import IntArray
from .experts import tie_experts
from .findings import Trace
from .holders import leaves
from .ledger import Ledger, tensors_of
from .named import names_of as named_by
from .process import same_process
from .recorder import Recorder
from .running import Forward, call_forward, first_batch, plain_outputs, record, run_fake
from .siblings import tie_unused
from .state import State, empty


def trace(model: nn.Module, inputs: Any, forward_fn: Forward | None = None, state: State | None = None) -> Trace:
    """Trace in eval mode and, because auxiliary heads run only there, in train mode too.

    Both start from what a model is before its first forward, as far as it makes anew what it keeps of earlier ones.

    Args:
        inputs: a tensor, a tuple (positional) or a dict (keywords) for ``forward``; only shapes matter.
        forward_fn: called as ``forward_fn(model, inputs)`` instead of ``model(...)``.
        state: what the model and ``forward_fn`` hold now, if it is known.

    Raises:
        TraceError: the forward fails on fake tensors, with the original error and the module where it happened.
    """

    def run(look: Callable[[], bool]) -> bool:
        def forward(m: nn.Module, x: Any) -> bool:
            call_forward(m, x, forward_fn)
            return look()

        return run_fake(model, inputs, Tracer(Trace(), False, lambda call: None), training=False, forward_fn=forward)

    with same_process(), state or State(model, forward_fn) as before:
        empty(before.caches)
        kept = kept_before(model, before, run)
        fresh = State(forget(model, kept), forward_fn) if kept else before
        try:
            return _trace(model, inputs, forward_fn, fresh, None, {})
        except _UndecidedError as error:
            return _trace(model, inputs, forward_fn, fresh, None, _decisions(model, inputs, forward_fn, error.error))


class _UndecidedError(Exception):
    """A forward goes one way or the other by its data, and there are none."""

    def __init__(self, error: TraceError) -> None:
        super().__init__()
        self.error = error


def _decisions(model: nn.Module, inputs: Any, forward_fn: Forward | None, error: TraceError) -> dict[bool, Results]:
    """Training -> what real forwards of a copy decide; a training forward that fails is left out."""
    if any(x.is_meta for x in [*model.parameters(), *leaves(inputs)]):
        raise error
    found: dict[bool, Results] = {}
    for training in (False, True):
        try:
            found[training] = record(model, inputs, training, forward_fn)
        except Exception as failure:
            if not training:
                raise error from failure
    return found


def _trace(
    model: nn.Module,
    inputs: Any,
    forward_fn: Forward | None,
    state: State,
    known: Mapping[str, Any] | None,
    decisions: dict[bool, Results],
) -> Trace:
    result = Trace(decisions=decisions, names=names_of(model))
    seen: set[int] = set()
    for name, x in list(model.named_parameters()) + list(model.named_buffers()):
        # Integer buffers are indices and counters: their positions mean nothing.
        if x.ndim and id(x) not in seen and (x.is_floating_point() or x.is_complex()):
            seen.add(id(x))
            result.params[name] = [result.elements.new(size) for size in x.shape]
    for training in (False, True):
        _trace_mode(result, model, inputs, training, forward_fn, state, known)
        if result.stuck and known is None:
            found = wholes.find(model, result)
            if found:
                return _trace(model, inputs, forward_fn, state, found, decisions)
    _close(model, result)
    return result


def names_of(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """First name -> all names, of every module, parameter and buffer that has several."""
    found: dict[int, list[str]] = {}
    for things in (model.named_modules, model.named_parameters, model.named_buffers):
        for name, x in things(remove_duplicate=False):  # type: ignore[operator]
            found.setdefault(id(x), []).append(name)
    return {names[0]: tuple(names) for names in found.values() if len(names) > 1}


def _trace_mode(
    result: Trace,
    model: nn.Module,
    inputs: Any,
    training: bool,
    forward_fn: Forward | None,
    state: State,
    known: Any,
) -> None:
    """Add one forward to a trace; a training forward that fails is noted and left out."""
    tracer = Tracer(result, record_costs=not training, known=known)
    tracer.lives = Recorder({n for n, p in model.named_parameters() if p.requires_grad}, training, first_batch(inputs))
    try:
        outputs = run_fake(model, inputs, tracer, training, forward_fn, state)
    except TraceError:
        raise
    except Exception as error:
        if training and not (undecided(error) and not result.decisions):
            result.notes.append(f'the training forward was not traced: {type(error).__name__}: {error}')
            return
        where = tracer.ledger.where()
        failure = TraceError(
            f'the model could not be traced: {type(error).__name__} in module {where!r} '
            f'({type(dict(model.named_modules()).get(where)).__name__}): {error}. '
            'Check that example_inputs fit forward(), or pass forward_fn.'
        )
        if undecided(error) and not result.decisions:
            raise _UndecidedError(failure) from error
        raise failure from error
    for x in tensors_of(plain_outputs(outputs)):
        for _, ids in Ledger.entries(x):
            result.elements.freeze(ids, 'an output of the model')
        names = named_by(x)
        if names is not None:
            result.elements.freeze(names, 'their numbers are an output of the model')
    result.results.append({tracer.values.of(x) for x in tensors_of(plain_outputs(outputs))})
    result.calls.append(tracer.calls)
    result.lifetimes.append(tracer.lives.found)
    carriers.add_forward(tracer.ledger)


def _freeze_projected(model: nn.Module, result: Trace) -> None:
    """An LSTM whose hidden width is that of its projections is one without them, for torch; its outputs can shrink."""
    for path, module in model.named_modules():
        for key in module._parameters if isinstance(module, nn.LSTM) and module.proj_size else ():
            name = f'{path}.{key}' if path else key
            if key.startswith('weight_hr') and name in result.params:
                result.elements.freeze(result.params[name][1], 'the hidden width of an LSTM with projections')


def _freeze_unnamed(result: Trace) -> None:
    """What a softmax is over stays, unless something is picked by it: only then what is left is known to go on."""
    chosen = _roots(result, [ids for ids, _ in result.chosen if any(ids is line for line in result.looked_up)])
    for choice in list(result.choices):
        if not chosen.issuperset(result.elements.find(choice.ids).tolist()):
            result.choices.remove(choice)
            if choice.operator != 'sigmoid':
                result.elements.freeze(choice.ids, choice.reason)


def _mask_once(result: Trace) -> None:
    """What is chosen weighs as much as its scores say, also where products would have it masked as if it were heads."""
    spare = _roots(result, [ids for ids, _ in result.chosen]) - _roots(result, result.relied)
    dropped = {id(r) for r in result.customary if spare.issuperset(result.elements.find(r[1]).reshape(-1).tolist())}
    result.requests = [request for request in result.requests if id(request) not in dropped]


def _roots(result: Trace, lists: Sequence[IntArray]) -> set[int]:
    found: set[int] = set()
    for ids in lists:
        found.update(result.elements.find(ids).reshape(-1).tolist())
    return found


def _close(model: nn.Module, result: Trace) -> None:
    """Freeze what no forward used, resolve the elements, and find the producers of what was reshaped."""
    tie_experts(model, result)
    tie_unused(model, result)
    _freeze_projected(model, result)
    _freeze_unnamed(result)
    _mask_once(result)
    result.elements.resolve()
    for source, ids in result.products:
        wanted = np.unique(result.elements.parts(ids))
        for d, line in enumerate(result.params[source]):
            if np.isin(result.elements.parts(line), wanted[wanted >= 0]).any():
                result.producers[source, d] = None
    carriers.find_blocks(result)
