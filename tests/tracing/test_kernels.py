"""mmcv's kernels become operators while a model is traced, in the thread that traces it and in no other."""

import sys
import threading
import types

import torch

from dms_mm.tracing.kernels import seen_kernels


class Pooled(torch.autograd.Function):
    """In place of mmcv's function: the same arguments, another result."""

    @staticmethod
    def forward(ctx, x, rois, size, *options):
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 + 0 * x, *[None] * 6


def test_threads_that_trace_and_threads_that_train(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv.ops.roi_align', types.SimpleNamespace(RoIAlignFunction=Pooled))
    before = Pooled.forward
    met = threading.Barrier(2, timeout=20)
    seen, errors = {}, []

    def trace(name, first):
        try:
            with seen_kernels():
                met.wait()
                if first:
                    met.wait()  # the other one is done
                x, rois = torch.ones(2, 3, device='meta'), torch.ones(4, 5, device='meta')
                seen[name] = Pooled.apply(x, rois, (7, 7), 1.0, 0, 'avg', True).shape
            if not first:
                met.wait()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=trace, args=(name, name == 'last')) for name in ('last', 'other')]
    with seen_kernels():
        patched = Pooled.forward
    assert patched is not before and Pooled.forward is before
    for thread in threads:
        thread.start()
    x = torch.ones(2, 3, requires_grad=True)
    Pooled.apply(x, None, (7, 7), 1.0, 0, 'avg', True).sum().backward()
    assert torch.equal(x.grad, torch.full((2, 3), 2.0))
    for thread in threads:
        thread.join()
    assert not errors and set(map(tuple, seen.values())) == {(4, 3, 7, 7)}
    assert Pooled.forward is before
