"""An oracle for operator rules (DESIGN 3.9): what a rule says survives is compared with what the operator gives."""

from .catalog import tapes_of, targets
from .verdict import Verdict, check_operator, examine

__all__ = ['Verdict', 'check_operator', 'examine', 'tapes_of', 'targets']
