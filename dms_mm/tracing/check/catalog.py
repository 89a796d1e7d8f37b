"""Which operators the oracle looks at, and tapes of them: torch's own samples, ours, and what a schema allows."""

from __future__ import annotations

import collections
import functools
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from ...registry import OPERATORS
from ..rules.parts import PARTS
from ..rules.pointwise import pointwise
from .samples import SAMPLES, tapes_of_ours
from .tape import NotOnTapeError, Tape, alone, record

DTYPES = (torch.float64, torch.float32, torch.complex128, torch.int64, torch.bool)
SEEN_OF_EACH = 12  # samples of one entry of op_db that are looked at
MOST_STEPS, MOST_NUMBERS = 12, 4096


@functools.cache
def tagged() -> tuple[frozenset[str], frozenset[str]]:
    """Names of ATen's pointwise operators, and of those that return a view by their schema."""
    elementwise, views = set(), set()
    for full in torch._C._dispatch_get_all_op_names():
        name, _, overload = full.partition('.')
        packet = getattr(torch.ops.aten, name[6:], None) if name.startswith('aten::') else None
        op = getattr(packet, overload or 'default', None) if packet is not None else None
        if op is None:
            continue
        if torch.Tag.pointwise in op.tags:
            elementwise.add(name)
        if any(r.alias_info is not None and not r.alias_info.is_write for r in op._schema.returns):
            views.add(name)
    return frozenset(elementwise), frozenset(views)


# Of what no model that is traced has, what never comes to a tracer, or what can't be cut freely.
OUTSIDE = {
    **dict.fromkeys(
        '_indices _values indices values coalesce ccol_indices col_indices crow_indices row_indices '
        '_sparse_broadcast_to'.split(),
        'sparse tensors',
    ),
    **dict.fromkeys('_nested_get_values _nested_view_from_buffer _nested_view_from_jagged'.split(), 'nested tensors'),
    **dict.fromkeys('_fw_primal _make_dual _unpack_dual'.split(), 'forward-mode derivatives'),
    **dict.fromkeys('_autocast_to_full_precision _autocast_to_reduced_precision'.split(), 'only in scripts'),
    '_test_autograd_multiple_dispatch_view': "torch's own tests",
    'pin_memory': 'needs an accelerator',
    'slice_inverse': 'only in derivatives',
    'equal': 'its result is a bool of Python',
    'positive': 'its result is its input',
}


def targets() -> list[str]:
    """Every operator with a rule, every pointwise one, every view."""
    elementwise, views = tagged()
    outside = {f'aten::{name}' for name in OUTSIDE}
    return sorted({*OPERATORS.module_dict, *SAMPLES, *((elementwise | views | PARTS.keys()) - outside)})


def shared_rule(name: str) -> bool:
    """Whether an operator has no rule but the one of all pointwise ones."""
    return OPERATORS.module_dict.get(name) in (None, pointwise) and name in tagged()[0]


def tapes_of(name: str, least: int = 3) -> list[Tape]:
    """Our samples of an operator, and as many of torch's; short ones that carry much come first."""
    tapes = tapes_of_torch(2 * least).get(name, [])
    short = [tape if len(tape.steps) == 1 else alone(tape, name) for tape in tapes]
    chosen = [*tapes_of_ours(name), *sorted(short, key=_order)[:least]]
    return [*chosen, *itertools.islice(from_schema(name), least)] if len(chosen) < least else chosen


def _usable(tape: Tape) -> bool:
    numbers = [x.numel() for x in tape.inputs]
    return (
        0 < len(tape.steps) <= MOST_STEPS
        and all(0 < n <= MOST_NUMBERS for n in numbers)
        and all(x.layout == torch.strided for x in tape.inputs)
    )


def from_schema(name: str, count: int = 3) -> Iterator[Tape]:
    """Tapes of an operator on tensors, numbers and flags, made by what its schema takes."""
    packet = getattr(torch.ops.aten, name.partition('::')[2], None)
    if packet is None:
        return
    generator = torch.Generator().manual_seed(0)
    for overload, dtype, shape in itertools.product(packet.overloads(), DTYPES, ((4, 6), (2, 4, 6), (3, 2, 6, 4))):
        op = getattr(packet, overload)
        if overload == 'out' or overload.endswith('_out'):
            continue
        args = [_value(a, shape, dtype, generator) for a in op._schema.arguments if not a.kwarg_only]
        # Arguments with a default end where the operator turns ours away.
        least = sum(not a.has_default_value() for a in op._schema.arguments if not a.kwarg_only)
        for end in range(len(args), least - 1, -1):
            tape = None if None in args[:end] else _try(functools.partial(op, *args[:end]), [])
            if tape is not None:
                yield tape
                break


def _value(argument: Any, shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Any:
    kind = str(argument.type)
    if kind in ('Tensor', 'Optional[Tensor]'):
        numbers = torch.rand(shape, generator=generator, dtype=torch.float64)
        return (numbers * 3).to(dtype) if dtype in (torch.int64, torch.bool) else numbers.to(dtype)
    if kind in ('number', 'float', 'Optional[number]', 'Optional[float]'):
        return 0.5 if dtype.is_floating_point or dtype.is_complex else 1
    return {'int': 1, 'bool': True, 'Optional[bool]': True}.get(kind)


def _order(tape: Tape) -> tuple[int, int]:
    """For sorting: tapes with many dimensions that may lose positions first, then those with few numbers."""
    wide = sum(min(3, sum(s > 1 for s in x.shape)) for x in tape.inputs[:3])
    return -wide, sum(x.numel() for x in tape.inputs)


def _try(function: Callable[..., Any], inputs: list[torch.Tensor]) -> Tape | None:
    try:
        tape = record(function, inputs)
    except NotOnTapeError:
        return None
    except Exception:  # a combination of arguments that the operator turns away
        return None
    return tape if _usable(tape) else None


def _of_entry(entry: Any) -> Iterator[Tape]:
    dtype = next((d for d in DTYPES if d in entry.dtypes), None)
    if dtype is None:
        return
    # entry.sample_inputs() looks through the whole call stack to find a test's name: a hundred times as long.
    samples = itertools.islice(entry.sample_inputs_func(entry, 'cpu', dtype, False), SEEN_OF_EACH)
    # What an operator in place leaves of its sample is of no use to another.
    variants = [v for v in (entry.op, entry.inplace_variant) if v is not None]
    while True:
        try:
            sample = next(samples)
        except Exception:  # the end, or samples that need what is not installed
            return
        for variant in variants:
            tape = _try(functools.partial(variant, sample.input, *sample.args, **sample.kwargs), [])
            if tape is not None:
                yield tape


@functools.cache
def tapes_of_torch(enough: int) -> dict[str, list[Tape]]:
    """Operator -> tapes from torch's database of operators; an entry ends where all it shows was seen often."""
    try:
        from torch.testing._internal.common_methods_invocations import op_db
    except ModuleNotFoundError as e:
        raise ModuleNotFoundError(f"torch's samples of its operators need {e.name}: pip install {e.name}") from e

    found: dict[str, list[Tape]] = {}
    alone: collections.Counter[str] = collections.Counter()  # tapes of one step
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for entry in op_db:
            torch.manual_seed(0)
            for tape in _of_entry(entry):
                if all(alone[name] >= enough for name in tape.names):
                    break
                alone.update(tape.names if len(tape.steps) == 1 else ())
                for name in tape.names:
                    found.setdefault(name, []).append(tape)
    return found
