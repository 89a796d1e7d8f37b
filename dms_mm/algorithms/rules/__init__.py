"""How ratios move: one registered class each."""

from .balanced import BalancedRule
from .bayes import BayesRule
from .paper import PaperRule
from .rule import Rule

__all__ = ['BalancedRule', 'BayesRule', 'PaperRule', 'Rule']
