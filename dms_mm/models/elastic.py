"""MobileNetV3 with the same depth, expansion and kernel everywhere; imported where MMPretrain is in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmpretrain.models.backbones import MobileNetV3

from ..registry import MODELS

# Squeeze and excitation, activation and stride of the five stages of MobileNetV3-Large.
STAGES = ((False, 'ReLU', 2), (True, 'ReLU', 2), (False, 'HSwish', 2), (True, 'HSwish', 1), (True, 'HSwish', 2))


@MODELS.register_module()
class ElasticMobileNetV3(MobileNetV3):
    """MMPretrain's MobileNetV3-Large as Once-for-All has it for a supernet (Cai et al., ICLR 2020).

    Args:
        widths: channels between the blocks of each of the five stages.
        depth: blocks of each stage.
        expansion: of a block's inner width over its input's.
        kernel: size of all depthwise kernels but that of the first block.
    """

    def __init__(
        self,
        widths: Sequence[int] = (24, 40, 80, 112, 160),
        depth: int = 4,
        expansion: int = 6,
        kernel: int = 5,
        **kwargs: Any,
    ) -> None:
        if len(widths) != len(STAGES):
            raise ValueError(f'widths={tuple(widths)!r} of ElasticMobileNetV3 must be of {len(STAGES)} stages')
        rows: list[list[Any]] = [[3, 16, 16, False, 'ReLU', 1]]
        before = 16
        for width, (squeeze, act, stride) in zip(widths, STAGES):
            for k in range(depth):
                rows.append([kernel, expansion * before, width, squeeze, act, 1 if k else stride])
                before = width
        self.arch_settings = {'large': rows}
        super().__init__('large', out_indices=(len(rows) + 1,), **kwargs)
