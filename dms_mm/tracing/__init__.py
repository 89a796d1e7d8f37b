from .elements import Elements
from .tracer import Trace, TraceError, trace

__all__ = ['Elements', 'Trace', 'TraceError', 'trace']
