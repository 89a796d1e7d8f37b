"""What must hold of a random network: exact, counted exactly, and left as it was."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import torch

import dms_mm
from builders.pictures import picture
from builders.random_graphs import SIDE, RandomNet
from dms_mm.slimming.verify import verify_equivalence

BY_NUMBERS = re.compile(', in (eval|training) mode, ')  # a note of the proof: no rule foresaw it


@dataclass(frozen=True)
class Checked:
    """What came of a network.

    Attributes:
        kinds: of its steps.
        share: the searchable share of its MACs by widths.
        unforeseen: notes on what the proof by numbers alone has frozen.
    """

    kinds: tuple[str, ...]
    units: int
    share: float
    unforeseen: tuple[str, ...]
    seconds: float


def checked(seed: int, length: int = 6) -> Checked:
    """Make a network searchable, prove and verify it, take the masks off again.

    Raises:
        AssertionError, RuntimeError: what is wrong.
    """
    start = time.perf_counter()
    model = RandomNet(seed, length).eval()
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    before = picture(model)
    units, share, unforeseen = 0, 0.0, ()
    try:
        space = dms_mm.make_searchable(model, x)
    except ValueError as error:
        assert 'nothing to search' in str(error), error
    else:
        assert not space.proof.unproved, space.proof
        verify_equivalence(space, x, seed=seed)
        units, share = len(space.units), space.searchable_share(by='widths')
        unforeseen = tuple(note for note in space.frozen if BY_NUMBERS.search(note))
        space.detach()
    assert picture(model) == before, 'the model is not what it was'
    return Checked(tuple(model.kinds), units, share, unforeseen, time.perf_counter() - start)
