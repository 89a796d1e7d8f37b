"""What a forward says about a model's structure. Rooms above import from here, and specifications from ``wholes``."""

from .caches import forget
from .carriers import Carriers, carriers_of
from .dispatch import TraceError, Tracer
from .elements import Elements, IntArray
from .findings import Call, Cost, Entries, Gate, Numbers, Shaped, Slot, Step, Trace, Value, layer_of
from .forward import names_of, trace
from .ledger import Ledger
from .lifetimes import Lifetimes, Operation, Piece
from .running import call_forward, first_batch, plain_outputs, run_fake, run_meta
from .saved import saved_by
from .steps import found as function_of

__all__ = [
    'Call',
    'Carriers',
    'Cost',
    'Elements',
    'Entries',
    'Gate',
    'IntArray',
    'Ledger',
    'Lifetimes',
    'Numbers',
    'Piece',
    'Operation',
    'Shaped',
    'Slot',
    'Step',
    'Trace',
    'TraceError',
    'Tracer',
    'Value',
    'call_forward',
    'carriers_of',
    'first_batch',
    'forget',
    'function_of',
    'layer_of',
    'names_of',
    'plain_outputs',
    'run_fake',
    'run_meta',
    'saved_by',
    'trace',
]
