"""Fused multiply-adds of machines that have none: x y + z, rounded once, of the machine's additions and multiplications.

Rounding to odd keeps all that a later rounding asks: what is not exact gets an odd last bit. Source: Boldo and Melquiond,
Emulation of a FMA and Correctly Rounded Sums: Proved Algorithms Using Rounding to Odd (2008); Dekker 1971, Knuth 1969.
"""

from __future__ import annotations

from typing import NamedTuple

from nagraph.elementary.floats import FORMATS
from nagraph.ir.scalar import F32, F64, I64, Scalar, ScalarBuilder

_FORMAT = FORMATS[F64]
#: Beyond this exponent of z against that of x y, x y only decides how z is rounded; below the other one, z how x y is.
_HIGHEST, _LOWEST = 120, -170
#: Powers of two outside of these make any sum here infinite, or round it to zero.
_LARGEST_POWER, _SMALLEST_POWER = 1400, -1374
#: The exponents of the least subnormal and of the least normal number.
_LEAST, _NORMAL = -1074, -1022


def fused_multiply_add(s: ScalarBuilder, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
    """x y + z of float32 or float64, as the instruction that rounds once gives it, subnormal, infinite and nan results included."""
    return _single(s, x, y, z) if x.dtype == F32 else _double(s, x, y, z)


def _single(s: ScalarBuilder, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
    """In float64 the product is exact and nothing leaves the range, so the sum alone is rounded, to odd, and then to float32."""
    wide = _sum_to_odd(s, s.cast(x, F64) * s.cast(y, F64), s.cast(z, F64))
    return s.cast(wide, F32)


def _double(s: ScalarBuilder, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
    """The factors and z are scaled to where nothing can leave the range; the sum of three parts is rounded where its last bit will be."""
    a, b, c = (_scaled(s, v) for v in (x, y, z))
    power = a.exponent + b.exponent
    distance = _between(s, c.exponent - power, _LOWEST, _HIGHEST)
    power = _between(s, s.select(s.eq(distance, _HIGHEST), c.exponent - _HIGHEST, power), _SMALLEST_POWER, _LARGEST_POWER)
    product, below = _product(s, a.number, b.number)
    middle, lowest = _sum(s, c.number * _power_of_two(s, distance), below)
    high, rest = _sum(s, product, middle)
    low = _sum_to_odd(s, rest, lowest)
    rounded = high + low
    small = (_exponent(s, rounded) + power) < _NORMAL
    rounded = s.select(small, _rounded_at(s, high, low, rounded, s.constant(_LEAST, I64) - power), rounded)
    half = power >> 1
    result = rounded * _power_of_two(s, half) * _power_of_two(s, power - half)
    # Of zeros, infinities and nan the machine's own operations make what they should; a finite product leaves an infinite z as it is.
    plain = x * y
    finite = _finite(s, x) & _finite(s, y)
    result = s.select(s.eq(z, 0), plain, result)
    result = s.select(s.eq(x, 0) | s.eq(y, 0) | ~finite, plain + z, result)
    return s.select(finite & ~_finite(s, z), z, result)


def _finite(s: ScalarBuilder, x: Scalar) -> Scalar:
    return s.abs(x) < float("inf")


class _Scaled(NamedTuple):
    """A float64 as number · 2^exponent; number has the sign, and lies in [1, 2) without it."""

    number: Scalar
    exponent: Scalar


def _scaled(s: ScalarBuilder, x: Scalar) -> _Scaled:
    """x, which must be finite and not zero."""
    subnormal = s.abs(x) < 2.0**-1022
    normal = s.select(subnormal, x * 2.0**54, x)
    exponent = _exponent(s, normal)
    bits = s.bitcast(normal, I64) - (exponent << _FORMAT.fraction)
    return _Scaled(s.bitcast(bits, F64), s.select(subnormal, exponent - 54, exponent))


def _exponent(s: ScalarBuilder, x: Scalar) -> Scalar:
    """The exponent of a normal number; of zero and subnormal ones, a lower one than any normal number has."""
    return ((s.bitcast(x, I64) >> _FORMAT.fraction) & 0x7FF) - _FORMAT.bias


def _power_of_two(s: ScalarBuilder, n: Scalar) -> Scalar:
    """2ⁿ, -1022 <= n <= 1023."""
    return s.bitcast((n + _FORMAT.bias) << _FORMAT.fraction, F64)


def _between(s: ScalarBuilder, n: Scalar, least: int, most: int) -> Scalar:
    n = s.select(n < least, s.constant(least, n.dtype), n)
    return s.select(n > most, s.constant(most, n.dtype), n)


def _sum(s: ScalarBuilder, a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
    """a + b rounded, and what that is off."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _product(s: ScalarBuilder, a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
    """a b rounded, and what that is off, of numbers in [1, 2)."""
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    total = a * b
    return total, ((a_high * b_high - total) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(a: Scalar) -> tuple[Scalar, Scalar]:
    """Two numbers of 26 bits whose sum is a."""
    far = a * (2.0**27 + 1)
    high = far - (far - a)
    return high, a - high


def _sum_to_odd(s: ScalarBuilder, a: Scalar, b: Scalar) -> Scalar:
    """a + b of float64, rounded to odd: a sum that is not exact is cut off towards zero, and its last bit set."""
    total, off = _sum(s, a, b)
    bits = s.bitcast(total, I64)
    beyond = (bits ^ s.bitcast(off, I64)) >> 63  # -1 where rounding went away from zero
    odd = s.bitcast((bits + beyond) | 1, F64)
    return s.select(s.abs(off) > 0, odd, total)


def _rounded_at(s: ScalarBuilder, high: Scalar, low: Scalar, rounded: Scalar, place: Scalar) -> Scalar:
    """high + low, with the sign of `rounded`, as a multiple of 2^place: beyond 2^(place + 52), which is added, no sum has finer bits."""
    large = s.copysign(_power_of_two(s, place + _FORMAT.fraction), rounded)
    top, below = _sum(s, large, high)
    return s.copysign((top + _sum_to_odd(s, below, low)) - large, rounded)
