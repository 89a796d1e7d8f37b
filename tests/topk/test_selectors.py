"""Selectors against formulas of their own, unit by unit; their gradients against those of dense tables."""

import copy

import pytest
import torch

from dms_mm.algorithms.selectors import GET, MES, SNS, MinMaxTopk, TopkBank

SIZES, LAMBDAS, LEAST = [7, 1, 12, 3, 1], [7.0, 8.0, 12.0, 12.0, 1.0], [1, 0, 3, 0, 1]
CLASSES = [TopkBank, GET, MES, SNS, MinMaxTopk]


def bank_of(cls, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    bank = cls(SIZES, LAMBDAS, LEAST, **options).double()
    bank.importance.copy_(torch.rand(sum(SIZES), generator=generator) ** 3)
    with torch.no_grad():
        new = torch.randn(bank.trained.shape, generator=generator, dtype=torch.float64)
        bank.trained.copy_(new.sigmoid() if new.shape == (len(SIZES),) else new)
    bank.steps.fill_(seed + 1)
    bank.clamp()
    bank.refresh()
    return bank


def parts(bank, values):
    return values.split(SIZES)


def ranks(scores):
    """How many elements are less important, ties by index."""
    return torch.tensor([sum((s, j) < (t, i) for j, s in enumerate(scores)) for i, t in enumerate(scores.tolist())])


def topk_masks(bank, trained, lam):
    for size, a, c, factor in zip(SIZES, trained, parts(bank, bank.importance), lam):
        place = (ranks(c).double() + 0.5) / size
        yield torch.sigmoid(factor * (place - a))


def minmax_masks(bank, trained, lam):
    for a, c, factor in zip(trained, parts(bank, bank.importance), lam):
        span = c.max() - c.min()
        scaled = 0.99 * (c - c.min()) / span if span > 0 else torch.full_like(c, 0.5)
        yield torch.sigmoid(factor * (scaled - a))


def get_masks(bank, trained, lam):
    for size, least, a, c in zip(SIZES, LEAST, trained, parts(bank, bank.importance)):
        kept = min(max(round((1 - float(a)) * size), least), size)
        yield (ranks(c) >= size - kept).double() + (a.detach() - a)


def gate_masks(bank, trained, lam, noise=True):
    start = 0
    for size, least in zip(SIZES, LEAST):
        rows = trained[start : start + size]
        drawn = (rows + bank.noise[start : start + size]) / 0.1 if noise else rows
        stays = torch.softmax(drawn, 1)[:, 1]
        hard = (drawn[:, 1] >= drawn[:, 0]).double()
        if hard.sum() < least:
            hard[torch.topk(drawn[:, 1] - drawn[:, 0], least).indices] = 1
        yield hard + stays - stays.detach() if noise else stays
        start += size


def number_masks(bank, trained, lam, noise=True):
    start = 0
    for size, least, c in zip(SIZES, LEAST, parts(bank, bank.importance)):
        counts = torch.arange(least, size + 1)
        rows = trained[start : start + len(counts)]
        drawn = (rows + bank.noise[start : start + len(counts)]) / 0.1 if noise else rows
        table = (ranks(c)[None, :] >= size - counts[:, None]).double()  # counts x elements
        stays = torch.softmax(drawn, 0) @ table
        yield table[drawn.argmax()] + stays - stays.detach() if noise else stays
        start += len(counts)


FORMULAS = {TopkBank: topk_masks, GET: get_masks, MES: gate_masks, SNS: number_masks, MinMaxTopk: minmax_masks}


def fixed(cls, masks):
    """The last unit can't shrink: it has no order to wait for, and shows one; a gate still has a gradient."""
    masks = list(masks)
    if cls is not MES:
        masks[4] = torch.ones(1, dtype=torch.float64)
    return torch.cat(masks)


@pytest.mark.parametrize('cls', CLASSES)
@pytest.mark.parametrize('seed', range(5))
def test_masks_and_their_gradients_are_those_of_the_formulas(cls, seed):
    bank = bank_of(cls, seed)
    trained = bank.trained.detach().clone().requires_grad_()
    masks = fixed(cls, FORMULAS[cls](bank, trained, LAMBDAS))
    torch.testing.assert_close(bank.mask, masks.detach(), rtol=1e-7, atol=1e-7)
    g = torch.randn(sum(SIZES), dtype=torch.float64)
    (expected,) = torch.autograd.grad(masks, trained, g)
    torch.testing.assert_close(bank.chain(g), expected, rtol=1e-6, atol=1e-7)
    (own,) = torch.autograd.grad(bank.masks_of(bank.trained), bank.trained, g)
    torch.testing.assert_close(own, expected, rtol=1e-6, atol=1e-7)


def likely(cls, bank, trained):
    """Probabilities to stay, without noise."""
    return fixed(cls, FORMULAS[cls](bank, trained, [], False))


@pytest.mark.parametrize('cls', CLASSES)
def test_counts_and_their_gradients(cls):
    """Hard ones with a soft gradient, and where masks are drawn the expected ones."""
    bank = bank_of(cls, 3)
    drawn = cls in (MES, SNS)
    trained = bank.trained.detach().clone().requires_grad_()
    masks = likely(cls, bank, trained) if drawn else fixed(cls, FORMULAS[cls](bank, trained, LAMBDAS))
    expected = torch.stack([part.sum() for part in parts(bank, masks)])
    keep, counts = bank.hard_keep(), bank.soft_counts()
    kept = torch.stack([part.sum() for part in parts(bank, keep)])
    assert all(int(k) >= least for k, least in zip(kept, LEAST)) and torch.equal(bank.hard_counts(), kept)
    torch.testing.assert_close(counts, expected if drawn else kept.double())
    torch.testing.assert_close(bank.soft_keep(), masks if drawn else keep.double())
    if drawn:
        assert (kept - expected).abs().max() <= 0.5 + (torch.tensor(LEAST) - expected).clamp_min(0).max()
    weight = torch.rand(len(SIZES), dtype=torch.float64)
    if cls in (TopkBank, GET):
        slope = -weight * torch.tensor(SIZES)
    else:
        (slope,) = torch.autograd.grad((weight * expected).sum(), trained)
    (grad,) = torch.autograd.grad((weight * counts).sum(), bank.trained)
    torch.testing.assert_close(grad, slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('cls', CLASSES)
def test_the_structure_keeps_the_likeliest_and_most_important(cls):
    bank = bank_of(cls, 2)
    worth = bank.trained[:, 1] - bank.trained[:, 0] if cls is MES else bank.importance
    for part, mine in zip(parts(bank, worth), parts(bank, bank.hard_keep())):
        assert not mine.any() or mine.all() or part[mine].min() > part[~mine].max()
    if cls is MinMaxTopk:
        for part, mine, least in zip(parts(bank, bank.mask >= 0.5), parts(bank, bank.hard_keep()), LEAST):
            assert torch.equal(part, mine) or int(mine.sum()) == least > int(part.sum())


@pytest.mark.parametrize('place', [0.0, 0.5, 1.0])
def test_in_the_middle_a_mask_is_at_least_half_for_just_the_elements_that_stay(place):
    ratios = torch.linspace(0.013, 0.957, 60, dtype=torch.float64)
    off = 0
    for a in ratios:
        bank = TopkBank([30, 1], [30.0, 8.0], [1, 0], place=place).double()
        bank.importance.copy_(torch.rand(31))
        with torch.no_grad():
            bank.ratio.fill_(a)
        bank.steps += 1
        bank.refresh()
        assert bool(bank.mask[30] >= 0.5) == bool(a <= 0.5) == bool(bank.hard_counts()[1])
        off += int((bank.mask[:30] >= 0.5).sum()) - int(bank.hard_counts()[0])
    assert off == 0 if place == 0.5 else off * (1 if place == 1 else -1) > 20


def test_a_unit_of_one_element_learns_and_one_that_must_stay_does_not():
    bank = TopkBank([1, 1], [8.0, 1.0], [0, 1]).double()
    with torch.no_grad():
        bank.ratio[0] = 0.3
    bank.refresh()
    assert bank.mask.eq(1).all()  # until a search takes its first step, a model is what it was
    bank.steps += 1
    bank.refresh()
    m = torch.sigmoid(torch.tensor(8 * (0.5 - 0.3), dtype=torch.float64))
    torch.testing.assert_close(bank.mask[0], m, rtol=1e-7, atol=0)
    assert bank.mask[1] == 1
    grad = bank.chain(torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(grad, torch.stack([-8 * m * (1 - m), torch.zeros_like(m)]), rtol=1e-7, atol=0)


@pytest.mark.parametrize('cls', [MES, SNS])
def test_draws_follow_the_seed_and_the_step_alone_and_have_the_right_frequencies(cls):
    bank = bank_of(cls)
    seen = []
    for step in range(600):
        bank.steps.fill_(step)
        torch.manual_seed(step % 7)  # of no consequence
        bank.refresh()
        seen.append(bank.mask.clone())
    twin = bank_of(cls, seed=0)
    twin.steps.fill_(321)
    twin.load_state_dict(bank.state_dict() | {'steps': torch.tensor(321)})
    assert torch.equal(twin.mask, seen[321]) and torch.equal(copy.deepcopy(twin).mask, seen[321])
    other = cls(SIZES, LAMBDAS, LEAST, seed=1).double()
    other.load_state_dict(twin.state_dict() | {'seed': torch.tensor(1)})
    assert not torch.equal(other.mask, twin.mask)
    probable = likely(cls, bank, bank.trained.detach())
    # Gates are held at their least counts in some of the draws, if there is one.
    free = torch.tensor([cls is SNS or least == 0 for least, size in zip(LEAST, SIZES) for _ in range(size)])
    error = (torch.stack(seen).mean(0) - probable)[free].abs().max()
    assert error < 4 * 0.5 / 600**0.5


@pytest.mark.parametrize('cls', CLASSES)
def test_hardened_units_and_those_without_an_order(cls):
    bank = bank_of(cls, 1)
    bank.harden(0, torch.tensor([True, False, True, True, False, True, False]))
    assert bank.mask[:7].tolist() == [1, 0, 1, 1, 0, 1, 0]
    grad = bank.chain(torch.randn(sum(SIZES), dtype=torch.float64))
    still = bank.still().broadcast_to(grad.shape)
    assert still.any() and grad[still].eq(0).all() and grad[~still].ne(0).any()
    assert bank.soft_counts()[0] == 4
    fresh = cls(SIZES, LAMBDAS, LEAST)
    if cls is not MES:
        assert fresh.mask[:7].eq(1).all() and fresh.chain(torch.ones(sum(SIZES)))[0] == 0
    half = [max(round(0.501 * n + 0.01), least) for n, least in zip(SIZES, LEAST)]
    begins = fresh.hard_counts().tolist()
    assert begins == SIZES if cls not in (MES, SNS) else all(abs(a - b) <= 2 for a, b in zip(begins, half))


@pytest.mark.parametrize('cls', CLASSES)
def test_what_is_trained_is_saved_copied_moved_and_no_parameter(cls):
    bank = bank_of(cls, 4)
    twin = copy.deepcopy(bank)
    other = cls(SIZES, LAMBDAS, LEAST).double()
    other.load_state_dict(bank.state_dict())
    for same in (twin, other):
        assert torch.equal(same.mask, bank.mask) and torch.equal(same.hard_keep(), bank.hard_keep())
    bank.float()
    assert bank.trained.requires_grad and bank.trained.is_leaf and not list(bank.parameters())
    assert all(isinstance(v, torch.Tensor) for v in bank.state_dict().values())


@pytest.mark.parametrize(
    ('cls', 'options', 'message'),
    [
        (TopkBank, dict(place=2.0), 'place=2.0 of the selector must be from 0 to 1'),
        (MES, dict(temperature=0.0), 'temperature=0.0 of the selector must be above 0'),
        (GET, dict(slope='sigmod'), "unknown slope 'sigmod'; did you mean 'sigmoid'"),
    ],
)
def test_wrong_options_are_named(cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls(SIZES, LAMBDAS, LEAST, **options)
