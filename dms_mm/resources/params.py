"""Numbers of parameters."""

from __future__ import annotations

from ..registry import RESOURCES
from .context import ResourceContext
from .model import ResourceModel


@RESOURCES.register_module(name=['Params', 'params'])
class Params(ResourceModel):
    """Parameters: ``k_in * k_out`` of a linear layer, with a block's scaled by its mask (A.1.2)."""

    by_parts = True

    def __init__(self, context: ResourceContext) -> None:
        super().__init__([term for _, terms in context.parameters() for term in terms], context.bank)
