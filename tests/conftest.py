import logging

import pytest
import torch

logging.getLogger('torch._subclasses.fake_tensor').setLevel(logging.CRITICAL)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
