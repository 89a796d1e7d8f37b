"""Trials of every sample of an operator, and what they say together."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from .catalog import shared_rule, tapes_of
from .roles import Cast, casts
from .tape import Tape
from .trial import Finding, Trial

# A shape that depends on numbers: no model with such a call can be traced at all.
UNTRACEABLE = (DynamicOutputShapeException, DataDependentOutputException)
EXACT, PARTLY, FROZEN, WRONG = 'exact', 'exact along other axes', 'frozen', 'wrong'


@dataclass
class Verdict:
    """What the oracle says of one operator.

    Attributes:
        exact_axes, frozen_axes: dimensions of inputs, over all samples, that lost positions, or never could; what
            could have and did not, by chance, counts as neither.
        reasons: why they never could -> how many.
        parts: the operators that it runs as, where it is none of them itself.
        wrong: one line for every trial that failed.
    """

    name: str
    samples: int = 0
    trials: int = 0
    exact_axes: int = 0
    frozen_axes: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        if self.wrong or not self.samples:
            return WRONG
        if not self.frozen_axes:
            return EXACT
        return PARTLY if self.exact_axes else FROZEN


def examine(name: str, tapes: Sequence[Tape], brief: bool = False) -> Verdict:
    """Every cast of every tape, cut at random once. Deterministic."""
    verdict = Verdict(name)
    parts: set[str] = set()
    for number, tape in enumerate(tapes):
        generator = np.random.default_rng(zlib.crc32(f'{name} {number}'.encode()))
        shapes = [tuple(x.shape) for x in tape.inputs]
        axes: dict[tuple[int, int], bool | str] = {}
        untraced = False
        for cast in casts(shapes, generator, brief):
            try:
                finding = _tried(tape, cast, generator)
            except UNTRACEABLE:
                untraced = True
                break
            verdict.trials += 1
            if finding.wrong:
                verdict.wrong.append(f'{finding.culprit} {finding.wrong}: {_described(tape, cast)}')
            for axis, value in finding.axes.items():
                if value is True or axes.get(axis, '') == '':
                    axes[axis] = value
        if untraced:
            continue
        verdict.samples += 1
        parts |= tape.names if name not in tape.names else set()
        for value in axes.values():
            if value is True:
                verdict.exact_axes += 1
            elif value:
                verdict.frozen_axes += 1
                reason = str(value).removesuffix(' in the model')
                verdict.reasons[reason] = verdict.reasons.get(reason, 0) + 1
    verdict.parts = sorted(parts)
    return verdict


def _tried(tape: Tape, cast: Cast, generator: np.random.Generator) -> Finding:
    try:
        return Trial(tape, cast).run(generator)
    except UNTRACEABLE:
        raise
    except Exception as error:
        return Finding(wrong=f'the trace fails, {type(error).__name__}: {error}')


def _described(tape: Tape, cast: Cast) -> str:
    inputs = [f'{list(x.shape)} {role}' for x, role in zip(tape.inputs, cast.roles)]
    shared = f', shared elements {cast.shared}' if cast.shared is not None else ''
    return f'{tape} of {", ".join(inputs)}{shared}'


def check_operator(name: str) -> Verdict:
    """The verdict on an operator (``aten::add``) by all its samples."""
    return examine(name, tapes_of(name), shared_rule(name))
