"""An angle as quarter turns and a rest: |x| = (n + k 4) π/2 + r, |r| <= π/4, right for every finite x.

Up to 2^17 in float32 and 2^46 in float64, n π/2 is taken from |x| in three pieces: Cody and Waite 1980. Beyond, where
it is rarely needed, what counts is the fraction of |x| / 2π, so bits of 1/2π above it can be left out and those far
below it too: Payne and Hanek 1983.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction

from nagraph.elementary.floats import FORMATS
from nagraph.ir.scalar import F32, F64, I32, I64, U32, U64, Scalar, ScalarBuilder
from nagraph.ir.types import DType


def _half_pi(bits: int) -> int:
    """2^bits π/2, by Machin's π/4 = 4 arctan(1/5) - arctan(1/239) in integers; a few bits may be wrong."""
    unit = 1 << bits

    def arctan_of_inverse(n: int) -> int:
        total, power, k = 0, unit // n, 1
        while power:
            total += power // k if k % 4 == 1 else -(power // k)
            power, k = power // (n * n), k + 2
        return total

    return 8 * arctan_of_inverse(5) - 2 * arctan_of_inverse(239)


@functools.cache
def _pieces(dtype: DType) -> list[float]:
    """Three numbers of the dtype whose sum is π/2, each the nearest to what those before leave."""
    left, found = Fraction(_half_pi(256), 1 << 256), []
    for _ in range(3):
        found.append(float(dtype.type(float(left))))
        left -= Fraction(found[-1])
    return found


def _inverse_turn(bits: int) -> int:
    """2^bits / 2π."""
    return (1 << 2 * bits + 64) // (4 * _half_pi(bits + 64))


def _binary(width: int, count: int) -> list[int]:
    """0, and the bits of 1/2π behind the point: words of a width."""
    return [0, *(_inverse_turn(width * k) % (1 << width) for k in range(1, count))]


def _window(s: ScalarBuilder, words: list[int], skip: Scalar, width: int, count: int) -> list[Scalar]:
    """The words' bits from bit `skip` on, as `count` words of the width; skip is an integer of that width."""
    chosen = [s.constant(w, skip.dtype) for w in words]
    whole = width.bit_length() - 1
    for k in reversed(range((len(words) - count - 1).bit_length())):  # skip ..., 4, 2, 1 whole words
        step, needed = 1 << k, count + (1 << k)
        set = s.ne((skip >> whole + k) & 1, 0)
        chosen = [s.select(set, chosen[i + step], chosen[i]) if i + step < len(chosen) else chosen[i] for i in range(needed)]
    shift = skip & width - 1
    rest = (width - 1) - shift
    return [(a << shift) | ((b >> 1) >> rest) for a, b in zip(chosen, chosen[1:])]


def _signed(s: ScalarBuilder, turns: Scalar) -> tuple[Scalar, Scalar]:
    """(n, r) of a fraction of a turn, in units of 2^-64: the nearest quarter, and what is left in those units, signed."""
    quarter = (turns + (1 << 61)) >> 62
    return quarter, s.bitcast(turns - (quarter << 62), I64)


# -- small angles ------------------------------------------------------------------------------------------------


