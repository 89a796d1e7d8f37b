"""The shift that meets a budget is found in few evaluations, and never leaves the budget exceeded."""

import math

import pytest

from dms_mm.algorithms.rules.crossing import CLOSE, MOST, crossing

FUNCTIONS = {
    'line': lambda d: d,
    'steep': lambda d: 30 * d,
    'one side flat': lambda d: math.expm1(max(min(10 * d, 50.0), -50.0)),
    'log of a share': lambda d: math.log1p(math.exp(d)) - math.log(2),
    'clamped': lambda d: max(min(d, 0.05), -0.05),
    'flat at zero': lambda d: math.copysign(abs(d) ** 1.5, d),
}


@pytest.mark.parametrize('name', FUNCTIONS)
@pytest.mark.parametrize('root', [-9.7, -0.3, -0.01, 0.0, 0.004, 0.2, 3.3, 12.0])
def test_it_is_met_from_below(name, root):
    calls = []

    def gap(x: float) -> float:
        calls.append(x)
        return FUNCTIONS[name](root - x)

    x = crossing(gap)
    assert gap(x) <= 0
    assert gap(x) > -2 * CLOSE or abs(x - root) < 2 * CLOSE
    if abs(root) < 0.5 and name in ('line', 'steep', 'log of a share'):
        assert len(calls) <= 12


@pytest.mark.parametrize('root', [-0.02, -3e-4, 1e-5, 0.003, 0.05])
@pytest.mark.parametrize('wrong', [0.5, 1.0, 3.0])
def test_a_slope_saves_evaluations_and_a_wrong_one_does_no_harm(root, wrong):
    calls = []

    def gap(x: float) -> float:
        calls.append(x)
        return FUNCTIONS['log of a share'](root - x)

    x = crossing(gap, -0.5 * wrong)
    assert -CLOSE <= gap(x) <= 0
    assert len(calls) <= (5 if wrong == 1 else 9)


def test_what_never_crosses_ends_at_the_bound():
    assert crossing(lambda x: 1.0) == MOST
    assert crossing(lambda x: -1.0) == -MOST
