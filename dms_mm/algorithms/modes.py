"""The modes of a model whose weights are kept while its structure is searched."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd


def keep_still(model: nn.Module) -> None:
    """Eval mode for a model in training mode, so that nothing is dropped, but for batch norms that train.

    What computes losses of its own (heads of OpenMMLab's models) stays in training mode but for its dropout: some of
    them give other outputs otherwise.
    """
    norms = [(m, m.training) for m in model.modules() if isinstance(m, _BatchNorm)]
    heads = [m for m in model.modules() if m is not model and callable(getattr(m, 'loss', None))]
    model.eval()
    for head in heads:
        head.train()
        for module in head.modules():
            if isinstance(module, _DropoutNd) or type(module).__name__ == 'DropPath':
                module.eval()
    for norm, training in norms:
        norm.train(training)
