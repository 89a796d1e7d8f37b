"""All that an object holds, for a comparison of before and after."""

import collections
import random
import types

import numpy as np
import torch
from torch import nn


def picture(x, seen=None):
    """All that can be reached from an object, as values that can be compared: identities, orders and numbers.

    The identity of dictionaries is nobody's concern: those of parameters are exchanged to fold masks into them.
    """
    seen = {} if seen is None else seen
    if id(x) in seen:
        return ('again', seen[id(x)][0])
    if isinstance(x, (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)):
        return (type(x).__name__, x)
    seen[id(x)] = (len(seen), x)
    if isinstance(x, torch.Tensor):
        assert type(x) in (torch.Tensor, nn.Parameter), type(x)
        return ('tensor', id(x), x._version, tuple(x.shape), x.stride(), x.requires_grad, x.detach().clone().tolist())
    if isinstance(x, np.ndarray):
        return ('array', id(x), x.tolist())
    if isinstance(x, random.Random):
        return ('generator', x.getstate())
    if isinstance(x, torch.Generator):
        return ('generator', x.get_state().tolist())
    if isinstance(x, np.random.Generator):
        return ('generator', str(x.bit_generator.state))
    if isinstance(x, dict):
        inside = [(picture(k, seen), picture(v, seen)) for k, v in x.items()]
    elif isinstance(x, (list, tuple, collections.deque)):
        inside = [picture(v, seen) for v in x]
    elif isinstance(x, (set, frozenset)):
        inside = sorted(repr(picture(v, seen)) for v in x)
    elif isinstance(x, types.FunctionType):
        inside = [picture(c.cell_contents, seen) for c in x.__closure__ or ()]
    elif isinstance(x, types.MethodType):
        inside = [picture(x.__self__, seen)]
    elif isinstance(x, (type, types.ModuleType, types.BuiltinFunctionType)):
        inside = []
    else:
        inside = [picture(getattr(x, name, None), seen) for name in getattr(type(x), '__slots__', ())]
        inside.append(picture(getattr(x, '__dict__', None), seen))
    return (type(x).__name__, None if type(x) is dict else id(x), inside)
