"""Every backbone of MMPretrain by its class: the smallest settings that keep each kind of layer, and an input size.

All that the library lists but CSPNet, which is abstract: CSPDarkNet, CSPResNet and CSPResNeXt are made of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

VIT = dict(arch=dict(embed_dims=48, num_layers=2, num_heads=4, feedforward_channels=96), img_size=64)
STAGES = dict(embed_dims=16, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8])
GRID = dict(STAGES, num_heads=[2, 2, 4, 8])
# Class -> settings, and the size of the images where it is not 64.
BACKBONES: dict[str, tuple[dict, int]] = {
    'LeNet5': (dict(num_classes=10), 32),
    'AlexNet': (dict(num_classes=10), 224),
    'VGG': (dict(depth=11, num_classes=10), 224),
    'RegNet': (dict(arch='regnetx_400mf'), 64),
    'ResNet': (dict(depth=18), 64),
    'ResNeXt': (dict(depth=50), 64),
    'ResNetV1d': (dict(depth=18), 64),
    'ResNeSt': (dict(depth=50), 64),
    'ResNet_CIFAR': (dict(depth=18), 32),
    'SEResNet': (dict(depth=50), 64),
    'SEResNeXt': (dict(depth=50), 64),
    'ShuffleNetV1': ({}, 64),
    'ShuffleNetV2': ({}, 64),
    'MobileNetV2': ({}, 64),
    'MobileNetV3': ({}, 64),
    'VisionTransformer': (VIT, 64),
    'SwinTransformer': (dict(arch=GRID, img_size=128, window_size=4), 128),
    'TNT': (dict(arch='s', img_size=64), 64),
    'TIMMBackbone': (dict(model_name='resnet18'), 64),
    'T2T_ViT': (
        dict(img_size=64, embed_dims=48, num_layers=2, t2t_cfg=dict(token_dims=16, use_performer=False),
             layer_cfgs=dict(num_heads=4, feedforward_channels=96)), 64),
    'Res2Net': (dict(depth=50), 64),
    'RepVGG': (dict(arch='A0'), 64),
    'Conformer': (dict(arch=dict(embed_dims=48, channel_ratio=1, num_heads=4, depths=12)), 64),
    'MlpMixer': (
        dict(arch=dict(embed_dims=48, num_layers=2, tokens_mlp_dims=24, channels_mlp_dims=96), img_size=64), 64),
    'DistilledVisionTransformer': (VIT, 64),
    'PCPVT': (
        dict(arch=dict(embed_dims=[16, 32, 64, 128], depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8],
                       patch_sizes=[4, 2, 2, 2], strides=[4, 2, 2, 2], mlp_ratios=[4, 4, 2, 2],
                       sr_ratios=[8, 4, 2, 1])), 64),
    'SVT': (
        dict(arch=dict(embed_dims=[16, 32, 64, 128], depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8],
                       patch_sizes=[4, 2, 2, 2], strides=[4, 2, 2, 2], mlp_ratios=[4, 4, 4, 4],
                       sr_ratios=[4, 2, 1, 1], window_sizes=[7, 7, 7, 7])), 64),
    'EfficientNet': (dict(arch='b0'), 64),
    'EfficientNetV2': (dict(arch='b0'), 64),
    'ConvNeXt': (dict(arch='atto'), 64),
    'HRNet': (dict(arch='w18'), 64),
    'ResNetV1c': (dict(depth=18), 64),
    'ConvMixer': (dict(arch=dict(embed_dims=48, depth=3, patch_size=7, kernel_size=9)), 64),
    'EdgeNeXt': (dict(arch='xxsmall'), 64),
    'CSPDarkNet': (dict(depth=53), 64),
    'CSPResNet': (dict(depth=50), 64),
    'CSPResNeXt': (dict(depth=50), 64),
    'RepLKNet': (
        dict(arch=dict(large_kernel_sizes=[13, 11, 9, 7], layers=[2, 2, 2, 2], channels=[16, 32, 48, 64],
                       small_kernel=5, dw_ratio=1)), 64),
    'RepMLPNet': (
        dict(arch=dict(channels=[16, 32, 64, 128], depths=[2, 2, 2, 2], sharesets_nums=[1, 4, 8, 32]), img_size=64),
        64),
    'PoolFormer': (dict(arch='s12'), 64),
    'RIFormer': (dict(arch='s12'), 64),
    'DenseNet': (dict(arch=dict(growth_rate=8, depths=[2, 2, 2, 2], init_channels=16)), 64),
    'VAN': (
        dict(arch=dict(embed_dims=[16, 32, 48, 64], depths=[2, 2, 2, 2], ffn_ratios=[8, 8, 4, 4])), 64),
    'InceptionV3': (dict(num_classes=10), 299),
    'MobileOne': (dict(arch='s0'), 64),
    'EfficientFormer': (dict(arch='l1'), 224),
    'SwinTransformerV2': (dict(arch=dict(GRID, extra_norm_every_n_blocks=0), img_size=128, window_size=4), 128),
    'MViT': (dict(arch=dict(embed_dims=16, num_layers=4, num_heads=1, downscale_indices=[1, 2]), img_size=64), 64),
    'DeiT3': (VIT, 64),
    'HorNet': (
        dict(arch=dict(base_dim=16, depths=[2, 2, 2, 2], orders=[2, 3, 4, 5],
                       dw_cfg=[dict(type='DW', kernel_size=7)] * 4)), 64),
    'MobileViT': (dict(arch='xx_small'), 64),
    'DaViT': (dict(arch=STAGES, window_size=4), 128),
    'BEiTViT': (VIT, 64),
    'RevVisionTransformer': (VIT, 64),
    'MixMIMTransformer': (dict(arch=STAGES, img_size=64, window_size=[4, 4, 4, 2]), 64),
    'TinyViT': (dict(arch='5m'), 224),
    'LeViT': (dict(arch='128s'), 224),
    'Vig': (dict(arch='tiny'), 224),
    'PyramidVig': (dict(arch='tiny'), 224),
    'XCiT': (dict(img_size=64, embed_dims=48, depth=2, num_heads=4), 64),
    'ViTSAM': (
        dict(arch=dict(embed_dims=48, num_layers=2, num_heads=4, feedforward_channels=96, global_attn_indexes=[1]),
             img_size=64, window_size=2, out_channels=24), 64),
    'ViTEVA02': (VIT, 64),
    'HiViT': (dict(arch=dict(embed_dims=48, depths=[1, 1, 7], num_heads=4), img_size=64), 64),
    'SparseResNet': (dict(depth=50, norm_cfg=dict(type='SparseBatchNorm2d')), 64),
    'SparseConvNeXt': (
        dict(arch=dict(depths=[1, 1, 2, 1], channels=[16, 32, 48, 64])), 64),
}  # fmt: skip


class Classifier(nn.Module):
    """A backbone, and a linear layer on each of its last outputs, averaged over positions."""

    def __init__(self, backbone: nn.Module, image: Tensor) -> None:
        super().__init__()
        backbone.eval()
        self.backbone = backbone
        with torch.no_grad():
            features = self.features(image)
        self.heads = nn.ModuleList(nn.Linear(x.shape[1], 10) for x in features)

    def features(self, image: Tensor) -> list[Tensor]:
        outputs = self.backbone(image)
        last = outputs[-1] if isinstance(outputs, tuple) else outputs
        # (N, C), (N, C, positions) or (N, C, H, W)
        return [x.flatten(2).mean(2) if x.ndim > 2 else x for x in tree_flatten(last)[0]]

    def forward(self, image: Tensor) -> list[Tensor]:
        return [head(x) for head, x in zip(self.heads, self.features(image))]


def backbone_model(short: str):
    """(a classifier on the backbone of this class, images)."""
    import mmpretrain.models.backbones as backbones
    from mmengine.registry import init_default_scope
    from mmpretrain.models.utils.sparse_modules import SparseHelper

    init_default_scope('mmpretrain')
    settings, size = BACKBONES[short]
    images = torch.randn(2, 1 if short == 'LeNet5' else 3, size, size)
    # What its own pretraining hides from a sparse backbone.
    SparseHelper._cur_active = torch.rand(2, 1, size // 32, size // 32) > 0.3
    return Classifier(getattr(backbones, short)(**settings), images), images
