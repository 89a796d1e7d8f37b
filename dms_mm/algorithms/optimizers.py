"""Optimizers that recipes of the paper need, of weights and of the structure, and MMEngine has not."""

from timm.optim import RMSpropTF

from ..registry import OPTIMIZERS

# TensorFlow's RMSprop: epsilon under the root, the rate inside the momentum.
OPTIMIZERS.register_module(name='RMSpropTF', module=RMSpropTF, force=True)
