"""The verdicts as lines for a terminal and as the table of the docs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .catalog import OUTSIDE
from .verdict import EXACT, FROZEN, PARTLY, WRONG, Verdict

MOST_LINES = 4  # of wrong trials of one operator


def counts(verdicts: Sequence[Verdict]) -> str:
    found = Counter(verdict.status for verdict in verdicts)
    total = f'{len(verdicts)} operators, {sum(v.trials for v in verdicts):,} trials'
    return f'{total}: ' + ', '.join(f'{found[status]} {status}' for status in (EXACT, PARTLY, FROZEN, WRONG))


def _because(verdict: Verdict) -> str:
    return '; '.join(sorted(verdict.reasons))


def line(verdict: Verdict) -> str:
    """One operator, and every kind of wrong trial."""
    text = f'{verdict.name:45} {verdict.status}'
    if verdict.status in (PARTLY, FROZEN):
        text += f' ({_because(verdict)})'
    if not verdict.samples:
        return f'{text}\n    no sample'
    kinds: dict[str, str] = {}
    for wrong in verdict.wrong:
        kinds.setdefault(wrong[:60], wrong)
    return '\n    '.join([text, *list(kinds.values())[:MOST_LINES]])


HEAD = """# Operator rules and their oracle

`python -m dms_mm.tracing.check --write` writes this page; `--op NAME` looks at one operator. For every operator
of ATen that has a rule, that is elementwise, or that returns a view, sample inputs are traced, random positions that
the trace lets go are removed, and the real operator runs on what is left: its result must be the surviving part of the
full result, where parameters that the rule asks to be masked are masked.

*Exact*: every dimension of every sample lost positions in some trial, and every trial agreed. *Exact along other axes*:
some dimensions can't lose positions, for the reason in the last column. *Frozen*: none can. What freezes is never
wrong: its channels stay. Operators that are made of others are listed with these.
"""


def table(verdicts: Sequence[Verdict]) -> str:
    """The page docs/operators.md."""
    lines = [HEAD, counts(verdicts) + '.', '']
    lines += [
        '| operator | verdict | samples | trials | runs as | frozen because of |',
        '| --- | --- | --- | --- | --- | --- |',
    ]
    for v in sorted(verdicts, key=lambda v: v.name):
        runs = ', '.join(f'`{part[6:]}`' for part in v.parts)
        because = _because(v) if v.status != EXACT else ''
        name = f'`{v.name[6:]}`' if v.name.startswith('aten::') else v.name
        lines.append(f'| {name} | {v.status} | {v.samples} | {v.trials} | {runs} | {because} |')
    lines += ['', 'Views that are not looked at:', '']
    reasons: dict[str, list[str]] = {}
    for name, reason in OUTSIDE.items():
        reasons.setdefault(reason, []).append(f'`{name}`')
    lines += [f'- {reason}: {", ".join(names)}' for reason, names in reasons.items()]
    return '\n'.join(lines) + '\n'
