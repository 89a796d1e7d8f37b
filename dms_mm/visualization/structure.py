"""A structure as a table and as a picture (figure 4 of the paper)."""

from __future__ import annotations

import os

from ..slimming import Structure


def unit_table(structure: Structure) -> str:
    """Markdown: every unit before and after, what the search knew of it where it measured that, and the resources."""
    measured = any('confidence' in unit for unit in structure.units.values())
    head = ['unit', 'kind', 'supernet', 'kept', 'share'] + ['confidence'] * measured
    lines = [f'| {" | ".join(head)} |', '| --- ' * len(head) + '|']
    for name, unit in structure.units.items():
        kept = structure.kept(name)
        share = f'{kept / unit["size"]:.0%}' + (' (under 5%)' if name in structure.strangled() else '')
        if structure.is_gone(name):
            kept, share = 0, 'block removed'
        known = [f'{unit["confidence"]:.2f}' if 'confidence' in unit else ''] * measured
        lines.append('| ' + ' | '.join([name, unit['kind'], str(unit['size']), str(kept), share, *known]) + ' |')
    lines += ['', '| resource | supernet | kept | share |', '| --- | --- | --- | --- |']
    for name, value in structure.resources.items():
        full = structure.supernet[name]
        share = f'{value / full:.1%}' if full else ''
        lines.append(f'| {name} | {full:,} | {value:,} | {share} |')
    return '\n'.join(lines) + '\n'


def plot_widths(structure: Structure, path: str | os.PathLike[str], title: str = '') -> None:
    """Bars of kept widths over those of the supernet, then the blocks of every stage."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    parts = [
        [(n, u) for n, u in structure.units.items() if u['kind'] != 'depth'],
        [(n, u) for n, u in structure.units.items() if u['kind'] == 'depth'],
    ]
    labels = ['channels', 'blocks']
    shown = [(label, part) for label, part in zip(labels, parts) if part]
    ratios = [max(len(part), 3) for _, part in shown]
    figure, axes = plt.subplots(
        1, len(shown), figsize=(max(6, 0.28 * sum(ratios) + 2), 5), width_ratios=ratios, squeeze=False
    )
    for axis, (label, part) in zip(axes[0], shown):
        x = range(len(part))
        axis.bar(x, [u['size'] for _, u in part], color='#d5dbe3', label='supernet')
        axis.bar(x, [0 if structure.is_gone(n) else structure.kept(n) for n, _ in part], color='#2b6cb0', label='kept')
        axis.set_xticks(list(x), [n for n, _ in part], rotation=90, fontsize=6)
        axis.set_ylabel(label)
        axis.yaxis.get_major_locator().set_params(integer=True)
    axes[0][0].legend()
    axes[0][0].set_title(title or ', '.join(f'{k} {v:,}' for k, v in structure.resources.items()), fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
