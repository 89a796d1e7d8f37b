"""Multiply-accumulate operations."""

from __future__ import annotations

from ..registry import RESOURCES
from .context import ResourceContext
from .model import ResourceModel


@RESOURCES.register_module(name=['Macs', 'macs'])
class Macs(ResourceModel):
    """MACs of one sample: ``k_in * k_out * positions`` of every product, with a block's scaled by its mask (A.1.2)."""

    by_parts = True

    def __init__(self, context: ResourceContext) -> None:
        super().__init__([term for _, terms in context.operators() for term in terms], context.bank)
