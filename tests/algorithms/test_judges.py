"""What judges say of structures: by hand where a score can be, by the seed, and with the model left alone."""

import pytest
import torch
from torch import nn

import dms_mm
from builders.small import searchable
from builders.strategies import SPACES, assert_same, attention, share_of, state_of, task_of
from dms_mm.algorithms.strategies import Budget, Evolution, SupernetJudge, ZenScore, ZiCo, random_keep
from dms_mm.algorithms.strategies.importance import weight_scores
from dms_mm.algorithms.strategies.judges import recalibrate
from dms_mm.algorithms.strategies.structures import slim_of
from dms_mm.algorithms.strategies.zen import variance, without_links
from dms_mm.algorithms.strategies.zico import layer_score


@pytest.fixture(scope='module', params=SPACES)
def space(request):
    return SPACES[request.param]()


def test_evolution_beats_its_first_generation_by_its_own_score():
    lines = []
    space, budget = searchable(), Budget(log=lines.append)
    evolution = Evolution(ZiCo(), population=8, parents=3, evaluations=40, uniform=False)
    keep, scores = evolution.search(space, {'macs': 0.3}, task_of(), budget), []
    for seed in range(8):
        drawn = random_keep(space, {'macs': 0.3}, torch.Generator().manual_seed(seed), scores=weight_scores(space, 1))
        scores.append(evolution.judge.score(space, drawn, task_of(), budget))
    best = evolution.judge.score(space, keep, task_of(), budget)
    assert best > max(scores) and len(lines) == 5


@pytest.mark.parametrize(
    'judge', [SupernetJudge(2, 1), ZiCo(), ZenScore(batch=4, repeats=2)], ids=lambda j: type(j).__name__
)
def test_scores_are_finite_and_go_by_the_seed(space, judge):
    keep = random_keep(space, {'macs': 0.3}, torch.Generator().manual_seed(1))
    before = state_of(space)
    torch.manual_seed(7)
    one = judge.score(space, keep, task_of(), Budget(seed=3))
    torch.manual_seed(8)
    budget = Budget(seed=3)
    two = judge.score(space, keep, task_of(), budget)
    torch.set_rng_state(before[3])
    assert one == two and abs(one) < 1e6
    assert_same(before, state_of(space))
    macs = share_of(space, keep) * space.supernet['macs']
    assert budget.cost.macs == pytest.approx(macs * budget.cost.samples * (3 if isinstance(judge, ZiCo) else 1))
    if not isinstance(judge, SupernetJudge):
        assert judge.score(space, keep, task_of(), Budget(seed=4)) != one


def test_recalibrated_batch_norms_are_those_of_the_batches():
    space = searchable()
    keep = random_keep(space, {'macs': 0.3}, torch.Generator().manual_seed(1))
    model, task = slim_of(space, keep), task_of()
    recalibrate(model, task, task.batches)
    first = model.layer1[0] if isinstance(model.layer1[0].bn1, nn.BatchNorm2d) else model.layer1[1]
    x = [first.conv1(model.stem(batch[0])) for batch in task.batches]
    mean = torch.stack([v.mean((0, 2, 3)) for v in x]).mean(0)
    variances = torch.stack([v.transpose(0, 1).flatten(1).var(1) for v in x]).mean(0)
    torch.testing.assert_close(first.bn1.running_mean, mean)
    torch.testing.assert_close(first.bn1.running_var, variances)
    assert first.bn1.momentum == 0.1


def test_zico_of_a_layer_by_hand():
    """Two weights and two batches: magnitudes 1 and 3, mean 2, deviation 1; 5 and 5 vary in nothing."""
    assert layer_score(torch.tensor([[1.0, 5.0], [3.0, 5.0]])) == pytest.approx(torch.tensor(2.0).log().item())
    both = layer_score(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    assert both == pytest.approx(torch.tensor(4.0).log().item())
    assert layer_score(torch.ones(2, 3)) == 0.0


class Linear(nn.Module):
    """No norm, no activation: what noise does to its features is known."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(8, 6, 1, bias=False)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.b(self.a(x)).mean((2, 3)))


def test_zen_score_of_a_linear_net_is_that_of_its_noise():
    """f(x) - f(x + alpha e) = alpha f(e) for the features before the classifier, twice as large for twice the noise."""
    space = dms_mm.make_searchable(Linear(), torch.zeros(2, 3, 5, 5))
    keep = torch.ones_like(space.bank.keep)
    scores = [ZenScore(alpha, 4, 1).score(space, keep, task_of((3, 5, 5)), Budget()) for alpha in (0.01, 0.02)]
    assert scores[1] - scores[0] == pytest.approx(torch.tensor(2.0).log().item(), abs=1e-3)


def test_residual_links_are_left_out_inside_alone():
    space = searchable()
    model, blocks = slim_of(space, torch.ones_like(space.bank.keep)).eval(), set(space.plan.trace.residual)
    x = torch.randn(2, 32, 8, 8)
    block = model.layer1[0]
    with torch.no_grad():
        linked, branch = block(x), block.bn2(block.conv2(block.bn1(block.conv1(x)).relu())).relu()
        with without_links(model, blocks):
            torch.testing.assert_close(block(x), branch)
        assert torch.equal(block(x), linked)


def test_both_sums_of_a_transformer_block_lose_their_links():
    space = attention()
    model, blocks = slim_of(space, torch.ones_like(space.bank.keep)).eval(), set(space.plan.trace.residual)
    block, x = model.blocks[0], torch.randn(2, 17, 64)
    with torch.no_grad():
        middle = block.attn(block.norm1(x))
        expected = block.mlp(block.norm2(middle))
        with without_links(model, blocks):
            torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize('norm, shape', [(nn.BatchNorm2d(6), (4, 6, 3, 3)), (nn.LayerNorm(6), (4, 5, 6)),
                                         (nn.GroupNorm(2, 6), (4, 6, 3, 3))])  # fmt: skip
def test_variances_are_what_norms_divide_by(norm, shape):
    x = 3 * torch.randn(shape)
    found = variance(norm, x)
    assert len(found.flatten()) == {nn.BatchNorm2d: 6, nn.LayerNorm: 20, nn.GroupNorm: 8}[type(norm)]
    torch.testing.assert_close(variance(norm, norm(x)), torch.ones_like(found), rtol=1e-4, atol=0)
    torch.testing.assert_close(variance(norm, 2 * x), 4 * found)
