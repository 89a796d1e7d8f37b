"""Classification heads that recipes of the paper need and MMPretrain has not; imported where MMPretrain is in use."""

from __future__ import annotations

from typing import Any

from mmpretrain.models.heads import LinearClsHead
from torch import Tensor, nn

from ..registry import MODELS


@MODELS.register_module()
class DropoutLinearClsHead(LinearClsHead):
    """MMPretrain's linear head with dropout before the classifier, as EfficientNet is trained.

    Args:
        dropout_rate: probability of a feature to be dropped.
    """

    def __init__(self, *args: Any, dropout_rate: float = 0.2, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dropout = nn.Dropout(dropout_rate)

    def pre_logits(self, feats: tuple[Tensor]) -> Tensor:
        """(B, C) features of the last stage, some of them dropped while training."""
        return self.dropout(super().pre_logits(feats))
