"""The setting of a traced forward: attention and recurrent layers, and kernels, as operators that torch sees."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from .kernels import seen_kernels


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Trial runs of slim models may fail, and say so by an exception; torch would also log it."""
    logger = logging.getLogger('torch._subclasses.fake_tensor')
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


class _LocalNorm(_BatchNorm):
    """A batch normalisation for any number of axes."""

    def _check_input_dim(self, input: torch.Tensor) -> None: ...


@contextlib.contextmanager
def _local_norms(model: nn.Module) -> Iterator[None]:
    """Keep nn.SyncBatchNorm from the other processes, and from turning away tensors that are not on a GPU."""
    synchronised: list[nn.Module] = [m for m in model.modules() if type(m) is nn.SyncBatchNorm]
    try:
        for module in synchronised:
            module.__class__ = _LocalNorm
        yield
    finally:
        for module in synchronised:
            module.__class__ = nn.SyncBatchNorm


@contextlib.contextmanager
def no_fastpath() -> Iterator[None]:
    """Keep nn.TransformerEncoderLayer and nn.MultiheadAttention from their fused inference kernels."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _no_onednn() -> Iterator[None]:
    """Keep LSTMs in float32 from being one operator."""
    # The public way also sets the precision of float32, and warns.
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def _exchange(module: nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
    """``nn.Module._apply``, but tensors are replaced."""
    for child in module.children() if recurse else ():
        child._apply(fn)
    stores: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
    for store in stores:
        store.update({key: fn(x) for key, x in store.items() if x is not None})
    return module


@contextlib.contextmanager
def movable_fakes(model: nn.Module) -> Iterator[None]:
    """A forward may move a module of the model, or give it another dtype; torch swaps what fake tensors hold then,
    which fails where anything refers to them. What other threads move is theirs."""
    before, own = nn.Module._apply, {id(module) for module in model.modules()}

    def apply(module: nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
        return (_exchange if id(module) in own else before)(module, fn, recurse)

    try:
        nn.Module._apply = apply  # type: ignore[assignment, method-assign]
        yield
    finally:
        nn.Module._apply = before  # type: ignore[method-assign]


@contextlib.contextmanager
def plain_operators(model: nn.Module) -> Iterator[None]:
    """Attention and recurrent layers as their products and activations, whatever kernel runs them later."""
    with (
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        _no_onednn(),
        no_fastpath(),
        _local_norms(model),
        seen_kernels(),
    ):
        yield
