"""Latency, measured on a device of one's own: the table, what it is a table of, and the resource made of it."""

from .operators import EAGER, Operator, Operators, find_operators
from .program import GROUPS, KINDS, Action, Argument, Kind, Program, Size, size_of
from .resource import Latency
from .table import BACKENDS, Backend, Correction, ModelTime, OperatorTimes, Table, TableError

__all__ = [
    'BACKENDS',
    'Backend',
    'EAGER',
    'GROUPS',
    'KINDS',
    'Action',
    'Argument',
    'Correction',
    'Kind',
    'Latency',
    'ModelTime',
    'Operator',
    'OperatorTimes',
    'Operators',
    'Program',
    'Size',
    'Table',
    'TableError',
    'find_operators',
    'size_of',
]
