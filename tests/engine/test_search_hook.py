"""The schedule of a search goes by the loop's epochs where the hook says so."""

import logging
from types import SimpleNamespace

import pytest
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from dms_mm.engine.search_hook import DMSHook


def begin(hook, loop):
    """The arguments with which a hook starts the search of a run of 5 epochs of 8 steps."""
    asked = []

    def start_search(steps, epochs=None):
        asked.append((steps, epochs))
        return SimpleNamespace(targets={}, total_steps=steps, rule=None)

    space = SimpleNamespace(report=str, supernet=dict(macs=1))
    given = dict(optim_wrapper=None, iter=0, max_iters=40, max_epochs=5, logger=logging.getLogger())
    given['message_hub'] = SimpleNamespace(runtime_info={})
    model = SimpleNamespace(start_search=start_search, space=space)
    hook.before_train(SimpleNamespace(model=model, train_loop=loop.__new__(loop), **given))
    return asked


def test_epochs_of_the_loop(monkeypatch):
    monkeypatch.setattr('dms_mm.engine.search_hook.preview', lambda space, targets: '')
    assert begin(DMSHook(), EpochBasedTrainLoop) == begin(DMSHook(), IterBasedTrainLoop) == [(40, None)]
    assert begin(DMSHook(by_epoch=True), EpochBasedTrainLoop) == [(40, 5)]
    with pytest.raises(ValueError, match='by_epoch=True of DMSHook needs a loop of epochs'):
        begin(DMSHook(by_epoch=True), IterBasedTrainLoop)
