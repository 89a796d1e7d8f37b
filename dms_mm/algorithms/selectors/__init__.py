"""What turns a unit's numbers into masks, in the place of the top-k: one registered class each."""

from .estimate import GET
from .gates import MES
from .minmax import MinMaxTopk
from .number import SNS
from .topk import TopkBank

__all__ = ['GET', 'MES', 'SNS', 'MinMaxTopk', 'TopkBank']
