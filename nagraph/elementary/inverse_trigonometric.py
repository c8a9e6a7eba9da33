"""arctan, arctan2, arcsin, arccos."""

from __future__ import annotations

import math

from nagraph.elementary.coefficients import ARCSIN_F32, ARCSIN_F64, ARCTAN_F32, ARCTAN_F64
from nagraph.elementary.floats import FORMATS, in_double
from nagraph.ir.scalar import F32, F64, Scalar, ScalarBuilder

#: π/2: the number nearest to it, and the rest.
HALF_PI = {F32: (1.57079637050628662109375, -4.371139000186241e-8), F64: (math.pi / 2, 6.123233995736766e-17)}


def _minus(s: ScalarBuilder, halves: int, y: Scalar) -> Scalar:
    """halves π/2 - y."""
    high, low = HALF_PI[y.dtype]
    return halves * high - (y - halves * low)


def _arctan(s: ScalarBuilder, x: Scalar) -> Scalar:
    """Of |x| <= 1."""
    z = x * x
    return s.fma(s.horner(z, ARCTAN_F32 if x.dtype == F32 else ARCTAN_F64), z * x, x)


def arctan(s: ScalarBuilder, x: Scalar) -> Scalar:
    """arctan x, of large x as π/2 - arctan(1/x). Error: at most 2 ULP."""
    size = s.abs(x)
    large = size > 1
    y = _arctan(s, s.select(large, 1 / size, size))
    return s.copysign(s.select(large, _minus(s, 1, y), y), x)


@in_double
def arctan2(s: ScalarBuilder, y: Scalar, x: Scalar) -> Scalar:
    """The angle of the point (x, y). Error: at most 4 ULP in float64."""
    across, up = s.abs(x), s.abs(y)
    steep = up > across
    short, long = s.select(steep, across, up), s.select(steep, up, across)
    # 0 / 0 is 0 here, and inf / inf is 1.
    ratio = s.select(s.eq(short, long), s.select(s.eq(long, 0), long, s.constant(1, x.dtype)), short / long)
    angle = _arctan(s, ratio)
    angle = s.select(steep, _minus(s, 1, angle), angle)
    left = s.bitcast(x, FORMATS[x.dtype].integer) < 0  # -0 is left
    angle = s.copysign(s.select(left, _minus(s, 2, angle), angle), y)
    return s.select(s.is_nan(x) | s.is_nan(y), x + y, angle)


def _arcsin(s: ScalarBuilder, x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """(whether |x| > 1/2, v, w): arcsin |x| = v + w, or where |x| is large, that is half of arccos |x|.

    There arccos |x| = 2 arcsin √((1 - |x|) / 2). |w| is much less than v.
    """
    size = s.abs(x)
    large = size > 0.5
    z = s.select(large, s.fma(size, s.constant(-0.5, x.dtype), s.constant(0.5, x.dtype)), x * x)
    v = s.select(large, s.sqrt(z), size)
    return large, v, s.horner(z, ARCSIN_F32 if x.dtype == F32 else ARCSIN_F64) * (z * v)


def arcsin(s: ScalarBuilder, x: Scalar) -> Scalar:
    """arcsin x, nan beyond 1. Error: at most 2 ULP."""
    large, v, w = _arcsin(s, x)
    high, low = HALF_PI[x.dtype]
    twice = v + v
    total = high - twice
    far = total + s.fma(w, s.constant(-2, x.dtype), ((high - total) - twice) + low)
    return s.copysign(s.select(large, far, v + w), x)


def arccos(s: ScalarBuilder, x: Scalar) -> Scalar:
    """arccos x, nan beyond 1. Error: at most 2 ULP."""
    large, v, w = _arcsin(s, x)
    y = v + w
    twice = y + y
    return s.select(large, s.select(x < 0, _minus(s, 2, twice), twice), _minus(s, 1, s.copysign(y, x)))
