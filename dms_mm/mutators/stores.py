"""Where a module keeps its tensors, made so that reading one by its name gives its product with masks (DESIGN 3.3).

``module.weight`` is ``module._parameters['weight']``, by ``nn.Module.__getattr__``. Of a module with masks that dict is
one whose ``[name]`` multiplies; what goes over all of it (parameters(), state_dict(), ``.to``, optimizers) sees what
is stored. So class, keys and all other instances stay as they are, and taking the masks off puts a plain dict back.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils._named_member_accessor import swap_tensor

FOLDS = '_dms_folds'  # on a module: name -> what makes the product
STORES = ('_parameters', '_buffers')
_STORED = '_dms_stored'  # on a product: the tensor that it was made of, and its own version then
# torch.func.functional_call reads tensors by name too, but to hand them to its caller and to put them back.
SWAP = swap_tensor.__code__
_raw = 0


@contextlib.contextmanager
def raw_parameters() -> Iterator[None]:
    """While inside, modules show their parameters as they are, for code that collects or sets them by attribute."""
    global _raw
    _raw += 1
    try:
        yield
    finally:
        _raw -= 1


class FoldedTensors(dict):  # type: ignore[type-arg]
    """Parameters or buffers of one module; ``[name]`` gives the product with its masks, all else what is stored.

    Args:
        stored: name -> tensor or None.
        folds: name -> what makes the product; names without one are read as they are. Not copied.
        plain: the class of the dict that this one stands for.
    """

    def __init__(
        self, stored: Mapping[str, Any], folds: Mapping[str, Callable[[Tensor], Tensor]], plain: type = dict
    ) -> None:
        super().__init__(stored)
        self.folds, self.plain = folds, plain

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        fold = self.folds.get(name)
        if fold is None or value is None or _raw:
            return value
        if torch.compiler.is_dynamo_compiling():
            return fold(value)
        if sys._getframe(1).f_code is SWAP:
            return value
        product = fold(value)
        if product is not value:
            setattr(product, _STORED, (value, version(product)))
        return product

    def __setitem__(self, name: str, value: Any) -> None:
        made_of = getattr(value, _STORED, None)
        if made_of is not None:
            # A product that was read and is put back; what was written into it in between is kept.
            stored, then = made_of
            if version(value) != then:
                with torch.no_grad():
                    stored.copy_(value)
            value = stored
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        if name in self.folds:
            raise RuntimeError(
                f'the masks of a search are folded into {name!r}, so it cannot be taken away or replaced by what is '
                'computed of it; call detach() of the search space first'
            )
        super().__delitem__(name)

    def __deepcopy__(self, memo: dict[int, Any]) -> FoldedTensors:
        return FoldedTensors(copy.deepcopy(dict(self.items()), memo), copy.deepcopy(self.folds, memo), self.plain)

    def __reduce__(self) -> Any:
        return FoldedTensors, (dict(self.items()), self.folds, self.plain)


def version(x: Tensor) -> int:
    """How often a tensor was changed in place; of one made in inference mode that isn't counted."""
    return 0 if x.is_inference() else x._version


def stored(module: nn.Module, name: str) -> Any:
    """A tensor of a module as it is stored; in a replica parameters are buffers or plain attributes."""
    for store in (module._parameters, module._buffers, module.__dict__):
        if name in store:
            return store.get(name)
    raise AttributeError(f'{type(module).__name__!r} object has no attribute {name!r}')


def fold_store(module: nn.Module, name: str, folds: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
    """Have a module read the parameter or buffer ``name`` through ``folds``.

    Raises:
        TypeError: its class or itself has an attribute of that name, which hides what is stored.
    """
    if name in module.__dict__ or hasattr(type(module), name):
        raise TypeError(f'{type(module).__qualname__}.{name} hides a parameter; its mask cannot be folded')
    place = next(place for place in STORES if name in module.__dict__[place])
    store = module.__dict__[place]
    if not isinstance(store, FoldedTensors):
        module.__dict__[place] = FoldedTensors(store, folds, type(store))


def plain_stores(module: nn.Module) -> None:
    """Give a module plain dicts again."""
    for place in STORES:
        store = module.__dict__[place]
        if isinstance(store, FoldedTensors):
            module.__dict__[place] = store.plain(store.items())
