"""Run a model once under a tracer, on fake or meta tensors, and leave it and its process as they were."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_flatten, tree_map

from .asking import Asked
from .caches import filled
from .decisions import Decisions, Lists, Results
from .dispatch import Tracer
from .findings import Trace
from .flow import Flow, Origin
from .modules import module_stack
from .process import same_process
from .setting import movable_fakes, plain_operators, quiet
from .state import State, duplicate
from .steps import Steps

Forward = Callable[..., Any]


def run_fake(
    model: nn.Module,
    inputs: Any,
    tracer: Tracer,
    training: bool,
    forward_fn: Forward | None = None,
    state: State | None = None,
) -> Any:
    """One forward of ``model`` on fake tensors under ``tracer``; the model itself is left as it was.

    The model's own ``train()`` runs under the tracer, too: some modules make tensors there, or change weights.

    Args:
        state: what the model and ``forward_fn`` hold now, if it is known.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes = _fakes(model, mode, tracer)
    data = fake_inputs(mode, inputs)
    with (
        quiet(),
        _left_as_it_is(state or State(model, forward_fn), tracer) as before,
        _swapped(model, before, fakes),
        movable_fakes(model),
        plain_operators(model),
        module_stack(model, tracer),
        mode,
        _decided(tracer, training),
        Asked(tracer.ledger, tracer.lives) if tracer.on_call is None else contextlib.nullcontext(),
        Steps(tracer) if tracer.ledger.record_costs and tracer.on_call is None else contextlib.nullcontext(),
        tracer,
    ):
        model.train(training)
        return call_forward(model, data, forward_fn)


def run_meta(
    model: nn.Module, inputs: Any, tracer: Tracer, training: bool, forward_fn: Forward | None, shared: State
) -> Any:
    """The same for a copy of a model on ``meta``, which is left as it falls: several times as fast, but without the
    values of masks and indices.

    Args:
        shared: what the copy and ``forward_fn`` share with others now.
    """
    data = tree_map(lambda x: x.to('meta') if isinstance(x, torch.Tensor) else x, inputs)
    with (
        _left_as_it_is(shared, tracer),
        plain_operators(model),
        module_stack(model, tracer),
        _decided(tracer, training),
        tracer,
    ):
        model.train(training)
        return call_forward(model, data, forward_fn)


def record(model: nn.Module, inputs: Any, training: bool, forward_fn: Forward | None = None) -> Results:
    """What a real forward decides by its data; it runs on a copy of the model, which has its own buffers.

    Raises:
        Exception: whatever the model raises.
    """
    tracer = Tracer(Trace(), False, lambda call: None)
    tracer.decisions = Decisions(recording=True)
    data = tree_map(lambda x: x.detach().clone() if isinstance(x, torch.Tensor) else x, inputs)
    copied = duplicate(model)
    with (
        _left_as_it_is(State(copied, forward_fn, shared=True), tracer),
        plain_operators(copied),
        module_stack(copied, tracer),
        Lists(),
        tracer,
    ):
        copied.train(training)
        call_forward(copied, data, forward_fn)
    return tracer.decisions.results


@contextlib.contextmanager
def _decided(tracer: Tracer, training: bool) -> Iterator[None]:
    """Go the way that was recorded, where one was."""
    results = tracer.ledger.trace.decisions.get(training)
    if results is None:
        yield
        return
    tracer.decisions = Decisions(results)
    with Lists():
        yield


@contextlib.contextmanager
def _left_as_it_is(state: State, tracer: Tracer) -> Iterator[State]:
    """Restore a state; what the forward filled with tensors is the trace's to tell."""
    with same_process():
        try:
            yield state
            if tracer.on_call is None:
                known = tracer.ledger.trace.caches
                for cache in filled(state):
                    key = cache.where, cache.kind
                    known[key] = known[key].also(cache) if key in known else cache
        finally:
            state.restore()


