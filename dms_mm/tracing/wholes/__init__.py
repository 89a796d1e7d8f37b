"""Modules that are traced as one operator: one registered kind each."""

from . import compact, norms, standardised
from .kinds import Whole, find, recognise

__all__ = ['Whole', 'compact', 'find', 'norms', 'recognise', 'standardised']
