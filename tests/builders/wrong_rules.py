"""Rules made wrong on purpose."""

import numpy as np

from dms_mm.tracing.ledger import tensors_of


def forgets(ledger, out, *args, **kwargs):
    """The ids end here, and nothing is frozen."""
    for x in tensors_of(out):
        ledger.put(x, [])


def turned(right):
    def rule(ledger, out, *args, **kwargs):
        right(ledger, out, *args, **kwargs)
        for x in tensors_of(out):
            entries = [(dims, np.ascontiguousarray(np.flip(ids))) for dims, ids in ledger.entries(x)]
            ledger.put(x, entries, ledger.source(x), ledger.makers(x))

    return rule


def unmasked(right):
    """All is tied as it should be, but nobody takes the mask."""

    def rule(ledger, out, *args, **kwargs):
        trace = ledger.trace
        before = len(trace.requests), dict(trace.consumers), {k: set(v) for k, v in trace.requested.items()}
        right(ledger, out, *args, **kwargs)
        del trace.requests[before[0] :]
        for kept, old in ((trace.consumers, before[1]), (trace.requested, before[2])):
            kept.clear()
            kept.update(old)

    return rule


def passes(right):
    """The output is what the first input is, position by position, and nothing else is said."""

    def rule(ledger, out, x, *args, **kwargs):
        first = tensors_of(out)[0]
        ledger.put(first, ledger.entries(x), None, ledger.makers(x))

    return rule


def at(path, wrong):
    """A rule that is wrong in one module alone."""

    def made(right):
        def rule(ledger, *args, **kwargs):
            return (wrong(right) if ledger.where() == path else right)(ledger, *args, **kwargs)

        return rule

    return made
