"""log, log1p, log2, log10, softplus.

x = 2ᵉ m with 2/3 <= m < 4/3, so ln x = e ln 2 + ln(1 + f) with f = m - 1.
"""

from __future__ import annotations

import math

from nagraph.elementary.coefficients import ARTANH_F64, LOG_F32
from nagraph.elementary.exponential import finite_exp
from nagraph.elementary.floats import FORMATS
from nagraph.ir.scalar import F32, F64, Scalar, ScalarBuilder

#: 2/3 as an integer: what is less belongs to the exponent before.
TWO_THIRDS = {23: 0x3F2AAAAB, 52: 0x3FE5555555555555}
#: log₁₀ 2: so many bits of it that times an exponent they are exact, and the rest.
LOG10_OF_2 = {F32: (0.301025390625, 4.605038981195214e-06), F64: (0.30102999566361177, 3.694239077158931e-13)}
#: Subnormal numbers are multiplied by two to this power.
LIFT = 64


def exponent_of(s: ScalarBuilder, x: Scalar) -> Scalar:
    """e as an integer shifted to where a float has its exponent; x is positive and normal."""
    f = FORMATS[x.dtype]
    return (s.bitcast(x, f.integer) - TWO_THIRDS[f.fraction]) & -(1 << f.fraction)


def less_exponent(s: ScalarBuilder, x: Scalar, exponent: Scalar) -> Scalar:
    """x 2⁻ᵉ; both are normal."""
    f = FORMATS[x.dtype]
    return s.bitcast(s.bitcast(x, f.integer) - exponent, x.dtype)


def split(s: ScalarBuilder, x: Scalar) -> tuple[Scalar, Scalar]:
    """(e, f): x = 2ᵉ (1 + f), |f| <= 1/3, for positive finite x."""
    f = FORMATS[x.dtype]
    tiny = x < 2.0**(1 - f.bias)
    x = s.select(tiny, x * 2.0**LIFT, x)
    exponent = exponent_of(s, x)
    e = s.cast(exponent >> f.fraction, x.dtype)
    return s.select(tiny, e - LIFT, e), less_exponent(s, x, exponent) - 1


def bend(s: ScalarBuilder, f: Scalar) -> Scalar:
    """ln(1 + f) - f for |f| <= 1/3."""
    if f.dtype == F32:
        return s.horner(f, LOG_F32) * (f * f)
    # ln(1 + f) = 2 artanh t = f - (h - t (h + z P(z))), h = f²/2. Source of this order: fdlibm's log.
    t = f / (f + 2)
    z = t * t
    h = f * f * 0.5
    return t * (h + z * s.horner(z, ARTANH_F64)) - h


def near_one(s: ScalarBuilder, f: Scalar) -> Scalar:
    """ln(1 + f) for |f| <= 1/3."""
    return s.fma(s.horner(f, LOG_F32), f * f, f) if f.dtype == F32 else f + bend(s, f)


def _with_edges(s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
    """y for positive finite x; infinity, nan, and what is not positive have their own logarithms."""
    y = s.select(x < math.inf, y, x)
    return s.select(x <= 0, s.select(s.eq(x, 0), s.constant(-math.inf, x.dtype), s.constant(math.nan, x.dtype)), y)


def log(s: ScalarBuilder, x: Scalar) -> Scalar:
    """ln x. Error: below 1 ULP in float32."""
    e, f = split(s, x)
    return _with_edges(s, x, s.fma(e, s.constant(math.log(2), x.dtype), near_one(s, f)))


def log2(s: ScalarBuilder, x: Scalar) -> Scalar:
    """log₂ x. Error: at most 2 ULP; powers of two are exact."""
    e, f = split(s, x)
    return _with_edges(s, x, s.fma(near_one(s, f), s.constant(1 / math.log(2), x.dtype), e))


def log10(s: ScalarBuilder, x: Scalar) -> Scalar:
    """log₁₀ x = e log₁₀ 2 + f log₁₀ e + ... . Error: at most 2 ULP.

    The first two terms may cancel, so what their product and sum lose is kept.
    """
    e, f = split(s, x)
    scale = s.constant(1 / math.log(10), x.dtype)
    high, low = (s.constant(c, x.dtype) for c in LOG10_OF_2[x.dtype])
    whole = e * high  # exact
    part = f * scale
    total = whole + part
    lost = ((whole - total) + part) + s.fma(f, scale, -part)
    return _with_edges(s, x, total + (s.fma(bend(s, f), scale, e * low) + lost))


def log1p(s: ScalarBuilder, x: Scalar) -> Scalar:
    """ln(1 + x), exact near 0. Error: at most 2 ULP.

    With 1 + x = 2ᵉ (1 + f): f = x 2⁻ᵉ + (2⁻ᵉ - 1), where no bit of a small x is lost.
    """
    f = FORMATS[x.dtype]
    exponent = exponent_of(s, x + 1)
    quarter = s.constant(0.25, x.dtype)
    # 2⁻ᵉ may be subnormal, 4 · 2⁻ᵉ is not.
    power = s.bitcast(s.constant(f.one + (2 << f.fraction), f.integer) - exponent, x.dtype)
    rest = less_exponent(s, x, exponent) + s.fma(power, quarter, s.constant(-1, x.dtype))
    e = s.cast(exponent >> f.fraction, x.dtype)
    y = s.copysign(s.fma(e, s.constant(math.log(2), x.dtype), near_one(s, rest)), x)
    y = s.select(x < math.inf, y, x)
    return s.select(x <= -1, s.select(s.eq(x, -1), s.constant(-math.inf, x.dtype), s.constant(math.nan, x.dtype)), y)


def softplus(s: ScalarBuilder, x: Scalar) -> Scalar:
    """ln(1 + eˣ) = max(x, 0) + ln(1 + e^-|x|). Error: at most 2 ULP."""
    return s.maximum(x, s.constant(0, x.dtype)) + log1p(s, finite_exp(s, -s.abs(x)))
