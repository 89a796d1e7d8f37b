"""Optimizers that recipes of the paper need and MMEngine has not."""

from ..registry import OPTIMIZERS


def register_timm_optimizers() -> None:
    """timm's RMSprop as TensorFlow computes it: epsilon under the root, the rate inside the momentum."""
    try:
        from timm.optim import RMSpropTF
    except ImportError:  # timm is optional; a config that names the class then fails with MMEngine's own message
        return
    OPTIMIZERS.register_module(name='RMSpropTF', module=RMSpropTF, force=True)


register_timm_optimizers()
