"""Optimizers that recipes of the paper need and MMEngine has not, and constructors that see a supernet's parameters."""

from typing import Any

from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_CONSTRUCTORS
from torch import nn

from ..mutators.fold import raw_parameters
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS


def register_timm_optimizers() -> None:
    """timm's RMSprop as TensorFlow computes it: epsilon under the root, the rate inside the momentum."""
    try:
        from timm.optim import RMSpropTF
    except ImportError:  # timm is optional; a config that names the class then fails with MMEngine's own message
        return
    OPTIMIZERS.register_module(name='RMSpropTF', module=RMSpropTF, force=True)


register_timm_optimizers()


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
            wrapper: Any = self.inner(model)
        return wrapper
