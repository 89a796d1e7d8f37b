"""Optimizers of the structure: torch's own trajectories on a plain tensor, state in the bank, bounds and hard units."""

import pytest
import torch

from dms_mm.algorithms.rules.optimizer import StructureOptimizer
from dms_mm.registry import OPTIMIZERS
from dms_mm.topk import TopkBank

SPECS = [
    dict(type='SGD', lr=0.01, momentum=0.9, nesterov=True),
    dict(type='dms_mm.RMSpropTF', lr=0.01, alpha=0.9, eps=1e-3, momentum=0.9),
    dict(type='RMSpropTF', lr=0.01, centered=True),
    dict(type='Adam', lr=0.01, amsgrad=True),
    dict(type='AdamW', lr=0.01),
    dict(type=torch.optim.Adagrad, lr=0.01),
]


def bank_of():
    bank = TopkBank([8, 6, 4], [8.0, 6.0, 4.0], [1, 1, 1]).double()
    with torch.no_grad():
        bank.ratio.fill_(0.4)
    return bank


def grads(steps):
    return torch.randn(steps, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('spec', SPECS, ids=lambda s: str(getattr(s['type'], '__name__', s['type'])))
def test_the_ratios_go_as_a_parameter_does_and_go_on_from_a_checkpoint(spec):
    plain = torch.full((3,), 0.4, dtype=torch.float64, requires_grad=True)
    given = {k: v for k, v in spec.items() if k != 'type'}
    name = str(spec['type']).removeprefix('dms_mm.')
    kind = spec['type'] if isinstance(spec['type'], type) else getattr(torch.optim, name, None)
    OPTIMIZERS.import_from_location()
    theirs = (kind or OPTIMIZERS.module_dict[name])([plain], **{'weight_decay': 0, **given})
    bank = bank_of()
    ours = StructureOptimizer(bank, spec)
    for number, grad in enumerate(grads(8)):
        plain.grad = grad.clone()
        theirs.step()
        if number == 4:
            state, bank = bank.state_dict(), bank_of()
            ours = StructureOptimizer(bank, spec)
            bank.load_state_dict(state)
        ours.step(grad)
        assert torch.equal(bank.ratio, plain)


def test_hard_units_rest_and_ratios_stay_within_their_bounds():
    bank = bank_of()
    ours = StructureOptimizer(bank, dict(type='SGD', lr=0.3, momentum=0.9))
    ours.step(torch.full((3,), -1.0, dtype=torch.float64))
    bank.harden(1, torch.tensor([True, False, True, True, True, True]))
    held = float(bank.ratio[1].detach())
    for _ in range(5):
        ours.step(torch.full((3,), -1.0, dtype=torch.float64))
    assert bank.ratio.tolist() == pytest.approx([7 / 8, held, 3 / 4])
    for _ in range(40):
        ours.step(torch.ones(3, dtype=torch.float64))
    assert bank.ratio.tolist() == [0, held, 0]


@pytest.mark.parametrize(
    ('spec', 'lr', 'message'),
    [
        ('Adan', None, "unknown optimizer 'Adan'; did you mean 'Adam'"),
        (dict(lr=0.1), None, 'has no `type`'),
        (dict(type='RMSpropTF', decay=0.9), None, "unknown option 'decay' of optimizer RMSpropTF"),
        (dict(type='SGD', lr=0.1), 0.2, 'option `lr` is given twice'),
        (dict(type='Adam', weight_decay=0.1), None, 'weight_decay=0.1: the structure takes no weight decay'),
    ],
)
def test_wrong_settings_are_named(spec, lr, message):
    with pytest.raises(ValueError, match=message):
        StructureOptimizer(bank_of(), spec, lr)
