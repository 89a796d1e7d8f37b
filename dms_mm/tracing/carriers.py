"""What takes the mask of a residual block: parameters that its branches are linear in, or outputs of modules."""

from __future__ import annotations

from collections.abc import Iterable

from .findings import Trace
from .flow import Joint, Origin
from .ledger import Ledger

Carriers = dict[str, tuple[str, ...]]  # name of a branch's end -> its parameters, none for the output of a module
DEEPEST = 32  # how far what a tensor scales with is traced back


def add_forward(ledger: Ledger) -> None:
    """Add what one forward, now complete, knows of modules. The first one in which a module runs tells its branches."""
    trace = ledger.trace
    for path, branches in ledger.blocks.items():
        trace.sums.setdefault(path, branches)
    for path, joint in ledger.made.items():
        trace.made.setdefault(path, joint)
    for name, stacks in ledger.uses.items():
        trace.uses.setdefault(name, []).extend(stacks)
    for path, stacks in ledger.callers.items():
        trace.callers.setdefault(path, []).extend(stacks)


def find_blocks(trace: Trace) -> None:
    """Fill ``trace.residual``: modules all of whose branches have something that takes a mask."""
    for path, branches in trace.sums.items():
        found = [_search(trace, path, joint) for joint in branches or ()]
        if found and all(found):
            trace.residual[path] = _named(path, [origin for origins in found for origin in origins or ()])


def carriers_of(trace: Trace, block: str, module: str) -> Carriers:
    """What takes the mask of a block whose branch is the output of ``module``; paths from the model on."""
    found = _search(trace, block, trace.made.get(module, ()))
    return _named(block, found) if found else {module: ()}


def _search(trace: Trace, block: str, joint: Joint) -> list[Origin] | None:
    """Parameters and modules that a joint scales with and that serve ``block`` alone; None if there are none."""
    known: dict[tuple[int, bool, bool], list[Origin] | None] = {}

    def one(origin: Origin, linear: bool, outputs: bool, depth: int) -> list[Origin] | None:
        """``linear``: not by what it is zero without; ``outputs``: those of modules are good, too."""
        key = id(origin), linear, outputs
        if key not in known:
            known[key] = None
            known[key] = look(origin, linear, outputs, depth)
        return known[key]

    def every(origins: Joint, linear: bool, outputs: bool, depth: int) -> list[Origin] | None:
        found = [one(origin, linear, outputs, depth + 1) for origin in origins] if depth < DEEPEST else []
        return [origin for part in found for origin in part or ()] if found and all(found) else None

    def look(origin: Origin, linear: bool, outputs: bool, depth: int) -> list[Origin] | None:
        if origin.parameter:
            return [origin] if _is_own_parameter(trace, block, origin.parameter) else None
        ways = [every(way, linear, False, depth) for way in origin.ways]
        if outputs:
            ways.append([origin] if _is_own_module(trace, block, origin.module) else None)
            ways += [every(way, linear, True, depth) for way in origin.ways]
        if not linear:
            ways.append(every(origin.zero, linear, outputs, depth))
        return next((way for way in ways if way), None)

    return every(joint, True, True, 0) or every(joint, False, True, 0)


def _is_own_parameter(trace: Trace, block: str, name: str) -> bool:
    """Used once whenever the block runs, and never else."""
    uses = trace.uses.get(name, [])
    inside = name.startswith(block + '.') and all(block in running for running in uses)
    return inside and len(uses) == len(trace.callers.get(block, []))


def _is_own_module(trace: Trace, block: str, path: str) -> bool:
    return path.startswith(block + '.') and all(block in running for running in trace.callers[path])


def _named(block: str, origins: Iterable[Origin]) -> Carriers:
    """Weight and bias of one module under its name, others under their own."""
    result: Carriers = {}
    for origin in origins:
        if origin.module:
            result.setdefault(origin.module, ())
            continue
        holder, _, key = origin.parameter.rpartition('.')
        name = holder if key in ('weight', 'bias') and holder != block else origin.parameter
        if origin.parameter not in result.get(name, ()):
            result[name] = (*result.get(name, ()), origin.parameter)
    return result
