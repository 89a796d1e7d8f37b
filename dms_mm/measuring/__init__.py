"""Measuring on a device of one's own what slim models take there."""

from .backends import make_backend
from .measure import measure, model_call
from .models import fitted, predicted, random_structure, slim_of
from .timing import seconds_of, summary

__all__ = [
    'fitted',
    'make_backend',
    'measure',
    'model_call',
    'predicted',
    'random_structure',
    'seconds_of',
    'slim_of',
    'summary',
]
