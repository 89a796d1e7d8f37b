"""Searches that step no ratios, over the same spaces and to the same budgets: one registered class each."""

from .evolution import Evolution, RandomSearch
from .judges import Judge, SupernetJudge
from .pruning import Pruning
from .strategy import Strategy
from .structures import fitted, random_keep
from .task import Budget, Task
from .zen import ZenScore
from .zico import ZiCo

__all__ = [
    'Budget',
    'Evolution',
    'Judge',
    'Pruning',
    'RandomSearch',
    'Strategy',
    'SupernetJudge',
    'Task',
    'ZenScore',
    'ZiCo',
    'fitted',
    'random_keep',
]
