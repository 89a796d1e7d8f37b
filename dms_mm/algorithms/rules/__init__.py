"""How ratios move: one registered class each."""

from .balanced import BalancedRule
from .paper import PaperRule
from .rule import Rule

__all__ = ['BalancedRule', 'PaperRule', 'Rule']
