from .bank import TopkBank
from .functional import differentiable_topk, segment_ranks, soft_mask

__all__ = ['TopkBank', 'differentiable_topk', 'segment_ranks', 'soft_mask']
