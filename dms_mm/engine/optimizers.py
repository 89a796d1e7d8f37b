"""Constructors of optimizers that see a supernet's parameters."""

from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_CONSTRUCTORS
from torch import nn

from ..mutators.fold import raw_parameters
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class SupernetOptimWrapperConstructor:
    """The constructor named by ``inner`` (MMEngine's default otherwise), shown the parameters without their masks.

    Some constructors, MMYOLO's among them, collect ``module.weight`` instead of ``named_parameters()``; on a
    searchable model that is the masked weight. tools/train.py puts this around what a search's config names.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        inner = optim_wrapper_cfg.pop('inner', 'DefaultOptimWrapperConstructor')
        self.inner = MMENGINE_CONSTRUCTORS.build(
            dict(type=inner, optim_wrapper_cfg=optim_wrapper_cfg, paramwise_cfg=paramwise_cfg)
        )

    def __call__(self, model: nn.Module) -> OptimWrapper:
        with raw_parameters():
            return self.inner(model)
