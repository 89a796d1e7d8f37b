"""Structures of several budgets as a table and as a picture: what they score against what they cost."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def sweep_table(rows: Sequence[Row], metric: str) -> str:
    """Markdown: every budget, what it costs, and what it scores.

    Args:
        rows: ``dict(name=, resources=, supernet=, metrics=)`` of each structure.
        metric: key of ``metrics``.
    """
    resources = list(rows[0]['resources'])
    head = ['budget', *(f'{name} (share)' for name in resources), metric]
    lines = [f'| {" | ".join(head)} |', '| --- ' * len(head) + '|']
    for row in rows:
        counts = [f'{row["resources"][n]:,} ({row["resources"][n] / row["supernet"][n]:.1%})' for n in resources]
        lines.append(f'| {" | ".join([row["name"], *counts, format(row["metrics"][metric], ".4g")])} |')
    return '\n'.join(lines) + '\n'


def plot_sweep(rows: Sequence[Row], metric: str, resource: str, path: str | os.PathLike[str]) -> None:
    """The metric against the share of a resource, one point for each structure."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    shares = [row['resources'][resource] / row['supernet'][resource] for row in rows]
    scores = [row['metrics'][metric] for row in rows]
    figure, axis = plt.subplots(figsize=(6, 4))
    axis.plot(shares, scores, color='#2b6cb0', marker='o')
    for row, share, score in zip(rows, shares, scores):
        axis.annotate(row['name'], (share, score), textcoords='offset points', xytext=(4, -11), fontsize=8)
    axis.set_xscale('log')
    axis.set_xticks(shares, [f'{share:.0%}' if share >= 0.1 else f'{share:.1%}' for share in shares])
    axis.minorticks_off()
    axis.set_xlabel(f'{resource}, share of the supernet')
    axis.set_ylabel(metric)
    axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
