from .context import ResourceContext, Resources, build_resources
from .latency import Latency
from .macs import Macs
from .model import ResourceModel
from .params import Params
from .products import Products, Term
from .resource import Resource

__all__ = [
    'Latency',
    'Macs',
    'Params',
    'Products',
    'Resource',
    'ResourceContext',
    'ResourceModel',
    'Resources',
    'Term',
    'build_resources',
]
