from .slim import SlimModel

__all__ = ['SlimModel']
