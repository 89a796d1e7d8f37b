"""Small supernets for images of 28 px in one channel, and their budgets on the steep part of the curve.

Each is the shape of a well-known family, its classes taken from timm where timm has them, so narrow that a search and a
retraining take minutes on a CPU.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from quality import efficientnet, flat

# Shares of the supernet's MACs.
BUDGETS: dict[str, tuple[float, float]] = {
    'flat': (0.06, 0.03),
    'bottleneck': (0.08, 0.04),
    'mobilenetv2': (0.1, 0.05),
    'mobilenetv3': (0.1, 0.05),
    'efficientnet': (0.1, 0.05),
    'convnext': (0.1, 0.05),
    'deit': (0.2, 0.1),
}
# Epochs of search and of retraining, and the learning rate of both.
TRAINING: dict[str, tuple[float, float, float]] = {
    'flat': (0.7, 2.5, 0.1),
    'bottleneck': (0.7, 2.5, 0.1),
    'mobilenetv2': (0.7, 2.5, 0.1),
    'mobilenetv3': (0.7, 2.5, 0.1),
    'efficientnet': (0.7, 2.5, 0.1),
    'convnext': (0.7, 2.5, 0.05),
    'deit': (0.7, 4.0, 0.05),
}


def bottleneck() -> nn.Module:
    """timm's ResNet of bottlenecks, whose branches start at zero."""
    from timm.models.resnet import Bottleneck, ResNet

    return ResNet(
        Bottleneck, [2, 2, 2, 2], num_classes=10, in_chans=1, stem_width=32, channels=(16, 32, 64, 128),
        replace_stem_pool=False, output_stride=32,
    )  # fmt: skip


def mobilenetv2() -> nn.Module:
    """Inverted bottlenecks with a stem that keeps 14 px, expanded by six."""
    import timm

    return timm.create_model('mobilenetv2_050', num_classes=10, in_chans=1)


def mobilenetv3() -> nn.Module:
    import timm

    return timm.create_model('mobilenetv3_small_100', num_classes=10, in_chans=1)


def convnext() -> nn.Module:
    """ConvNeXt with patches of two pixels, of images padded to 32; layer scales start at 1e-6."""
    from timm.models.convnext import ConvNeXt

    net = ConvNeXt(in_chans=1, num_classes=10, depths=(2, 2, 4, 2), dims=(16, 32, 64, 96), patch_size=2)
    return nn.Sequential(nn.ZeroPad2d(2), net)


def deit() -> nn.Module:
    """A vision transformer with patches of seven pixels."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=28, patch_size=7, in_chans=1, num_classes=10, embed_dim=96, depth=6, num_heads=4, mlp_ratio=4
    )


NETS = {f.__name__: f for f in (flat, bottleneck, mobilenetv2, mobilenetv3, efficientnet, convnext, deit)}
