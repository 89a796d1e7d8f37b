"""Tables of latencies that nobody measured, so that no test waits for a clock or depends on one."""

import itertools
import math

from dms_mm.resources.latency import Correction, OperatorTimes, Table, find_operators


def operators_of(space, backend='eager'):
    context = space.counters.context
    return find_operators(context.trace, context.ownership, context.batch, backend)


def bilinear(program, point):
    """Seconds of a program: bilinear in its coordinates, so that what lies between two points is exact."""
    weight = 1 + sum(map(ord, program.actions[0].name)) % 7
    return 1e-6 * (weight + 0.01 * sum(point) + 1e-4 * math.prod(point))


def line_of(program, axis):
    """From one of everything to all of it."""
    ends = [program.coordinates(sizes)[axis] for sizes in ([1] * len(program.sizes), program.sizes)]
    return sorted({*ends, (ends[0] + ends[1]) / 2})


def table_of(space, cost=bilinear, backend='eager', **fields):
    """A table of a space's operators, each of which takes ``cost(program, point)``."""
    operators = {}
    whole = operators_of(space, backend)
    for operator in whole.found:
        program = operator.program
        points = [line_of(program, axis) for axis in range(len(operator.coordinates))]
        seconds = [cost(program, point) for point in itertools.product(*points)]
        operators[operator.digest] = OperatorTimes(
            name=program.told(), kind=program.kind, points=points, seconds=seconds, spread=[0.0] * len(seconds)
        )
    given = dict(
        model='a model', backend=backend, device='cpu', device_name='a machine', batch=1, threads=1,
        versions=dict(torch='2'), whole=whole.digest, operators=operators, correction=Correction(),
    )  # fmt: skip
    return Table(**{**given, **fields})
