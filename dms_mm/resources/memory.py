"""Memory in bytes: of weights, of activations at their peak, of a language model's cache."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import torch
from torch import Tensor

from ..registry import RESOURCES
from ..tracing import Piece
from .context import ResourceContext
from .model import ResourceModel
from .products import Products, Term
from .resource import Resource
from .terms import tensor_terms
from .timeline import Interval, inference, training_step


def bytes_of(dtype: str | torch.dtype | None, own: int = 0) -> int:
    """Bytes of a number; ``own`` where no dtype is asked for.

    Raises:
        ValueError: no dtype of torch.
    """
    if dtype is None:
        return own
    found = getattr(torch, str(dtype).removeprefix('torch.'), None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"dtype={dtype!r} is none of torch; give for example 'float16' or 'bfloat16'")
    return found.itemsize


def weights(context: ResourceContext, dtype: str | torch.dtype | None = None) -> dict[str, list[Term]]:
    """Name -> bytes of a parameter or buffer; whole numbers have their own dtype always."""
    tensors = {**dict(context.model.named_parameters()), **dict(context.model.named_buffers())}
    found: dict[str, list[Term]] = {}
    for name, terms in [*context.parameters(), *context.buffers()]:
        x = tensors[name]
        size = bytes_of(dtype, x.element_size()) if x.is_floating_point() else x.element_size()
        found[name] = _times(size, terms)
    return found


def _times(number: float, terms: Iterable[Term]) -> list[Term]:
    return [(number * factor, dims, blocks) for factor, dims, blocks in terms]


@RESOURCES.register_module(name=['WeightBytes', 'weight_bytes'])
class WeightBytes(ResourceModel):
    """Bytes of all parameters and buffers.

    Args:
        dtype: of floating-point tensors, ``'float16'`` for example; what they have by default.
    """

    unit, by_parts = 'B', True

    def __init__(self, context: ResourceContext, dtype: str | None = None) -> None:
        super().__init__(chain.from_iterable(weights(context, dtype).values()), context.bank)


@RESOURCES.register_module(name=['ActivationBytes', 'activation_bytes'])
class ActivationBytes(Resource):
    """The most bytes that a forward, or a training step, holds at once beside the model and its inputs.

    A tensor is held from the operator that makes it until nothing refers to it, in the order of the traced forward;
    views share their memory, and attention that is asked for by name keeps no products. In a training step what
    autograd keeps stays until the backward of the operator that asked for it, and gradients of parameters stay to
    the end; no optimizer has a part in it. Buffers that a kernel needs for itself are not known.

    Args:
        batch: samples at once.
        training: of a forward and backward, instead of a forward without gradients.
        dtype: of floating-point activations; what they have by default.
    """

    unit = 'B'

    def __init__(
        self, context: ResourceContext, batch: int = 1, training: bool = False, dtype: str | None = None
    ) -> None:
        super().__init__()
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise ValueError(f'batch={batch!r} of the memory must be a whole number of at least 1')
        self.batch, self.in_training, self.dtype = batch, training, dtype
        intervals = self._intervals(context)
        gradients = weights(context, dtype) if training else {}
        terms = [gradients[x.of] if isinstance(x.of, str) else self._terms(context, x.of, x.instead) for x in intervals]
        self.sizes = Products(terms, context.bank)
        self.constant('begins', [x.born for x in intervals], torch.long)
        self.constant('ends', [x.dies + 1 for x in intervals], torch.long)
        self.length = max((x.dies for x in intervals), default=0) + 2

    def _intervals(self, context: ResourceContext) -> list[Interval]:
        lives = context.trace.lifetimes
        if self.in_training and len(lives) < 2:
            raise ValueError(f'the memory of a training step is not known: {"; ".join(context.trace.notes)}')
        if self.in_training:
            return training_step(lives[1])
        return inference(lives[0], {path for path, _ in context.ownership.named})

    def _terms(self, context: ResourceContext, of: Piece, instead: str | None) -> list[Term]:
        factor = float(bytes_of(self.dtype, of.itemsize) if of.floating else of.itemsize)
        if of.varies:
            factor *= self.batch / context.batch
        gone = {e for path, e in context.ownership.named if path == instead}
        blocks = [e for e in context.ownership.blocks_of(of.module) if e not in gone]
        return tensor_terms(context.ownership, factor, of.shape, of.entries, blocks)

    @property
    def needs_masks(self) -> bool:
        return self.sizes.needs_masks

    def course(self, kept: Tensor, masks: Tensor) -> Tensor:
        """(T,) float64: bytes held in every operator, those of the backward after those of the forward."""
        sizes = self.sizes(kept, masks)
        change = torch.zeros(self.length, dtype=sizes.dtype, device=sizes.device)
        change = change.index_add(0, self.begins, sizes).index_add(0, self.ends, -sizes)
        return change.cumsum(0)

    def value(self, kept: Tensor, masks: Tensor) -> Tensor:
        return self.course(kept, masks).max()

    begins: Tensor
    ends: Tensor


@RESOURCES.register_module(name=['Memory', 'memory'])
class Memory(ActivationBytes):
    """Bytes of weights, and of activations at their peak: what a forward, or a training step, needs in all.

    Args:
        batch, training, dtype: see :class:`ActivationBytes`; weights have the dtype, too.
        states: numbers that an optimizer keeps for each parameter, 2 for Adam.
    """

    def __init__(
        self,
        context: ResourceContext,
        batch: int = 1,
        training: bool = False,
        dtype: str | None = None,
        states: int = 0,
    ) -> None:
        super().__init__(context, batch, training, dtype)
        sizes = weights(context, dtype)
        own = [name for name, _ in context.model.named_parameters()] if states else []
        terms = [*chain.from_iterable(sizes.values()), *(t for name in own for t in _times(states, sizes[name]))]
        self.weights = ResourceModel(terms, context.bank)

    @property
    def needs_masks(self) -> bool:
        return super().needs_masks or self.weights.needs_masks

    def value(self, kept: Tensor, masks: Tensor) -> Tensor:
        return super().value(kept, masks) + self.weights.value(kept, masks)


@RESOURCES.register_module(name=['CacheBytes', 'cache_bytes'])
class CacheBytes(ResourceModel):
    """Bytes of the keys and values that a language model holds: ``2 * layers * heads * head dim * length * batch``
    numbers, of every attention that is asked for by name (``scaled_dot_product_attention``).

    Heads that several queries share are held once.

    Args:
        length: positions that are held.
        batch: sequences at once.
        dtype: of keys and values.
    """

    unit = 'B'

    def __init__(self, context: ResourceContext, length: int = 2048, batch: int = 1, dtype: str = 'float16') -> None:
        terms: list[Term] = []
        for call in context.trace.lifetimes[0].attentions:
            blocks = context.ownership.blocks_of(call.module)
            factor = bytes_of(dtype) * length * batch / (context.batch * call.length)
            for shape, entries in (call.keys, call.values):
                terms += tensor_terms(context.ownership, factor, shape, entries, blocks)
        if not terms:
            raise ValueError(
                'no attention is asked for by name: a cache is known of scaled_dot_product_attention '
                "(attn_implementation='sdpa' in transformers)"
            )
        super().__init__(terms, context.bank)
