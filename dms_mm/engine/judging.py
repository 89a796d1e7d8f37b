"""By what held-out images tell how good a host model is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

METRICS = ('loss', 'accuracy')


def loss_of(model: Any, batch: Any) -> Tensor:
    """The sum of a host model's own losses on a batch that its preprocessor made."""
    with heads_that_train(model):
        return model.parse_losses(called(model, batch, 'loss'))[0]


def accuracy_of(model: Any, batch: Any) -> float:
    """Share of samples whose label is the one predicted."""
    found = called(model, batch, 'predict')
    return sum(bool((x.pred_label == x.gt_label).all()) for x in found) / len(found)


def called(model: Any, batch: Any, mode: str) -> Any:
    return model(**batch, mode=mode) if isinstance(batch, Mapping) else model(*batch, mode=mode)


@contextmanager
def heads_that_train(model: nn.Module) -> Iterator[None]:
    """What has modules inside is in training mode: some heads compute what a loss takes only there. Norms, dropout and
    whatever else has none stay as they are."""
    changed = [m for m in model.modules() if not m.training and any(True for _ in m.children())]
    for module in changed:
        module.training = True
    try:
        yield
    finally:
        for module in changed:
            module.training = False
