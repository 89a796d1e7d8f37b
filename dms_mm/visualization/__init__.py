from .structure import plot_widths, unit_table

__all__ = ['plot_widths', 'unit_table']
