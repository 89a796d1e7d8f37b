from .amounts import amount, shown
from .context import ResourceContext, Resources, build_resources
from .macs import Macs
from .model import ResourceModel
from .params import Params
from .products import Products, Term
from .resource import Resource

__all__ = [
    'Macs',
    'Params',
    'Products',
    'Resource',
    'ResourceContext',
    'ResourceModel',
    'Resources',
    'Term',
    'amount',
    'build_resources',
    'shown',
]
