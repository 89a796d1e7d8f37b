"""Tables of the rows that :mod:`runs` wrote."""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _docs import read_rows, write_block
from runs import RESULTS

Row = dict[str, Any]


def told(scores: list[float]) -> str:
    spread = f' ± {statistics.stdev(scores):.2f}' if len(scores) > 1 else ''
    return f'{statistics.mean(scores):.2f}{spread} ({len(scores)})'


def rank(score: float, among: list[float]) -> float:
    """Share of the others that are not better."""
    return sum(x <= score for x in among) / len(among)


def headroom_lines(found: list[Row]) -> list[str]:
    """How far random structures of equal MACs lie apart, beside what retraining one structure does."""
    lines = [
        '| supernet | budget | random: mean, spread | best | uniform widths | and depths | spread of retraining '
        '| rank of uniform |',
        '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ]
    groups: dict[tuple[str, float], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in found:
        if r['held_out']:
            groups[r['net'], r['budget']][r['method']].append(r['accuracy'])
    for (net, budget), by in groups.items():
        if len(by['random']) < 2 or not by['uniform-depth']:
            continue
        repeated = [statistics.stdev(by[m]) for m in ('uniform', 'uniform-depth') if len(by[m]) > 1]
        retraining = f'{statistics.mean(repeated):.2f}' if repeated else ''
        better = max(statistics.mean(by[m]) for m in ('uniform', 'uniform-depth') if by[m])
        uniform = told(by['uniform']) if by['uniform'] else ''
        lines.append(
            f'| {net} | {budget:.0%} | {told(by["random"])} | {max(by["random"]):.2f} | {uniform} '
            f'| {told(by["uniform-depth"])} | {retraining} | {rank(better, by["random"]):.0%} |'
        )
    return lines


def tried_lines(found: list[Row]) -> list[str]:
    """Every setting that was tried on held-out images."""
    lines = [
        '| supernet | budget | rule | options | held-out accuracy | seeds | uniform taken |',
        '| --- | --- | --- | --- | --- | --- | --- |',
    ]
    groups: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    taken: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for r in found:
        if r['held_out'] and r['method'] not in ('random', 'uniform', 'uniform-depth'):
            key = r['net'], r['budget'], r['method'], r['options']
            groups[key].append(r['accuracy'])
            taken[key] += [r['taken']] if 'taken' in r else []
    for (net, budget, method, options), scores in sorted(groups.items()):
        each = ', '.join(f'{s:.2f}' for s in scores)
        shares = taken[net, budget, method, options]  # of the way from uniform scaling, where candidates were compared
        uniform = f'{shares.count(0)} of {len(shares)}' if shares else ''
        lines.append(f'| {net} | {budget:.0%} | {method} | {options} | {told(scores)} | {each} | {uniform} |')
    return lines


def write_tables() -> None:
    found = read_rows(RESULTS)
    write_block('docs/benchmarks.md', 'headroom', '\n'.join(headroom_lines(found)))
    write_block('docs/benchmarks.md', 'pairs-tried', '\n'.join(tried_lines(found)))
