"""exp, expm1, exp2, sigmoid, and tanh, which is a quotient of exponentials.

x = n ln 2 + r with an integer n and |r| <= ln 2 / 2, so eˣ = 2ⁿ eʳ: a polynomial and an addition to the exponent.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from nagraph.elementary.coefficients import EXP_F32, EXP_F64
from nagraph.elementary.floats import FORMATS, add_exponent, clamp
from nagraph.ir.scalar import F32, F64, Scalar, ScalarBuilder
from nagraph.ir.types import DType


class _Range(NamedTuple):
    """Where the exponential of a dtype is what, and its constants."""

    coefficients: tuple[float, ...]
    ln2: tuple[float, float]  # the number nearest to ln 2, and the rest
    zero: float  # e^zero and all below round to 0
    subnormal: float  # at least from here on results are normal
    largest: float  # the last x whose exponential is finite
    largest_half: float  # and whose half is
    one: float  # 1 ± eˣ is 1 for x < -one
    room: int  # the power of two that lifts subnormal results among the normal ones


RANGES: dict[DType, _Range] = {
    F32: _Range(EXP_F32, (0.693147182464599609375, -1.904654299957768e-9), -104.0, -87.0, 88.72283172607421875,
                89.41598510742188, 18.0, 64),
    F64: _Range(EXP_F64, (math.log(2), 2.3190468138462996e-17), -746.0, -708.0, 709.782712893384,
                710.4758600739439, 40.0, 128),
}


def _reduce(s: ScalarBuilder, x: Scalar) -> tuple[Scalar, Scalar]:
    """(r, n as an exponent): x = n ln 2 + r."""
    r, _, shifted = _split(s, x)
    f = FORMATS[x.dtype]
    return r, s.bitcast(shifted, f.integer) << f.fraction


def _split(s: ScalarBuilder, x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """(r, n, n in the lowest bits): x = n ln 2 + r."""
    f, range = FORMATS[x.dtype], RANGES[x.dtype]
    shifted = s.fma(x, s.constant(1 / math.log(2), x.dtype), s.constant(f.magic, x.dtype))
    n = shifted - f.magic
    high, low = range.ln2
    r = s.fma(n, s.constant(-high, x.dtype), x)  # exact, for r has no bits below those of its two terms
    r = s.fma(n, s.constant(-low, x.dtype), r)
    return r, n, shifted


def _tail(s: ScalarBuilder, r: Scalar) -> Scalar:
    """(eʳ - 1 - r) / r²."""
    return s.horner(r, RANGES[r.dtype].coefficients)


def _near_zero(s: ScalarBuilder, r: Scalar) -> Scalar:
    """eʳ - 1, exact near 0."""
    return s.fma(_tail(s, r) * r, r, r)


def _near_one(s: ScalarBuilder, r: Scalar) -> Scalar:
    """eʳ."""
    one = s.constant(1, r.dtype)
    return s.fma(s.fma(_tail(s, r), r, one), r, one)


def _scaled(s: ScalarBuilder, p: Scalar, n: Scalar, shifted: Scalar, tiny: Scalar) -> Scalar:
    """p 2ⁿ; where `tiny`, by way of a larger number, so that a subnormal result is rounded once.

    shifted: n in the lowest bits. A machine that scales in one instruction needs no such care.
    """
    if s.scales:
        return s.scale(p, n)
    range, (integer, fraction, _) = RANGES[p.dtype], FORMATS[p.dtype]
    exponent = s.bitcast(shifted, integer) << fraction
    y = add_exponent(s, p, s.select(tiny, exponent + (range.room << fraction), exponent))
    return s.select(tiny, y * 2.0**-range.room, y)


def finite_exp(s: ScalarBuilder, x: Scalar, rest: Scalar | None = None) -> Scalar:
    """eˣ, or e to the power x + rest with a rest below the last bit of x, where it does not overflow; of nan, anything."""
    range = RANGES[x.dtype]
    x = clamp(s, x, low=range.zero)
    r, n, shifted = _split(s, x)
    return _scaled(s, _near_one(s, r if rest is None else r + rest), n, shifted, x < range.subnormal)


def exp(s: ScalarBuilder, x: Scalar) -> Scalar:
    """eˣ. Error: below 1 ULP."""
    if s.scales:  # it overflows where the exponential does
        return finite_exp(s, clamp(s, x, high=RANGES[x.dtype].largest + 1))
    # x + inf: infinity, or nan where x is nan.
    return s.select(x <= RANGES[x.dtype].largest, finite_exp(s, x), x + math.inf)


def half_exp(s: ScalarBuilder, x: Scalar) -> Scalar:
    """eˣ / 2 for x >= 0, infinite only where that is."""
    f = FORMATS[x.dtype]
    r, exponent = _reduce(s, x)
    y = add_exponent(s, _near_one(s, r), exponent - (1 << f.fraction))
    return s.select(x <= RANGES[x.dtype].largest_half, y, x + math.inf)


def exp2(s: ScalarBuilder, x: Scalar) -> Scalar:
    """2ˣ: x = n + r, |r| <= 1/2. Error: at most 2 ULP; powers of two are exact."""
    f = FORMATS[x.dtype]
    least = 1.0 - f.bias
    inside = clamp(s, x, low=least - f.fraction - 2)
    shifted = inside + f.magic
    n = shifted - f.magic
    p = _near_one(s, (inside - n) * math.log(2))
    y = _scaled(s, p, n, shifted, inside < least + 1)
    return s.select(x < f.bias + 1.0, y, x + math.inf)


def expm1(s: ScalarBuilder, x: Scalar) -> Scalar:
    """eˣ - 1 = 2ⁿ (eʳ - 1) + (2ⁿ - 1), exact near 0. Error: at most 2 ULP."""
    f, range = FORMATS[x.dtype], RANGES[x.dtype]
    r, exponent = _reduce(s, clamp(s, x, low=-range.one))
    # 2ⁿ may overflow where the result does not: large results are computed halved.
    large = x > range.one
    one = s.constant(1, x.dtype)
    power = s.bitcast(s.select(large, exponent + (f.one - (1 << f.fraction)), exponent + f.one), x.dtype)
    y = s.fma(power, _near_zero(s, r), power - s.select(large, one * 0.5, one))
    y = s.copysign(s.select(large, y + y, y), x)
    return s.select(x <= range.largest, y, x + math.inf)


def tanh(s: ScalarBuilder, x: Scalar) -> Scalar:
    """±(1 - e⁻ᵗ) / (1 + e⁻ᵗ) with t = 2 |x|. Error: at most 2 ULP."""
    r, exponent = _reduce(s, clamp(s, s.abs(x) * -2, low=-RANGES[x.dtype].one))
    power = s.bitcast(exponent + FORMATS[x.dtype].one, x.dtype)
    p = _near_zero(s, r)
    # Both 2ⁿ p + (2ⁿ ± 1), each rounded once.
    return s.copysign(s.fma(power, p, power - 1) / s.fma(power, p, power + 1), x)


def sigmoid(s: ScalarBuilder, x: Scalar) -> Scalar:
    """1 / (1 + e⁻ˣ). Error: at most 2 ULP.

    e⁻ˣ = 2ⁿ (1 + r t) is not rounded before it is added: 1 + e⁻ˣ = (1 + 2ⁿ) + 2ⁿ r t.
    """
    f, range = FORMATS[x.dtype], RANGES[x.dtype]
    x = clamp(s, x, range.zero, range.one)
    r, exponent = _reduce(s, -x)
    # Where the result is subnormal, 2ⁿ overflows, and the 1 is nothing beside it.
    tiny, one = x < range.subnormal, s.constant(1, x.dtype)
    lifted = s.select(tiny, exponent - (range.room << f.fraction), exponent)
    power = s.bitcast(lifted + f.one, x.dtype)
    whole = s.select(tiny, power, power + 1)
    lost = (power - whole) + 1  # by the rounding of 1 + 2ⁿ
    y = 1 / (whole + s.fma(power * r, s.fma(_tail(s, r), r, one), lost))
    return s.select(tiny, y * 2.0**-range.room, y)
