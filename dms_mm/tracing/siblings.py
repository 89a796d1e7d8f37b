"""Parameters of a layer that the forward doesn't use: they keep the shape that the used ones of the layer need."""

from __future__ import annotations

from torch import nn

from .elements import IntArray
from .findings import Trace

NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)


def tie_unused(model: nn.Module, trace: Trace) -> None:
    """Tie what is not used to what is, where a layer has one number for both; freeze all else that is not used.

    A bias that is added without its weight, say, would leave a layer whose weight has more rows than its bias.
    """
    tied: set[tuple[str, int]] = set()
    for path, module in model.named_modules():
        places = _outputs(path, module, trace)
        used = [place for place in places if place[0] in trace.used]
        for name, dim in places if used else ():
            if name not in trace.used and _line(trace, (name, dim)).shape == _line(trace, used[0]).shape:
                trace.elements.union(_line(trace, (name, dim)), _line(trace, used[0]))
                tied.add((name, dim))
    for name, dims in trace.params.items():
        for dim, ids in enumerate(dims):
            if name not in trace.used and (name, dim) not in tied:
                trace.elements.freeze(ids, 'not used in the traced forward')


def _outputs(path: str, module: nn.Module, trace: Trace) -> list[tuple[str, int]]:
    """Dimensions of a layer's parameters that are the channels that it gives."""
    if isinstance(module, NORMS):
        found = [(key, 0) for key in ('weight', 'bias', 'running_mean', 'running_var')]
    elif isinstance(module, nn.modules.conv._ConvNd):
        found = [('weight', int(module.transposed)), ('bias', 0)]
    elif isinstance(module, nn.Linear):
        found = [('weight', 0), ('bias', 0)]
    else:
        return []
    named = [(f'{path}.{key}' if path else key, dim) for key, dim in found]
    return [(name, dim) for name, dim in named if name in trace.params and len(trace.params[name]) > dim]


def _line(trace: Trace, place: tuple[str, int]) -> IntArray:
    return trace.params[place[0]][place[1]]
