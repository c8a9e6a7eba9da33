"""sinh, cosh, arcsinh, arccosh, arctanh."""

from __future__ import annotations

import math

from nagraph.elementary.coefficients import SINH_F32, SINH_F64
from nagraph.elementary.exponential import half_exp
from nagraph.elementary.floats import in_double
from nagraph.elementary.logarithm import log1p
from nagraph.ir.scalar import F32, Scalar, ScalarBuilder

#: From here on neither 1 + x nor x² + 1 is told from x and x².
LARGE = 2.0**60


def cosh(s: ScalarBuilder, x: Scalar) -> Scalar:
    """cosh x = h + 1 / (4 h) with h = e^|x| / 2. Error: at most 2 ULP."""
    h = half_exp(s, s.abs(x))
    return h + 0.25 / h


def sinh(s: ScalarBuilder, x: Scalar) -> Scalar:
    """sinh x = ±(h - 1 / (4 h)) with h = e^|x| / 2; up to 1 an odd polynomial. Error: at most 2 ULP."""
    z = x * x
    near = s.fma(s.horner(z, SINH_F32 if x.dtype == F32 else SINH_F64), z * x, x)
    size = s.abs(x)
    h = half_exp(s, size)
    return s.select(size > 1, s.copysign(h - 0.25 / h, x), near)


def _log1p_of(s: ScalarBuilder, small: Scalar, large: Scalar, is_large: Scalar) -> Scalar:
    """ln(1 + small), or ln(2 large)."""
    y = log1p(s, s.select(is_large, large, small))
    return y + s.select(is_large, s.constant(math.log(2), y.dtype), s.constant(0, y.dtype))


@in_double
def arcsinh(s: ScalarBuilder, x: Scalar) -> Scalar:
    """±ln(t + √(t² + 1)) with t = |x|. Error: at most 4 ULP in float64."""
    t = s.abs(x)
    square = t * t
    # t + √(t² + 1) - 1 without cancellation
    small = t + square / (1 + s.sqrt(square + 1))
    return s.copysign(_log1p_of(s, small, t, t > LARGE), x)


@in_double
def arccosh(s: ScalarBuilder, x: Scalar) -> Scalar:
    """ln(x + √(x² - 1)), nan below 1. Error: at most 4 ULP in float64."""
    t = x - 1
    small = t + s.sqrt(s.fma(t, t, t + t))
    return s.select(x < 1, s.constant(math.nan, x.dtype), _log1p_of(s, small, x, x > LARGE))


@in_double
def arctanh(s: ScalarBuilder, x: Scalar) -> Scalar:
    """±1/2 ln((1 + t) / (1 - t)) with t = |x|, nan beyond 1. Error: at most 4 ULP in float64."""
    t = s.abs(x)
    return s.copysign(log1p(s, (t + t) / (1 - t)) * 0.5, x)
