"""Samples of our own: of operators that torch's database doesn't show, or not in the ways that models use them."""

from . import indexing, products, programs, reductions, regions, spatial, views
from .making import SAMPLES, own, tapes_of_ours

__all__ = [
    'SAMPLES',
    'indexing',
    'own',
    'products',
    'programs',
    'reductions',
    'regions',
    'spatial',
    'tapes_of_ours',
    'views',
]
