"""What a forward decides by its data: how many positions it takes, which way it goes.

Tensors without data can't tell. A real forward of a copy tells once, and every forward without data goes the same way:
each result is found again by the module that asks, the operator, and how often it has asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

DECIDING = {
    *(
        f'aten::{name}'
        for name in (
            '_local_scalar_dense nonzero masked_select _unique _unique2 unique_dim unique_consecutive equal bincount '
            'repeat_interleave'
        ).split()
    ),
    'torchvision::nms',
}
UNDECIDED = (DataDependentOutputException, DynamicOutputShapeException)
MOST_VALUES = 1 << 20  # numbers of a result that are kept; of larger ones the shape alone

Results = dict[tuple[str, str], list[Any]]  # module and operator -> what it gave, in order


class Decisions:
    """The results of one mode's forward, read from the first on; or written, where ``recording``."""

    def __init__(self, results: Results | None = None, recording: bool = False) -> None:
        self.results: Results = {} if results is None else results
        self.recording = recording
        self._unread: dict[tuple[str, str], Iterator[Any]] = {key: iter(line) for key, line in self.results.items()}

    def note(self, where: str, name: str, out: Any) -> None:
        kept = tree_map(lambda x: x.detach().cpu().clone() if isinstance(x, Tensor) else x, out)
        self.results.setdefault((where, name), []).append(kept)

    def next(self, where: str, name: str) -> Any:
        """The next result of an operator in a module, or None after the last."""
        return next(self._unread.get((where, name), iter(())), None)


def undecided(error: BaseException | None) -> bool:
    """Whether a forward ended because a tensor has no data, be it at the root of other errors."""
    while error is not None:
        if isinstance(error, UNDECIDED):
            return True
        error = error.__cause__ or error.__context__
    return False


def without_data(result: Any, like: Any) -> Any:
    """A result on tensors like ``like``: fake ones with the values beside them, or meta ones."""

    def made(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        out = torch.empty(tuple(x.shape), dtype=x.dtype, device=like.device)
        if not x.is_floating_point() and x.numel() <= MOST_VALUES:
            out._dms_value = x  # type: ignore[attr-defined]
        return out

    return tree_map(made, result)


def by_positions(indices: Any) -> list[Any] | None:
    """Indices by masks as indices by positions; None where there is no mask among them."""
    if not any(isinstance(x, Tensor) and x.dtype in (torch.bool, torch.uint8) for x in indices):
        return None
    found: list[Any] = []
    for x in indices:
        mask = isinstance(x, Tensor) and x.dtype in (torch.bool, torch.uint8)
        found += torch.ops.aten.nonzero(x).unbind(1) if mask else [x]
    return found


class Lists(TorchFunctionMode):
    """Both forwards ask the same, in the same order: lists of numbers one by one, as no operator tells of a list, and
    no class is checked, as that is done only where there are data."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is Tensor.tolist:
            return _listed(args[0])
        if func is torch.nn.functional.one_hot:
            return _one_hot(*args, **(kwargs or {}))
        if is_told(func, args):
            return format(args[0].item(), args[1])
        return func(*args, **(kwargs or {}))


def is_told(func: Any, args: tuple[Any, ...]) -> bool:
    """A whole number goes into a name, as f'expert_{k}'; without data torch would tell what kind of tensor it is."""
    return func is Tensor.__format__ and args[0].ndim == 0 and not args[0].is_floating_point()


def _listed(x: Tensor) -> Any:
    return x.item() if x.ndim == 0 else [_listed(y) for y in x.unbind(0)]


def _one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    if num_classes == -1:
        num_classes = int(tensor.max().item()) + 1
    return (tensor.unsqueeze(-1) == torch.arange(num_classes, device=tensor.device)).long()
