"""Memory that a forward, or a training step, holds, by the storages that operators make and that are gone again."""

import gc
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Held(TorchDispatchMode):
    """Counts what operators allocate while it runs; ``peak`` is the most at once, in bytes."""

    def __init__(self, *before):
        super().__init__()
        self.before = {x.untyped_storage()._cdata for x in before}
        self.now = self.peak = 0
        self.refs = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor) and x.untyped_storage()._cdata not in {*self.before, *self.refs}:
                storage = x.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                self.now += size
                self.refs[key] = weakref.ref(storage, lambda ref, key=key, size=size: self._gone(key, size))
        self.peak = max(self.peak, self.now)
        return out

    def _gone(self, key, size):
        self.now -= size
        self.refs.pop(key, None)


def held(model, x, training):
    """The peak of one forward without gradients, or of a forward and backward."""
    model.train(training)
    for p in model.parameters():
        p.grad = None
    gc.collect()
    with Held(x, *model.parameters(), *model.buffers()) as counted:
        if training:
            model(x).square().mean().backward()
        else:
            with torch.no_grad():
                model(x)
    for p in model.parameters():
        p.grad = None
    return counted.peak
