from .model import ResourceModel

__all__ = ['ResourceModel']
