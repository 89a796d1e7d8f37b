"""What a forward says about a model's structure. Rooms above import from here, and specifications from ``wholes``."""

from .caches import forget
from .carriers import Carriers, carriers_of
from .dispatch import TraceError, Tracer
from .elements import Elements, IntArray
from .findings import Call, Cost, Entries, Gate, Numbers, Trace, Value, layer_of
from .forward import names_of, trace
from .ledger import Ledger
from .lifetimes import Lifetimes, Operation, Piece
from .running import call_forward, first_batch, plain_outputs, run_fake, run_meta
from .saved import saved_by

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
    'Trace',
    'TraceError',
    'Tracer',
    'Value',
    'call_forward',
    'carriers_of',
    'first_batch',
    'forget',
    'layer_of',
    'names_of',
    'plain_outputs',
    'run_fake',
    'run_meta',
    'saved_by',
    'trace',
]