def _fakes(model: nn.Module, mode: FakeTensorMode, tracer: Tracer) -> dict[int, torch.Tensor]:
    """Identity of a parameter or buffer -> the fake tensor that stands for it, with its elements."""
    fakes: dict[int, torch.Tensor] = {}
    params = tracer.ledger.trace.params
    for path, module in model.named_modules():
        for key, x in [*module._parameters.items(), *module._buffers.items()]:
            if x is None or id(x) in fakes:
                continue
            name = f'{path}.{key}' if path else key
            fakes[id(x)] = fake = fake_copy(mode, x)
            if name in params:
                tracer.ledger.put(fake, list(enumerate(params[name])), name, frozenset([name]))
            fake._dms_value_id = name  # type: ignore[attr-defined]
            learnt = isinstance(x, nn.Parameter) and name in params
            fake._dms_flow = Flow(False, (Origin(parameter=name),) if learnt else ())  # type: ignore[attr-defined]
    return fakes


@contextlib.contextmanager
def _swapped(model: nn.Module, state: State, fakes: Mapping[int, torch.Tensor]) -> Iterator[None]:
    """Put fake tensors where parameters and buffers are; the state knows what was there, but for what is scripted."""
    state.substitute(fakes)
    scripted: list[tuple[Any, str, Any]] = [
        (store, key, x)
        for module in model.modules()
        if isinstance(module, torch.jit.ScriptModule)
        for store in (module._parameters, module._buffers)
        for key, x in store.items()
        if x is not None
    ]
    try:
        for store, key, x in scripted:
            store[key] = fakes[id(x)]
        yield
    finally:
        for store, key, x in scripted:
            store[key] = x


def fake_copy(mode: FakeTensorMode, x: torch.Tensor) -> torch.Tensor:
    """A fake CPU tensor of the same shape, strides and dtype, whatever device ``x`` is on."""
    # A factory under the mode gives the same and takes five times as long.
    meta = torch.empty_strided(tuple(x.shape), x.stride(), dtype=x.dtype, device='meta')
    return FakeTensor(mode, meta, torch.device('cpu'))


def fake_inputs(mode: FakeTensorMode, inputs: Any) -> Any:
    """Fake inputs; those of integers and booleans keep their values beside them."""

    def fake(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        copy = fake_copy(mode, x)
        if not x.is_floating_point() and x.device.type != 'meta':
            copy._dms_value = x.detach().cpu()  # type: ignore[attr-defined]
        return copy

    return tree_map(fake, inputs)


def call_forward(model: nn.Module, inputs: Any, forward_fn: Forward | None = None) -> Any:
    """The model on a tensor, a tuple (positional) or a dict (keywords), or through ``forward_fn(model, inputs)``."""
    if forward_fn is not None:
        return forward_fn(model, inputs)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


def plain_outputs(outputs: Any) -> Any:
    """Outputs as a pytree: dataclasses and objects with attributes become dicts."""
    if isinstance(outputs, torch.Tensor) or outputs is None:
        return outputs
    if isinstance(outputs, Mapping):
        return {k: plain_outputs(v) for k, v in outputs.items()}
    if isinstance(outputs, (list, tuple)):
        return [plain_outputs(v) for v in outputs]
    if hasattr(outputs, '__dict__'):
        return {k: plain_outputs(v) for k, v in vars(outputs).items() if not k.startswith('__')}
    return outputs


def first_batch(inputs: Any) -> int:
    """The batch size: the number of images in a list of them, else the first dimension of the first tensor."""
    first = inputs[0] if isinstance(inputs, (tuple, list)) and inputs else inputs
    if isinstance(first, list) and first and all(isinstance(x, torch.Tensor) and x.ndim == 3 for x in first):
        return len(first)
    for x in tree_flatten(inputs)[0]:
        if isinstance(x, torch.Tensor) and x.ndim:
            return int(x.shape[0])
    return 1
