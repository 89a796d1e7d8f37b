from .structure import plot_widths, unit_table
from .sweep import plot_sweep, sweep_table

__all__ = ['plot_sweep', 'plot_widths', 'sweep_table', 'unit_table']