def _small(s: ScalarBuilder, x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """n is |x| / (π/2) rounded."""
    f = FORMATS[x.dtype]
    size = s.abs(x)
    shifted = s.fma(size, s.constant(2 / math.pi, x.dtype), s.constant(f.magic, x.dtype))
    n = shifted - f.magic
    p, q, t = (s.constant(-piece, x.dtype) for piece in _pieces(x.dtype))
    a = s.fma(n, p, size)  # exact: below 1, and no bits below those of its two terms
    b = n * q
    r = a + b
    there = r - a
    lost = (a - (r - there)) + (b - there)  # by the rounding of a + b; fma(n, q, -b) by that of b
    return s.bitcast(shifted, f.integer), r, s.fma(n, t, lost + s.fma(n, q, -b))


# -- float32 ---------------------------------------------------------------------------------------------------

_SINGLE = _binary(32, 8)


def _single(s: ScalarBuilder, x: Scalar, dtype: DType) -> tuple[Scalar, Scalar, Scalar]:
    """|x| = m 2^(e - 150) with an integer m of 24 bits: m times the 96 bits of 1/2π that matter for it."""
    size = s.abs(x)
    bits = s.bitcast(size, U32)
    skip = (bits >> 23) - 118
    m = s.cast((bits & (1 << 23) - 1) | (1 << 23), U64)
    high, middle, low = (m * s.cast(w, U64) for w in _window(s, _SINGLE, skip, 32, 3))
    quarter, rest = _signed(s, (high << 32) + middle + (low >> 32))
    unit = 2 * math.pi * 2.0**-64
    if s.doubles:
        r = s.cast(s.cast(rest, F64) * unit, dtype)
        return s.cast(quarter, I32), r, s.constant(0, dtype)
    high, low = (s.constant(c, F32) for c in (unit, unit - float(F32.type(unit))))
    near = s.cast(rest, F32)
    lost = s.cast(rest - s.cast(near, I64), F32)
    r = near * high
    return s.cast(quarter, I32), r, s.fma(near, high, -r) + s.fma(near, low, lost * high)


# -- float64 ---------------------------------------------------------------------------------------------------

_DOUBLE = _binary(64, 20)
_LOW = (1 << 32) - 1
#: 2π less the number nearest to it.
_TURN_REST = 2.4492935982947064e-16


def _double(s: ScalarBuilder, x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """|x| = m 2^(e - 1075) with an integer m of 53 bits: m times the 192 bits of 1/2π that matter for it."""
    size = s.abs(x)
    bits = s.bitcast(size, U64)
    m = (bits & (1 << 52) - 1) | (1 << 52)
    skip = (bits >> 52) - 1011  # of _DOUBLE
    window = _window(s, _DOUBLE, skip, 64, 3)

    # m times the window modulo 2^192, in digits of 32 bits; v[0] is the highest digit of the window.
    low, high = m & _LOW, m >> 32
    v = [half for w in window for half in (w >> 32, w & _LOW)]
    carry = s.constant(0, U64)
    digits = []
    for k in reversed(range(6)):
        product = low * v[k] + carry  # below 2^64
        carry = product >> 32
        digit = product & _LOW
        if k < 5:
            product = high * v[k + 1] + digit
            carry = carry + (product >> 32)
            digit = product & _LOW
        digits.append(digit)
    *_, d3, d2, d1, d0 = digits
    quarter, signed = _signed(s, d0 << 32 | d1)
    # The three terms are exact, and each is below the last bit of the one before.
    a = s.cast(signed >> 32, F64) * 2.0**-32
    b = s.cast(signed & _LOW, F64) * 2.0**-64
    c = s.cast(s.bitcast(d2 << 21 | d3 >> 11, I64), F64) * 2.0**-117
    top, rest = _two_sum(a, b)
    top, rest = _two_sum(top, rest + c)
    turn = s.constant(2 * math.pi, F64)
    r = top * turn
    tail = s.fma(top, turn, -r) + s.fma(top, s.constant(_TURN_REST, F64), rest * turn)
    return s.bitcast(quarter, I64), r, tail


def _two_sum(a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
    """a + b and what its rounding lost, for |a| >= |b|."""
    total = a + b
    return total, (a - total) + b


def quarter_turns(s: ScalarBuilder, x: Scalar, dtype: DType) -> tuple[Scalar, Scalar, Scalar]:
    """(n, r, tail) of |x|: n counts in its two lowest bits; r + tail is the rest, in float32 or a wider dtype.

    Of infinity and nan they are anything.
    """
    n, r, tail = _small(s, x)
    if x.dtype != dtype:
        r, tail = s.cast(r, dtype) + s.cast(tail, dtype), s.constant(0, dtype)
    large = s.abs(x) >= 2.0**(FORMATS[x.dtype].fraction - 6)
    n, r, tail = s.rarely(large, lambda: _single(s, x, dtype) if x.dtype == F32 else _double(s, x), (n, r, tail))
    return n, r, tail
