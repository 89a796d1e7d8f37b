"""Small inputs, real models: what the promises of the design are tested over."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision

        options = {'init_weights': False} if name == 'googlenet' else {}
        return getattr(torchvision.models, name)(num_classes=10, **options)

    return build


def _timm(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import timm

        return timm.create_model(name, num_classes=10)

    return build


def _mmpretrain(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from dms_mm.models.hosts import import_scope

        import_scope('mmpretrain')
        from mmpretrain import get_model

        return get_model(name)

    return build


ZOO: dict[str, Callable[[], nn.Module]] = {
    **{f'torchvision/{n}': _torchvision(n) for n in
       ('resnet18', 'mobilenet_v2', 'mobilenet_v3_small', 'densenet121', 'shufflenet_v2_x0_5', 'googlenet')},
    **{f'timm/{n}': _timm(n) for n in
       ('efficientnet_b0', 'res2net50_26w_4s', 'cspdarknet53', 'ghostnet_100', 'regnety_004', 'seresnet50',
        'resnext50_32x4d')},
    **{f'mmpretrain/{n}': _mmpretrain(n) for n in
       ('resnet50_8xb32_in1k', 'mobilenet-v2_8xb32_in1k', 'efficientnet-b0_3rdparty_8xb32_in1k')},
}  # fmt: skip


def build(name: str, seed: int = 0) -> nn.Module:
    """A zoo model whose norms are not the identity: otherwise mistakes in their slices would not show."""
    torch.manual_seed(seed)
    model = ZOO[name]()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, std=0.1)
            m.running_mean.normal_(std=0.1)
            m.running_var.uniform_(0.5, 1.5)
    return model.eval()


def example(batch: int = 2, size: int = 64, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1)).to(dtype)
