"""Derivatives as one-sided limits, by mpmath: what a derivative at a kink, a pole or infinity may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import mpmath
from mpmath import mp, mpf

Real = Any
Fn = Callable[..., Real]

#: So many digits that second differences by steps of 1e-260 around 1e-200, and of 1e-60 around 1e200, are exact in float64.
DIGITS = 1000
#: How near to a point, and how far out towards infinity, a limit is looked at.
NEAR, FAR = (mpf(10) ** -30, mpf(10) ** -60), (mpf(10) ** 12, mpf(10) ** 24)
NAN = mpf("nan")


def _real(f: Fn, xs: Sequence[Real]) -> Real:
    """f(*xs), nan where it is not a real number."""
    try:
        y = f(*xs)
    except (ZeroDivisionError, ValueError):
        return NAN
    if isinstance(y, mpmath.mpc):
        return y.real if y.imag == 0 else NAN
    return mpf(y)


def _difference(f: Fn, xs: Sequence[Real], i: int, order: int, step: Real) -> Real:
    """The derivative of this order by xs[i], by central differences."""
    def at(k: int) -> Real:
        return _real(f, [x + k * step if j == i else x for j, x in enumerate(xs)])

    if order == 1:
        return (at(1) - at(-1)) / (2 * step)
    return (at(1) - 2 * at(0) + at(-1)) / (step * step)


def _limit(first: Real, second: Real) -> float:
    """What a sequence goes to of which these are a far and a farther member; nan if it goes nowhere."""
    if mpmath.isnan(second) or mpmath.isinf(second):
        return float(second)
    size, before = abs(second), abs(first)
    if size * 1000 < before or abs(second - first) <= size * mpf(10) ** -6 or size < mpf(10) ** -9:
        return float(second)
    return float(mpf("inf") * (1 if second > 0 else -1)) if size > before * 5 / 4 else float("nan")


def one_sided(f: Fn, xs: Sequence[float], i: int, order: int) -> tuple[float, float]:
    """The limits of the derivative by xs[i] from below and from above; nan where f is not real on that side."""
    mp.dps = DIGITS
    at = [mpf(x) for x in xs]
    x = at[i]

    def value(point: Real, step: Real) -> Real:
        return _difference(f, [*at[:i], point, *at[i + 1:]], i, order, step)

    if mpmath.isinf(x):
        sign = 1 if x > 0 else -1
        found = _limit(*(value(sign * far, mpf(10) ** -30) for far in FAR))
        return found, found
    scale = min([mpf(1), *(abs(v) for v in at if v)])
    sides = [_limit(*(value(x + sign * near * scale, near * scale * mpf(10) ** -30) for near in NEAR)) for sign in (-1, 1)]
    return sides[0], sides[1]


def mixed(f: Fn, xs: Sequence[float], i: int, j: int) -> float:
    """The limit of the derivative by xs[i] and xs[j] where it is the same from all four sides; else nan."""
    mp.dps = DIGITS
    at = [mpf(x) for x in xs]
    if any(mpmath.isinf(at[k]) for k in (i, j)):
        return math.nan
    scale = min([mpf(1), *(abs(v) for v in at if v)])

    def value(near: Real, s: int, t: int) -> Real:
        step = near * scale * mpf(10) ** -30

        def moved(k: int, n: int) -> Real:
            offset = {i: s * near * scale + k * step, j: t * 3 * near * scale + n * step}  # no diagonal: at poles that is a special one
            return _real(f, [x + offset.get(m, 0) for m, x in enumerate(at)])

        return (moved(1, 1) - moved(1, -1) - moved(-1, 1) + moved(-1, -1)) / (4 * step * step)

    sides = [_limit(*(value(near, s, t) for near in NEAR)) for s in (-1, 1) for t in (-1, 1)]
    low, high = min(sides), max(sides)
    return sides[0] if math.isfinite(low) and high - low <= 1e-9 * (1 + abs(low)) else math.nan
