"""Hard structures drawn at random."""

import torch

from dms_mm.slimming.trials import random_keep


def harden_randomly(space, seed):
    keep = random_keep(list(space.units.values()), seed, low=0.1)
    space.set_keep({u.name: torch.from_numpy(keep[u.start : u.start + u.size]) for u in space.units.values()})
