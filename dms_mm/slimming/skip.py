"""What stands where a block was removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn


class Skip(nn.Identity):
    """A removed block that was called with more than its input, or returned a tuple: its first argument goes on.

    Plain attributes stay, since a model may ask its blocks for them.
    """

    def __init__(self, block: nn.Module, outputs: int = 0) -> None:
        super().__init__()
        for name, value in vars(block).items():
            if not name.startswith('_') and type(value) in (str, int, float, bool):
                setattr(self, name, value)
        self.outputs = outputs

    def forward(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        return (input, *[None] * (self.outputs - 1)) if self.outputs else input


def close_gaps(model: nn.Module, removed: Sequence[str]) -> None:
    """Number the blocks that are left in their ``nn.Sequential`` or ``nn.ModuleList`` from 0 on."""
    for parent in dict.fromkeys(path.rpartition('.')[0] for path in removed):
        container = model.get_submodule(parent)
        if isinstance(container, (nn.Sequential, nn.ModuleList)) and all(k.isdigit() for k in container._modules):
            gone = {path.rpartition('.')[2] for path in removed if path.rpartition('.')[0] == parent}
            left = [m for k, m in container._modules.items() if k not in gone]
            container._modules.clear()
            container._modules.update({str(k): m for k, m in enumerate(left)})
