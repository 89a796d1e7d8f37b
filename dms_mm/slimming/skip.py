"""What stands where a block was removed."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from torch import nn

Passed = int | str | list[int | str | None]


class Skip(nn.Identity):
    """A removed block that was called with more than its input, or returned a tuple: its input goes on.

    Plain attributes stay, its own and those of its submodules, since a model may ask its blocks for them.

    Args:
        outputs: the length of the tuple that it returned, 0 for a tensor: its first argument goes on first, and None
            stands for the others; the keyword of the argument that goes on alone; or for each entry of the tuple the
            place or keyword of an argument, or None.
    """

    def __init__(self, block: nn.Module, outputs: Passed = 0) -> None:
        super().__init__()
        for name, value in vars(_plain(block)).items():
            if not hasattr(self, name) or name == 'training':
                setattr(self, name, value)
        self.outputs = outputs

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        outputs = self.outputs
        if isinstance(outputs, list):
            return tuple([None if place is None else self._given(place, args, kwargs) for place in outputs])
        if isinstance(outputs, str):
            return self._given(outputs, args, kwargs)
        input = self._given(0, args, kwargs)
        return (input, *[None] * (outputs - 1)) if outputs else input

    @staticmethod
    def _given(place: int | str, args: Any, kwargs: Any) -> Any:
        if isinstance(place, int):
            return args[place] if place < len(args) else kwargs['input']
        return kwargs[place]


def _plain(module: nn.Module) -> SimpleNamespace:
    """What a module, and each of those inside it, stores of plain numbers and words."""
    own = {k: v for k, v in vars(module).items() if not k.startswith('_') and type(v) in (str, int, float, bool)}
    return SimpleNamespace(**own, **{name: _plain(m) for name, m in module._modules.items() if m is not None})


def close_gaps(model: nn.Module, removed: Sequence[str], containers: bool | Sequence[str] = True) -> None:
    """Number the blocks that are left in their ``nn.Sequential`` or ``nn.ModuleList`` from 0 on, in all ``containers``
    or in those that are named."""
    for parent in dict.fromkeys(path.rpartition('.')[0] for path in removed):
        if containers is not True and parent not in (containers or ()):
            continue
        container = model.get_submodule(parent)
        if isinstance(container, (nn.Sequential, nn.ModuleList)) and all(k.isdigit() for k in container._modules):
            gone = {path.rpartition('.')[2] for path in removed if path.rpartition('.')[0] == parent}
            left = [m for k, m in container._modules.items() if k not in gone]
            container._modules.clear()
            container._modules.update({str(k): m for k, m in enumerate(left)})
