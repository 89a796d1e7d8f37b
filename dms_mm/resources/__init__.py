from ..registry import RESOURCES
from .model import ResourceModel

RESOURCES.register_module(name=['macs', 'params'], module=ResourceModel)

__all__ = ['ResourceModel']
