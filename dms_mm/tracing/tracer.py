"""Run a model once on fake tensors and watch elements ride along its operators (DESIGN 3.1)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import stateless
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

from .compact import CompactSpec, find_compact, trace_compact
from .elements import Elements, IntArray
from .norms import NormSpec, recognise_norm, trace_norm
from .rules import RULES, Axes, Entries, free, note_sum, pointwise, sums
from .standardised import StandardSpec, recognise_standardised, trace_standardised

ParamDim = tuple[str, int]


class TraceError(RuntimeError):
    """The model could not be run on fake tensors."""


@dataclass
class Cost:
    """MACs of one operator call: ``factor`` times the product of the kept positions of ``dims``."""

    factor: float
    dims: list[tuple[int, list[IntArray]]]
    module: str


@dataclass
class Call:
    """One operator call with the axes of its outputs, for checking a slim model against."""

    name: str
    module: str
    shapes: list[tuple[int, ...]]
    axes: list[Entries] = field(default_factory=list)
    input_shapes: list[tuple[int, ...]] = field(default_factory=list)
    input_axes: list[Entries] = field(default_factory=list)
    makers: list[frozenset[str] | None] = field(default_factory=list)
    scalars: tuple[float, ...] = ()
    # Output dimensions of copies, whose length follows some other tensor.
    free: list[set[int]] = field(default_factory=list)


@dataclass
class Gate:
    """A block whose output is concatenated behind its own input: without it that part is a copy, and may go.

    The part is ``line[start : start + size]`` of the concatenation's elements, each composed of a channel and ``id``;
    the block's input is ``line[source : source + size]``.
    """

    id: int
    line: IntArray
    start: int
    source: int
    size: int


@dataclass
class Trace:
    """What a forward says about a model's structure."""

    elements: Elements = field(default_factory=Elements)
    params: dict[str, list[IntArray]] = field(default_factory=dict)  # per dimension the ids of its positions
    consumers: dict[ParamDim, None] = field(default_factory=dict)  # contracted dimensions: they take the masks
    producers: dict[ParamDim, None] = field(default_factory=dict)
    products: list[tuple[str, IntArray]] = field(default_factory=list)  # the same for reshaped weights
    grouped: dict[str, str] = field(default_factory=dict)  # weight of a grouped conv -> 'groups' | 'width'
    costs: list[Cost] = field(default_factory=list)
    calls: list[list[Call]] = field(default_factory=list)  # one list per traced mode
    requests: list[tuple[frozenset[str], IntArray]] = field(default_factory=list)  # parameters masked where made
    requested: dict[frozenset[str], set[int]] = field(default_factory=dict)
    biases: list[tuple[IntArray, IntArray]] = field(default_factory=list)  # rows of a weight, entries of its bias
    heads: list[IntArray] = field(default_factory=list)  # batch dimensions of products of two activations
    head_dims: list[IntArray] = field(default_factory=list)  # their contracted and last dimensions
    residual: dict[str, list[str]] = field(default_factory=dict)  # module that adds to its input -> what it adds
    calling: dict[str, None] = field(default_factory=dict)  # modules with several arguments, or a tuple as output
    outputs: dict[str, int] = field(default_factory=dict)  # module that returns a tuple -> its length
    gates: dict[str, Gate] = field(default_factory=dict)  # block -> its part of a concatenation
    norms: dict[str, tuple[NormSpec, IntArray]] = field(default_factory=dict)  # statistics over these elements
    standardised: dict[str, tuple[StandardSpec, IntArray | None]] = field(default_factory=dict)  # convs, their inputs
    compact: dict[str, tuple[CompactSpec, IntArray]] = field(default_factory=dict)  # run on what lives of these
    stuck: dict[str, None] = field(default_factory=dict)  # modules that mix channels
    group_norms: dict[str, tuple[int, IntArray]] = field(default_factory=dict)  # whole groups of these go
    atomic: dict[str, None] = field(default_factory=dict)  # modules whose operators are not looked at
    io: dict[str, tuple[Any, Any]] = field(default_factory=dict)  # module -> (shape, axes) of input and output
    order: list[str] = field(default_factory=list)  # modules in the order of their first call
    unknown: dict[str, str] = field(default_factory=dict)  # operator -> module where it froze something
    used: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


