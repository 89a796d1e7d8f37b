"""mmcv's kernels as operators of torch: a forward on fake tensors can't go through what torch doesn't see.

While a model is traced, mmcv's autograd functions call operators of namespace ``mmcv`` that are defined here; on real
tensors these run what the functions did.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.utils import _pair

LIBRARY = torch.library.Library('mmcv', 'FRAGMENT')
# Operator -> file and class of the function that it stands for, and its arguments.
FUNCTIONS = {
    'roi_align': (
        'mmcv.ops.roi_align', 'RoIAlignFunction',
        'Tensor input, Tensor rois, int[2] output_size, float spatial_scale=1.0, int sampling_ratio=0, '
        "str pool_mode='avg', bool aligned=True",
    ),
    'deform_conv': (
        'mmcv.ops.deform_conv', 'DeformConv2dFunction',
        'Tensor input, Tensor offset, Tensor weight, int[2] stride=1, int[2] padding=0, int[2] dilation=1, '
        'int groups=1, int deform_groups=1, bool bias=False, int im2col_step=32',
    ),
    'modulated_deform_conv': (
        'mmcv.ops.modulated_deform_conv', 'ModulatedDeformConv2dFunction',
        'Tensor input, Tensor offset, Tensor mask, Tensor weight, Tensor? bias=None, int[2] stride=1, '
        'int[2] padding=0, int[2] dilation=1, int groups=1, int deform_groups=1',
    ),
}  # fmt: skip
PAIRS = {'roi_align': (2,), 'deform_conv': (3, 4, 5), 'modulated_deform_conv': (5, 6, 7)}


class _Context:
    """What a function keeps for a backward that never comes."""

    def save_for_backward(self, *tensors: Tensor) -> None: ...

    needs_input_grad = (False,) * 16


def _function(name: str) -> Any:
    """mmcv's function, or None where nothing has loaded it."""
    file, cls, _ = FUNCTIONS[name]
    return getattr(sys.modules.get(file), cls, None)


def _kernel(name: str) -> Callable[..., Tensor]:
    def run(*args: Any) -> Tensor:
        forward = _function(name).forward
        result: Tensor = getattr(forward, 'kernel', forward)(_Context(), *args)
        return result

    return run


def _regions(x: Tensor, rois: Tensor, size: Any, *_: Any) -> Tensor:
    return x.new_empty((rois.shape[0], x.shape[1], *size))


def _convolved(x: Tensor, weight: Tensor, *args: Any) -> Tensor:
    return torch.nn.functional.conv2d(x, weight.to(x.dtype), None, *args)


SHAPES: dict[str, Callable[..., Tensor]] = {
    'roi_align': _regions,
    'deform_conv': lambda x, offset, w, *args: _convolved(x.to(offset.dtype), w, *args[:4]),
    'modulated_deform_conv': lambda x, offset, mask, w, b, *args: _convolved(x.to(offset.dtype), w, *args[:4]),
}

for _name, (_, _, _arguments) in FUNCTIONS.items():
    LIBRARY.define(f'{_name}({_arguments}) -> Tensor')
    LIBRARY.impl(_name, _kernel(_name), 'CompositeExplicitAutograd')
    torch.library.register_fake(f'mmcv::{_name}', SHAPES[_name], lib=LIBRARY)


class _Here(threading.local):
    """How many contexts are open in this thread."""

    depth = 0


_here = _Here()
_lock = threading.Lock()
_open = 0  # contexts in all threads
_replaced: list[tuple[Any, Any]] = []  # function, and its own forward


@contextlib.contextmanager
def seen_kernels() -> Iterator[None]:
    """mmcv's functions call operators, in this thread: what others run meanwhile is what it always was."""
    global _open
    with _lock:
        _open += 1
        for name in FUNCTIONS:
            function = _function(name)
            if function is not None and not hasattr(function.forward, 'kernel'):
                _replaced.append((function, function.forward))
                function.forward = staticmethod(_operator(name, function.forward))
    _here.depth += 1
    try:
        yield
    finally:
        _here.depth -= 1
        with _lock:
            _open -= 1
            while _replaced and not _open:
                function, forward = _replaced.pop()
                function.forward = staticmethod(forward)


def _operator(name: str, kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
    operator = getattr(torch.ops.mmcv, name)

    def forward(ctx: Any, *args: Any) -> Any:
        if not _here.depth:
            return kernel(ctx, *args)
        given = [_pair(a) if k in PAIRS[name] else a for k, a in enumerate(args)]
        result: Tensor = operator(*given)
        return result

    forward.kernel = kernel  # type: ignore[attr-defined]
    return forward
