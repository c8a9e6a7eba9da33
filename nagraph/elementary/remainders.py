"""fmod, and what is made of it: the remainder and the quotient of division that rounds down. All exact.

With |x| = a 2^(d + k) and |y| = b 2^k, a and b integers, the rest of x by y is 2^k times that of a 2^d by b. It is
found as in long division, 50 bits of d at a time: r ← r 2^50 - q b, where q may be off by one without harm, for the
rest that follows is an integer that float64 holds.
"""

from __future__ import annotations

import math

from nagraph.elementary.floats import FORMATS
from nagraph.ir.scalar import F32, F64, I32, I64, U64, Scalar, ScalarBuilder

_BITS = 50
#: The most that the exponents of two numbers differ.
_SPAN = {F32: 128 + 149, F64: 1024 + 1074}


def _integer(s: ScalarBuilder, size: Scalar) -> tuple[Scalar, Scalar]:
    """(m, e): size = m 2^(e - 1075), m an integer below 2^53 in float64."""
    bits = s.bitcast(size, I64)
    e, rest = bits >> 52, bits & (1 << 52) - 1
    tiny = s.eq(e, 0)
    return s.cast(s.select(tiny, rest, rest | 1 << 52), F64), s.select(tiny, s.constant(1, I64), e)


def _power_of_two(s: ScalarBuilder, n: Scalar) -> Scalar:
    return s.bitcast(n + FORMATS[F64].bias << 52, F64)


def _rest(s: ScalarBuilder, a: Scalar, b: Scalar, span: int) -> Scalar:
    """a modulo b in float64, for 0 < b <= a, both finite."""
    (r, e), (m, k) = _integer(s, a), _integer(s, b)
    inverse, distance = 1 / m, e - k
    for step in range(2 + -(-span // _BITS)):
        if step >= 2:  # at first, without a shift, r comes below m
            by = s.select(distance < _BITS, distance, s.constant(_BITS, I64))
            r, distance = r * _power_of_two(s, by), distance - by
        r = s.fma(-s.round("rint", r * inverse), m, r)
    r = s.select(r < 0, r + m, r)
    # 2^(k - 1075) may be subnormal; its two factors are not.
    half = k >> 1
    return r * _power_of_two(s, half - 538) * _power_of_two(s, k - half - 537)


def _rest_of_singles(s: ScalarBuilder, a: Scalar, b: Scalar) -> Scalar:
    """a modulo b in float32, for 0 < b <= a, both finite: the same long division in integers, where there is no float64."""

    def integer(size: Scalar) -> tuple[Scalar, Scalar]:
        """(m, e): size = m 2^(e - 150), m an integer below 2^24."""
        bits = s.bitcast(size, I32)
        e, rest = bits >> 23, bits & (1 << 23) - 1
        tiny = s.eq(e, 0)
        return s.cast(s.select(tiny, rest, rest | 1 << 23), U64), s.select(tiny, s.constant(1, I32), e)

    (r, e), (m, k) = integer(a), integer(b)
    m = s.select(s.eq(m, 0), s.constant(1, U64), m)  # of b = 0 the rest is not asked for
    r, distance, most = s.rem(r, m), e - k, 40  # r is below 2^24, so 40 more bits go into 64
    for _ in range(-(-_SPAN[F32] // most)):
        by = s.select(distance < most, distance, s.constant(most, I32))
        by = s.select(by < 0, s.constant(0, I32), by)
        r, distance = s.rem(r << s.cast(by, U64), m), distance - by
    half = k >> 1
    powers = (s.bitcast(n + FORMATS[F32].bias << 23, F32) for n in (half - 75, k - half - 75))
    return s.cast(r, F32) * next(powers) * next(powers)


def fmod(s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
    """x - trunc(x / y) y, with the sign of x; nan if x is infinite or y is 0. Exact."""
    if s.fmods:
        return s.fmod(x, y)
    a, b = s.abs(x), s.abs(y)
    if s.doubles:
        rest = s.cast(_rest(s, s.cast(a, F64), s.cast(b, F64), _SPAN[x.dtype]), x.dtype)
    else:
        rest = _rest_of_singles(s, a, b)
    rest = s.copysign(s.select(a < b, a, rest), x)
    good = (a < math.inf) & (b > 0)  # false for nan in either
    return s.select(good, rest, s.constant(math.nan, x.dtype))


def _down(s: ScalarBuilder, x: Scalar, y: Scalar) -> tuple[Scalar, Scalar]:
    """(fmod, whether the quotient rounded down is one less than that rounded to zero)."""
    rest = fmod(s, x, y)
    return rest, s.ne(rest, 0) & ((rest < 0) ^ (y < 0))


def remainder(s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
    """x - ⌊x / y⌋ y, with the sign of y (Python's %); the sum of fmod and y is rounded."""
    rest, less = _down(s, x, y)
    return s.select(s.eq(rest, 0), s.copysign(rest, y), s.select(less, rest + y, rest))


def floor_divide(s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
    """⌊x / y⌋ (Python's //), computed as NumPy does: from x less its rest, which y divides."""
    rest, less = _down(s, x, y)
    quotient = (x - rest) / y
    quotient = s.select(less, quotient - 1, quotient)
    floor = s.round("floor", quotient)
    floor = s.select(quotient - floor > 0.5, floor + 1, floor)
    whole = s.select(s.eq(quotient, 0), s.copysign(quotient, x / y), floor)
    return s.select(s.eq(y, 0), x / y, whole)
