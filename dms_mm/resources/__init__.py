from .amounts import amount, shown
from .context import ResourceContext, Resources, build_resources
from .latency import Latency
from .macs import Macs
from .memory import ActivationBytes, CacheBytes, Memory, WeightBytes
from .model import ResourceModel
from .params import Params
from .products import Products, Term
from .resource import Resource

__all__ = [
    'ActivationBytes',
    'CacheBytes',
    'Latency',
    'Macs',
    'Memory',
    'Params',
    'Products',
    'Resource',
    'ResourceContext',
    'ResourceModel',
    'Resources',
    'Term',
    'WeightBytes',
    'amount',
    'build_resources',
    'shown',
]