class Tracer(TorchDispatchMode):
    """Applies :data:`RULES` to every operator call. Axes are kept on the fake tensors themselves."""

    def __init__(self, trace: Trace, record_costs: bool, on_call: Callable[[Call], None] | None = None) -> None:
        super().__init__()
        self.trace = trace
        self.elements = trace.elements
        self.grouped = trace.grouped
        self.stack: list[str] = ['']
        self.calls: list[Call] = []
        self.record_costs = record_costs
        self.on_call = on_call  # is told every operator call instead, and may end the forward by an exception
        self.suspended = 0
        self.rectified: set[str] = set()  # modules whose input has no negative values
        self.inputs: dict[str, Any] = {}  # module -> its first tensor
        self.whole: dict[str, NormSpec | StandardSpec | CompactSpec] = {}  # modules that are traced as one operator
        self.compact: Mapping[str, CompactSpec] = {}
        self._starts: list[int] = []
        self._owners: list[ParamDim] = []
        self._end = 0
        for name, dims in trace.params.items():
            for d, ids in enumerate(dims):
                if len(ids):
                    self._starts.append(int(ids[0]))
                    self._owners.append((name, d))
                    self._end = max(self._end, int(ids[-1]) + 1)

    # -- what rules use
    @staticmethod
    def entries(x: Any) -> Entries:
        """``(dims, ids)`` of a tensor as they are: ids may span several dimensions."""
        return getattr(x, '_dms_axes', [])

    def axes(self, x: Any) -> Axes:
        """``(dim, ids)`` of a tensor; ids that span several dimensions become one factor for each."""
        entries = getattr(x, '_dms_axes', [])
        if any(len(dims) > 1 for dims, _ in entries):
            x._dms_axes = single = []
            for dims, ids in entries:
                parts = [ids] if len(dims) == 1 else self.elements.factor(ids)
                single += [((d,), part) for d, part in zip(dims, parts)]
            entries = single
        return [(dims[0], ids) for dims, ids in entries]

    def along(self, x: Any, dim: int) -> list[IntArray]:
        return [ids for d, ids in self.axes(x) if d == dim]

    @staticmethod
    def source(x: Any) -> str | None:
        """The parameter that ``x`` is, or is a rearrangement of."""
        return getattr(x, '_dms_source', None)

    @staticmethod
    def makers(x: Any) -> frozenset[str] | None:
        """Parameters that, masked along the elements of ``x``, make every dead position of ``x`` zero."""
        return getattr(x, '_dms_makers', None)

    def put(
        self, x: Any, axes: Axes | Entries, source: str | None = None, makers: frozenset[str] | None = None
    ) -> None:
        """Set the axes of a tensor; dimensions of one position carry none."""
        entries: Entries = []
        for dims, ids in axes:
            dims = (dims,) if isinstance(dims, int) else dims
            flat = tuple(d for d in dims if x.shape[d] > 1)
            if flat:
                entries.append((flat, ids if flat == dims else ids.reshape([x.shape[d] for d in flat])))
        x._dms_axes = entries
        x._dms_source = source
        x._dms_makers = makers

    def request(self, x: Any, ids: IntArray) -> bool:
        """Ask that dead positions of ``x`` be zero. False if no parameters can see to that."""
        makers = self.makers(x)
        if makers is None:
            return False
        if makers:
            self.trace.requests.append((makers, ids))
            self.trace.requested.setdefault(makers, set()).update(np.unique(ids).tolist())
        return True

    def masked(self, x: Any, lists: Sequence[IntArray]) -> bool:
        """Dead positions of ``x`` along these elements are zero already."""
        asked = self.trace.requested.get(self.makers(x) or frozenset(), set())
        return bool(asked) and all(asked.issuperset(np.unique(ids).tolist()) for ids in lists)

    @staticmethod
    def tensors(tree: Any) -> list[Any]:
        # Asked twice for every operator; pytree takes several times as long.
        if isinstance(tree, torch.Tensor):
            return [tree]
        if isinstance(tree, Mapping):
            tree = tree.values()
        elif not isinstance(tree, (tuple, list)):
            return []
        return [x for branch in tree for x in Tracer.tensors(branch)]

    def where(self) -> str:
        return self.stack[-1]

    def freeze(self, axes: Sequence[tuple[Any, IntArray]], reason: str) -> None:
        for _, ids in axes:
            self.elements.freeze(ids, f'{reason} in {self.where() or "the model"}')

    def mix(self, axes: Sequence[tuple[Any, IntArray]], reason: str) -> None:
        """Freeze what an operator mixes, unless its module turns out to run on what lives alone."""
        if axes:
            self.trace.stuck[self.where()] = None
        self.freeze(axes, reason)

    def gated(self, tensors: Sequence[Any], parts: list[IntArray]) -> list[IntArray]:
        """Parts of a concatenation; what a residual block made of the part before it lives only if the block does."""
        starts = np.cumsum([0, *map(len, parts)]).tolist()
        result = list(parts)
        found: dict[str, tuple[int, int, int]] = {}
        for k, x in enumerate(tensors):
            path = getattr(x, '_dms_from', None)
            before = next((j for j in range(k) if path and tensors[j] is self.inputs.get(path)), None)
            if path not in self.trace.residual or before is None or len(parts[k]) != len(parts[before]):
                continue
            gate = self.trace.gates[path].id if path in self.trace.gates else int(self.elements.new(1)[0])
            result[k] = self.elements.new(len(parts[k]))
            self.elements.compose(result[k], [parts[k], np.full(len(parts[k]), gate)])
            found[path] = gate, k, before
        line = np.concatenate(result)
        for path, (gate, k, before) in found.items():
            self.trace.gates[path] = Gate(gate, line, starts[k], starts[before], len(parts[k]))
        return result

    def _owners_of(self, lists: Sequence[IntArray]) -> set[ParamDim]:
        owners: set[ParamDim] = set()
        for ids in lists:
            ids = ids[ids < self._end]
            index = np.unique(np.searchsorted(self._starts, ids, side='right') - 1)
            owners.update(self._owners[i] for i in index)
        return owners

    def consume(self, tensor: Any, lists: Sequence[IntArray]) -> None:
        source = self.source(tensor)
        owners = [owner for owner in self._owners_of(lists) if owner[0] == source]
        for owner in owners:
            self.trace.consumers[owner] = None
        if not owners and source:
            # A weight that was reshaped carries factors; the masks go wherever it has them.
            for ids in lists:
                self.trace.requests.append((frozenset([source]), ids))

    def produce(self, tensor: Any, lists: Sequence[IntArray]) -> None:
        source = self.source(tensor)
        owners = [owner for owner in self._owners_of(lists) if owner[0] == source]
        for owner in owners:
            self.trace.producers[owner] = None
        if not owners and source and lists:
            self.trace.products.append((source, np.concatenate([ids.reshape(-1) for ids in lists])))

    def cost(self, name: str, factor: float, dims: Sequence[tuple[Any, int]]) -> None:
        if self.record_costs:
            sizes = [(int(x.shape[d]), self.along(x, d)) for x, d in dims]
            self.trace.costs.append(Cost(factor, sizes, self.where()))

    # -- dispatch
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return func(*args, **kwargs)
        # In-place operators change the axes of their own input: look at them first.
        tensors = self.tensors((args, kwargs))
        if self.on_call is None:
            inputs = [list(self.entries(x)) for x in tensors]
            shapes = [tuple(int(s) for s in x.shape) for x in tensors]
            makers = [self.makers(x) for x in tensors]
        known = self._known_value(func, tensors, args, kwargs)
        if func is torch.ops.aten._local_scalar_dense.default and known is not None:
            return known
        out = func(*args, **kwargs)
        if isinstance(known, torch.Tensor) and isinstance(out, torch.Tensor):
            out._dms_value = known  # type: ignore[attr-defined]
        if self.suspended:
            return out
        if self.on_call is not None:
            # Nothing rides along: the shapes and numbers are all that is asked for.
            results = self.tensors(out)
            sizes = [tuple(int(s) for s in x.shape) for x in results]
            self.on_call(Call(func._schema.name, self.where(), sizes, scalars=_numbers(func._schema.name, args)))
            return out
        for x in tensors:
            if self.source(x):
                self.trace.used.add(self.source(x))  # type: ignore[arg-type]
        name = func._schema.name
        if any(inputs) or name in CONSTANTS:
            try:
                self._apply(func, name, out, args, kwargs)
            except (TypeError, IndexError, ValueError, AttributeError) as error:
                raise TraceError(f'rule of {name} failed in {self.where()!r}: {error!r}') from error
        note_sum(self, name, out, tensors)
        results = self.tensors(out)
        self.calls.append(
            Call(
                name,
                self.where(),
                [tuple(int(s) for s in x.shape) for x in results],
                [list(self.entries(x)) for x in results],
                shapes,
                inputs,
                makers,
                _numbers(name, args),
                [free(x) for x in results],
            )
        )
        return out

    @staticmethod
    def _known_value(func: Any, tensors: list[Any], args: Any, kwargs: Any) -> Any:
        """The true result of operators on masks and indices, so that control flow may depend on them."""
        values = {id(x): _value(x) for x in tensors}
        if any(v is None for v in values.values()):
            return None
        if not tensors and func._schema.name.partition('::')[2] not in FACTORIES:
            return None
        with _disable_current_modes():
            true_args, true_kwargs = tree_map(lambda x: values.get(id(x), x), (args, kwargs))
            try:
                value = func(*true_args, **true_kwargs)
            except Exception:
                return None
        small = isinstance(value, torch.Tensor) and value.numel() <= 1 << 20 and value.device.type == 'cpu'
        return value if small or isinstance(value, (bool, int, float)) else None

    def _apply(self, func: Any, name: str, out: Any, args: Any, kwargs: Any) -> None:
        handler = RULES.get(name)
        if handler is None and torch.Tag.pointwise in func.tags:
            handler = pointwise
        if handler is pointwise:
            pointwise(self, out, *args, operator=name.partition('::')[2], **kwargs)
        elif handler is not None:
            handler(self, out, *args, **kwargs)
        elif self.tensors(out):
            touched = [x for x in self.tensors((args, kwargs)) if self.entries(x)]
            if touched:
                self.trace.unknown.setdefault(name, self.where())
            for x in touched:
                self.freeze(self.entries(x), f'no rule for operator {name}')


