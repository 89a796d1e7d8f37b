from .slim import build_slim
from .structure import Structure, StructureError

__all__ = ['Structure', 'StructureError', 'build_slim']
