"""Where a falling function crosses zero."""

from __future__ import annotations

from collections.abc import Callable

FIRST, MOST = 0.02, 16.0  # steps from zero that look for a change of sign
BEYOND = 1.02  # of the way that the slope tells, so that the second point lies on the other side
CLOSE = 1e-6
TRIES = 120


def crossing(function: Callable[[float], float], slope: float | None = None) -> float:
    """A point where a falling function is zero, or below it by at most 1e-6; where it has one sign up to 16 from zero,
    that bound.

    By the secant of a bracket, where the value at an end that stays is halved (the Illinois rule), and by its middle
    where three of them did not halve it. With the ``slope`` at zero three or four evaluations, without it some eight,
    where halves alone take 24.
    """
    a, b = 0.0, 0.0
    fa = fb = function(0.0)
    step = FIRST if not slope else min(max(BEYOND * abs(fa / slope), CLOSE), MOST)
    while fb > 0 and b < MOST:
        a, fa = b, fb
        b = min(b + step, MOST)
        fb, step = function(b), 4 * step
    while fa <= 0 and a > -MOST:
        b, fb = a, fa
        a = max(a - step, -MOST)
        fa, step = function(a), 4 * step
    if fb > 0 or fa <= 0:
        return b if fb > 0 else a
    below, stays = fb, 0  # the value at b itself, and which end stayed last
    width = 2 * (b - a)
    for number in range(TRIES):
        if below > -CLOSE or b - a < CLOSE:
            break
        # Half of what is allowed below zero, so that a good guess ends it.
        x = (a * (fb + CLOSE / 2) - b * (fa + CLOSE / 2)) / (fb - fa)
        x = x if a < x < b else (a + b) / 2
        if number % 3 == 2:
            x, width = (a + b) / 2 if b - a > width / 2 else x, b - a
        fx = function(x)
        if fx > 0:
            a, fa, fb = x, fx, fb / 2 if stays > 0 else fb
            stays = 1
        else:
            b, fb, fa = x, fx, fa / 2 if stays < 0 else fa
            below, stays = fx, -1
    return b
