"""Resources that are sums of products of kept counts."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from ..topk import TopkBank
from .products import Products, Term
from .resource import Resource


class ResourceModel(Resource):
    """``sum_t factor_t * prod_j count_tj * prod_d mask_td`` (float64): bilinear in what two neighbours keep.

    Args:
        terms: factor, dimensions and depth elements of every operator (MACs) or parameter (params).
    """

    def __init__(self, terms: Iterable[Term], bank: TopkBank) -> None:
        super().__init__()
        self.products = Products([terms], bank)

    @property
    def needs_masks(self) -> bool:
        return self.products.needs_masks

    def value(self, kept: Tensor, masks: Tensor) -> Tensor:
        return self.products.terms(kept, masks).sum()
