"""Run a model once on fake tensors and watch elements ride along its operators (DESIGN 3.1)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import stateless
from torch.utils._pytree import tree_flatten, tree_map

from . import carriers, wholes
from .dispatch import TraceError, Tracer
from .findings import Trace
from .flow import Flow, Origin
from .ledger import Ledger, tensors_of
from .modules import module_stack
from .siblings import tie_unused

Forward = Callable[..., Any]


def trace(model: nn.Module, inputs: Any, forward_fn: Forward | None = None) -> Trace:
    """Trace in eval mode and, because auxiliary heads run only there, in train mode too.

    Args:
        inputs: a tensor, a tuple (positional) or a dict (keywords) for ``forward``; only shapes matter.
        forward_fn: called as ``forward_fn(model, inputs)`` instead of ``model(...)``.

    Raises:
        TraceError: the forward fails on fake tensors, with the original error and the module where it happened.
    """
    return _trace(model, inputs, forward_fn, None)


def _trace(model: nn.Module, inputs: Any, forward_fn: Forward | None, known: Mapping[str, Any] | None) -> Trace:
    result = Trace(names=names_of(model))
    seen: set[int] = set()
    for name, x in list(model.named_parameters()) + list(model.named_buffers()):
        # Integer buffers are indices and counters: their positions mean nothing.
        if x.ndim and id(x) not in seen and (x.is_floating_point() or x.is_complex()):
            seen.add(id(x))
            result.params[name] = [result.elements.new(size) for size in x.shape]
    for training in (False, True):
        _trace_mode(result, model, inputs, training, forward_fn, known)
        if result.stuck and known is None:
            found = wholes.find(model, result)
            if found:
                return _trace(model, inputs, forward_fn, found)
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
    result: Trace, model: nn.Module, inputs: Any, training: bool, forward_fn: Forward | None, known: Any
) -> None:
    """Add one forward to a trace; a training forward that fails is noted and left out."""
    tracer = Tracer(result, record_costs=not training, known=known)
    try:
        outputs = run_fake(model, inputs, tracer, training, forward_fn)
    except TraceError:
        raise
    except Exception as error:
        if training:
            result.notes.append(f'the training forward was not traced: {type(error).__name__}: {error}')
            return
        where = tracer.ledger.where()
        raise TraceError(
            f'the model could not be traced: {type(error).__name__} in module {where!r} '
            f'({type(dict(model.named_modules()).get(where)).__name__}): {error}. '
            'Check that example_inputs fit forward(), or pass forward_fn.'
        ) from error
    for x in tensors_of(plain_outputs(outputs)):
        for _, ids in Ledger.entries(x):
            result.elements.freeze(ids, 'an output of the model')
    result.calls.append(tracer.calls)
    carriers.add_forward(tracer.ledger)


def _close(model: nn.Module, result: Trace) -> None:
    """Freeze what no forward used, resolve the elements, and find the producers of what was reshaped."""
    tie_unused(model, result)
    result.elements.resolve()
    for source, ids in result.products:
        wanted = np.unique(result.elements.parts(ids))
        for d, line in enumerate(result.params[source]):
            if np.isin(result.elements.parts(line), wanted[wanted >= 0]).any():
                result.producers[source, d] = None
    carriers.find_blocks(result)


def run_fake(model: nn.Module, inputs: Any, tracer: Tracer, training: bool, forward_fn: Forward | None = None) -> Any:
    """One forward of ``model`` on fake tensors under ``tracer``; the model itself is left as it was."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    tensors: dict[str, torch.Tensor] = {}
    seen: dict[int, torch.Tensor] = {}
    params = tracer.ledger.trace.params
    # A module that has several names is swapped once only, or the fake tensors would stay in it.
    named = [
        (f'{path}.{key}' if path else key, x)
        for path, module in model.named_modules()
        for key, x in [*module._parameters.items(), *module._buffers.items()]
        if x is not None
    ]
    for name, x in named:
        if id(x) not in seen:
            seen[id(x)] = fake = fake_copy(mode, x)
            if name in params:
                tracer.ledger.put(fake, list(enumerate(params[name])), name, frozenset([name]))
            learnt = isinstance(x, nn.Parameter) and name in params
            fake._dms_flow = Flow(False, (Origin(parameter=name),) if learnt else ())  # type: ignore[attr-defined]
        tensors[name] = seen[id(x)]
    data = fake_inputs(mode, inputs)
    with (
        _quiet(),
        _plain_operators(model, training),
        stateless._reparametrize_module(model, tensors),
        module_stack(model, tracer),
        mode,
        tracer,
    ):
        return call_forward(model, data, forward_fn)


def run_meta(model: nn.Module, inputs: Any, tracer: Tracer, training: bool, forward_fn: Forward | None = None) -> Any:
    """The same for a model on ``meta``: several times as fast, but without the values of masks and indices."""
    data = tree_map(lambda x: x.to('meta') if isinstance(x, torch.Tensor) else x, inputs)
    with _plain_operators(model, training), module_stack(model, tracer), tracer:
        return call_forward(model, data, forward_fn)


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
    """The batch size: the first dimension of the first tensor."""
    for x in tree_flatten(inputs)[0]:
        if isinstance(x, torch.Tensor) and x.ndim:
            return int(x.shape[0])
    return 1


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Trial runs of slim models may fail, and say so by an exception; torch would also log it."""
    logger = logging.getLogger('torch._subclasses.fake_tensor')
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@contextlib.contextmanager
def _mode_of(model: nn.Module, training: bool) -> Iterator[None]:
    before = {m: m.training for m in model.modules()}
    try:
        model.train(training)
        yield
    finally:
        for m, flag in before.items():
            m.training = flag


class _LocalNorm(_BatchNorm):
    """A batch normalisation for any number of axes."""

    def _check_input_dim(self, input: torch.Tensor) -> None: ...


@contextlib.contextmanager
def _local_norms(model: nn.Module) -> Iterator[None]:
    """Keep nn.SyncBatchNorm from the other processes, and from turning away tensors that are not on a GPU."""
    synchronised: list[nn.Module] = [m for m in model.modules() if type(m) is nn.SyncBatchNorm]
    try:
        for module in synchronised:
            module.__class__ = _LocalNorm
        yield
    finally:
        for module in synchronised:
            module.__class__ = nn.SyncBatchNorm


@contextlib.contextmanager
def _no_fastpath() -> Iterator[None]:
    """Keep nn.TransformerEncoderLayer and nn.MultiheadAttention from their fused inference kernels."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _no_onednn() -> Iterator[None]:
    """Keep LSTMs in float32 from being one operator."""
    # The public way also sets the precision of float32, and warns.
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


@contextlib.contextmanager
def _plain_operators(model: nn.Module, training: bool) -> Iterator[None]:
    """A mode; attention and recurrent layers as their products and activations, whatever kernel runs them later."""
    with (
        _mode_of(model, training),
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        _no_onednn(),
        _no_fastpath(),
        _local_norms(model),
    ):
        yield
