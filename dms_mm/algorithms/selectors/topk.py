"""The differentiable top-k as a selector (section 3.1): one number a unit, its pruning ratio."""

from ...registry import SELECTORS
from ...topk import TopkBank

SELECTORS.register_module(name=['TopkBank', 'topk'], module=TopkBank)
