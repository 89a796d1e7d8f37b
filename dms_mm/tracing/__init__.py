"""What a forward says about a model's structure. Rooms above import from here, and specifications from ``wholes``."""

from .carriers import Carriers, carriers_of
from .dispatch import TraceError, Tracer
from .elements import Elements, IntArray
from .findings import Call, Cost, Gate, Trace, layer_of
from .forward import call_forward, first_batch, names_of, plain_outputs, run_fake, run_meta, trace
from .ledger import Ledger

__all__ = [
    'Call',
    'Carriers',
    'Cost',
    'Elements',
    'Gate',
    'IntArray',
    'Ledger',
    'Trace',
    'TraceError',
    'Tracer',
    'call_forward',
    'carriers_of',
    'first_batch',
    'layer_of',
    'names_of',
    'plain_outputs',
    'run_fake',
    'run_meta',
    'trace',
]
