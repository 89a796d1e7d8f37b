"""Draws docs/fold.png: python docs/draw_fold.py"""

from pathlib import Path

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

MASK = [1.0, 0.9, 0.05, 0.6, 0.0]


def grid(axis, x, y, columns, title, column_alpha=None, rows=4):
    for i in range(rows):
        for j in range(columns):
            alpha = 0.85 if column_alpha is None else 0.08 + 0.77 * column_alpha[j]
            axis.add_patch(Rectangle((x + j, y + i), 0.92, 0.92, color='#2b6cb0', alpha=alpha))
    axis.text(x + columns / 2, y + rows + 0.5, title, ha='center', fontsize=10)


figure, axis = plt.subplots(figsize=(10, 3.2))
axis.text(1.4, 2, 'input\n(B, 5, H, W)\nnot touched', ha='center', va='center', fontsize=10)
axis.annotate('', (4.2, 2), (3, 2), arrowprops=dict(arrowstyle='->'))
axis.text(5.2, 2, 'conv', ha='center', va='center', fontsize=11, bbox=dict(boxstyle='round', fc='#edf2f7'))
axis.annotate('', (7.6, 2), (6.2, 2), arrowprops=dict(arrowstyle='->'))
axis.text(8.9, 2, 'output\n(B, 4, H, W)', ha='center', va='center', fontsize=10)
grid(axis, 12, 0, 5, 'parameter W (4 x 5)')
axis.text(17.6, 2, 'x', fontsize=14)
grid(axis, 18.5, 1.5, 5, 'mask m (5)', MASK, rows=1)
axis.text(24, 2, '=', fontsize=14)
grid(axis, 25, 0, 5, 'what the conv reads', MASK)
axis.annotate(
    '', (5.2, 1.2), (27.5, -0.3), arrowprops=dict(arrowstyle='->', connectionstyle='arc3,rad=-0.28', color='#718096')
)
axis.set_xlim(0, 31)
axis.set_ylim(-3.2, 5.4)
axis.axis('off')
figure.tight_layout()
figure.savefig(Path(__file__).with_name('fold.png'), dpi=110)