def _numbers(name: str, args: Any) -> tuple[float, ...]:
    """Plain numbers among the arguments of arithmetic: a scale that depends on a size shows here."""
    if name.partition('::')[2] not in ('mul', 'div', 'mul_', 'div_', 'pow', 'full', 'add', 'sub'):
        return ()
    return tuple(float(a) for a in args if type(a) in (int, float))


def fake_copy(mode: FakeTensorMode, x: torch.Tensor) -> torch.Tensor:
    """A fake CPU tensor of the same shape, strides and dtype, whatever device ``x`` is on."""
    with mode:
        return torch.empty_strided(tuple(x.shape), x.stride(), dtype=x.dtype, device='cpu')


CONSTANTS = {f'aten::{name}' for name in 'full zeros ones new_zeros new_ones new_full'.split()}


def _value(x: Any) -> Any:
    """What is in a tensor, where that is known: constants, and what was computed from them."""
    if isinstance(x, FakeTensor):
        return getattr(x, '_dms_value', None)
    return None if x.is_floating_point() else x


FACTORIES = set('arange full zeros ones tril_indices triu_indices scalar_tensor'.split())


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


def call_forward(model: nn.Module, inputs: Any, forward_fn: Callable[..., Any] | None = None) -> Any:
    """The model on a tensor, a tuple (positional) or a dict (keywords), or through ``forward_fn(model, inputs)``."""
    if forward_fn is not None:
        return forward_fn(model, inputs)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


