"""A hook that ends a training early, with rate schedules left as long as they are."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class OneEpoch(Hook):
    """Ends after an epoch; a search sees its whole schedule in as many steps.

    Args:
        steps: steps of that epoch.
    """

    priority = 'LOW'

    def __init__(self, steps):
        self.steps = steps

    def before_train(self, runner):
        if hasattr(runner.model, 'start_search'):
            runner.model.start_search(self.steps)

    def after_train_epoch(self, runner, metrics=None):
        runner.train_loop.stop_training = True
