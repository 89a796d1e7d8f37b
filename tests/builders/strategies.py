"""Spaces, a task, and what a search might have changed: for tests of strategies and their judges."""

import timm
import torch
from torch.nn.functional import cross_entropy

import dms_mm
from builders.small import X, Y, searchable
from dms_mm.algorithms.strategies import Task


def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def task_of(shape=(3, 16, 16)):
    return Task([(X[:8], Y[:8]), (X[8:], Y[8:])], [(X, Y)], loss, shape)


def attention():
    """Attention with heads and head dims of its own, and blocks that may go."""
    torch.manual_seed(0)
    sizes = dict(img_size=16, patch_size=4, embed_dim=64, depth=4, num_heads=4, num_classes=10)
    return dms_mm.make_searchable(timm.models.VisionTransformer(**sizes), torch.zeros(2, 3, 16, 16))


SPACES = {'conv': searchable, 'attention': attention}


def share_of(space, keep, resource='macs'):
    return space.counters[resource].count(keep, space.bank) / space.supernet[resource]


def state_of(space):
    """Everything that a search might have changed, bit for bit."""
    model, bank = space.model, space.bank
    state = {k: v.clone() for k, v in {**model.state_dict(), **bank.state_dict()}.items()}
    state |= {'mask': bank.mask.clone(), 'grad': bank.grad.clone(), 'rank': bank.rank.clone()}
    flags = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    grads = [p.grad for p in model.parameters()]
    return state, flags, grads, torch.get_rng_state()


def assert_same(before, after):
    assert before[0].keys() == after[0].keys() and before[1] == after[1]
    assert all(torch.equal(before[0][k], after[0][k]) for k in before[0])
    assert all(a is b for a, b in zip(before[2], after[2]))
    assert torch.equal(before[3], after[3])