@contextlib.contextmanager
def module_stack(model: nn.Module, tracer: Tracer) -> Iterator[None]:
    """Keep ``tracer.stack`` at the path of the running module, and note each module's input and output."""
    handles = []

    def enter(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            tracer.stack.append(path)
            if path not in tracer.trace.io:
                tracer.trace.order.append(path)
            first = next(iter(tracer.tensors((args, kwargs))), None)
            tracer.trace.io[path] = (_signature(tracer, first), None)
            if first is not None:
                tracer.inputs[path] = first
                first._dms_sums = {**sums(first), path: ()}
                (tracer.rectified.add if getattr(first, '_dms_rectified', False) else tracer.rectified.discard)(path)
            if tracer.suspended:
                tracer.suspended += 1
            elif first is not None and tracer.on_call is None:
                spec: NormSpec | StandardSpec | CompactSpec | None = tracer.compact.get(path)
                if spec is None:
                    spec = recognise_standardised(module, first)
                if spec is None and tracer.entries(first):
                    rest = (args[1:], kwargs if args else {})
                    spec = recognise_norm(module, first, tracer.entries(first), rest)
                if spec is not None:
                    tracer.whole[path] = spec
                    tracer.trace.atomic[path] = None
                    tracer.suspended = 1

        return hook

    def leave(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            if tracer.suspended:
                tracer.suspended -= 1
                if not tracer.suspended:
                    x, spec = next(iter(tracer.tensors((args, kwargs)))), tracer.whole[path]
                    if isinstance(spec, NormSpec):
                        trace_norm(tracer, path, module, spec, x, out)
                    elif isinstance(spec, CompactSpec):
                        trace_compact(tracer, path, module, spec, x, out)
                    else:
                        trace_standardised(tracer, path, module, spec, x, out)
            tracer.stack.pop()
            first = next(iter(tracer.tensors(out)), None)
            if first is not None:
                branches = sums(first).get(path, ())
                # What returns more than its sum is asked for more than that.
                if branches and path not in tracer.trace.residual and len(tracer.tensors(out)) == 1:
                    tracer.trace.residual[path] = list(branches)
                first._dms_from = path
            if isinstance(out, tuple):
                tracer.trace.outputs[path] = len(out)
            if isinstance(out, tuple) or len(args) + len(kwargs) > 1:
                tracer.trace.calling[path] = None
            tracer.trace.io[path] = (tracer.trace.io[path][0], _signature(tracer, first))

        return hook

    try:
        for path, module in model.named_modules():
            if path and not isinstance(module, torch.jit.ScriptModule):
                handles.append(module.register_forward_pre_hook(enter(path), with_kwargs=True, prepend=True))
                handles.append(module.register_forward_hook(leave(path), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _signature(tracer: Tracer, x: Any) -> Any:
    return None if x is None else (tuple(x.shape), list(tracer.entries(x)))


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
def _plain_operators(model: nn.Module, training: bool) -> Iterator[None]:
    """A mode, and attention as its products and softmax, whatever kernel runs it later."""
    with (
        _mode_of(model, training),
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        _no_fastpath(),
        _local_norms(model),
    ):
        yield


def run_fake(
    model: nn.Module,
    inputs: Any,
    tracer: Tracer,
    training: bool,
    forward_fn: Callable[..., Any] | None = None,
) -> Any:
    """One forward of ``model`` on fake tensors under ``tracer``; the model itself is left as it was."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    tensors: dict[str, torch.Tensor] = {}
    seen: dict[int, torch.Tensor] = {}
    # A module that has several names is swapped once only, or the fake tensors would stay in it.
    named = [
        (f'{path}.{key}' if path else key, x)
        for path, module in model.named_modules()
        for key, x in [*module._parameters.items(), *module._buffers.items()]
        if x is not None
    ]
    for name, x in named:
        if id(x) not in seen:
            fake = fake_copy(mode, x)
            seen[id(x)] = fake
            if name in tracer.trace.params:
                tracer.put(fake, list(enumerate(tracer.trace.params[name])), name, frozenset([name]))
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


def run_meta(
    model: nn.Module,
    inputs: Any,
    tracer: Tracer,
    training: bool,
    forward_fn: Callable[..., Any] | None = None,
) -> Any:
    """The same for a model on ``meta``: several times as fast, but without the values of masks and indices."""
    data = tree_map(lambda x: x.to('meta') if isinstance(x, torch.Tensor) else x, inputs)
    with _plain_operators(model, training), module_stack(model, tracer), tracer:
        return call_forward(model, data, forward_fn)


def trace(
    model: nn.Module,
    inputs: Any,
    forward_fn: Callable[..., Any] | None = None,
    compact: Mapping[str, CompactSpec] | None = None,
) -> Trace:
    """Trace in eval mode and, because auxiliary heads run only there, in train mode too.

    Raises:
        TraceError: the forward fails on fake tensors, with the original error and the module where it happened.
    """
    result = Trace()
    seen: set[int] = set()
    for name, x in list(model.named_parameters()) + list(model.named_buffers()):
        # Integer buffers are indices and counters: their positions mean nothing.
        if x.ndim and id(x) not in seen and (x.is_floating_point() or x.is_complex()):
            seen.add(id(x))
            result.params[name] = [result.elements.new(size) for size in x.shape]
    for training in (False, True):
        tracer = Tracer(result, record_costs=not training)
        tracer.compact = compact or {}
        try:
            outputs = run_fake(model, inputs, tracer, training, forward_fn)
        except TraceError:
            raise
        except Exception as error:
            if training:
                result.notes.append(f'the training forward was not traced: {type(error).__name__}: {error}')
                continue
            raise TraceError(
                f'the model could not be traced: {type(error).__name__} in module {tracer.where()!r} '
                f'({type(dict(model.named_modules()).get(tracer.where())).__name__}): {error}. '
                'Check that example_inputs fit forward(), or pass forward_fn.'
            ) from error
        for x in tracer.tensors(_plain(outputs)):
            for _, ids in tracer.entries(x):
                result.elements.freeze(ids, 'an output of the model')
        result.calls.append(tracer.calls)
        if result.stuck and compact is None:
            found = find_compact(model, result)
            if found:
                return trace(model, inputs, forward_fn, found)
    for name, dims in result.params.items():
        if name not in result.used:
            for ids in dims:
                result.elements.freeze(ids, 'not used in the traced forward')
    result.elements.resolve()
    for source, ids in result.products:
        wanted = np.unique(result.elements.parts(ids))
        for d, line in enumerate(result.params[source]):
            if np.isin(result.elements.parts(line), wanted[wanted >= 0]).any():
                result.producers[source, d] = None
    return result


def _plain(outputs: Any) -> Any:
    """Outputs as a pytree: dataclasses and objects with attributes become dicts."""
    if isinstance(outputs, torch.Tensor) or outputs is None:
        return outputs
    if isinstance(outputs, Mapping):
        return {k: _plain(v) for k, v in outputs.items()}
    if isinstance(outputs, (list, tuple)):
        return [_plain(v) for v in outputs]
    if hasattr(outputs, '__dict__'):
        return {k: _plain(v) for k, v in vars(outputs).items() if not k.startswith('__')}
    return outputs


def first_batch(inputs: Any) -> int:
    """The batch size: the first dimension of the first tensor."""
    for x in tree_flatten(inputs)[0]:
        if isinstance(x, torch.Tensor) and x.ndim:
            return int(x.shape[0])
    return 1
